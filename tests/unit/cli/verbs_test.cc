// SPDX-License-Identifier: Apache-2.0
// The verbs as a whole: help, mistakes and exit statuses, told by the process's own descriptors.
#include "cli/verbs.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <unistd.h>

#include <set>

#include "base/text.h"
#include "sys/file.h"

namespace skink::cli {
namespace {

using testing::EndsWith;
using testing::HasSubstr;
using testing::StartsWith;

struct Said {
  int status = 0;
  std::string out, err;
};

std::string text_of(int fd) {
  ::lseek(fd, 0, SEEK_SET);
  auto text = sys::read_all(fd, 1 << 20, "output");
  return text ? *text : "";
}

// Runs a verb with descriptors 1 and 2 in memory for as long as it takes.
Said say(const char* name, std::vector<const char*> args) {
  const UniqueFd out(::memfd_create("out", MFD_CLOEXEC)), err(::memfd_create("err", MFD_CLOEXEC));
  const UniqueFd old_out = *sys::dup_fd(1, 3), old_err = *sys::dup_fd(2, 3);
  ::dup2(out.get(), 1);
  ::dup2(err.get(), 2);
  Said said;
  const Verb* verb = find_verb(name);
  Context context({"/nonexistent/store", "/nonexistent/run"}, verb);
  said.status = verb->run(context, args);
  ::dup2(old_out.get(), 1);
  ::dup2(old_err.get(), 2);
  said.out = text_of(out.get());
  said.err = text_of(err.get());
  return said;
}

TEST(Verbs, HaveNamesOfTheirOwn) {
  std::set<std::string_view> names;
  for (const Verb* verb : all_verbs()) EXPECT_TRUE(names.insert(verb->name).second) << verb->name;
  EXPECT_EQ(find_verb("fly"), nullptr);
}

TEST(Verbs, AllHaveHelpThatFitsATerminal) {
  for (const Verb* verb : all_verbs()) {
    const Said said = say(verb->name, {"--help"});

    EXPECT_EQ(said.status, 0) << verb->name;
    EXPECT_EQ(said.err, "");
    EXPECT_THAT(said.out, StartsWith(str("Usage: skink ", verb->name)));
    EXPECT_THAT(said.out, HasSubstr("Exit status:"));
    for (const auto line : split(said.out, '\n')) EXPECT_LE(line.size(), 112u) << verb->name << ": " << line;
  }
}

TEST(Verbs, AMistakeIsOneLineThatNamesTheHelp) {
  for (const Verb* verb : all_verbs()) {
    const Said said = say(verb->name, {"--no-such-option"});

    EXPECT_EQ(said.status, verb->misuse_status) << verb->name;
    EXPECT_EQ(said.out, "");
    EXPECT_EQ(said.err,
              str("skink: ", verb->name, ": unknown option --no-such-option; see skink ", verb->name, " --help\n"));
  }
}

TEST(Verbs, ThatTakeTheProgramsStatusMisuseWith125) {
  for (const char* name : {"run", "create", "start", "exec"}) EXPECT_EQ(find_verb(name)->misuse_status, 125) << name;
  EXPECT_EQ(find_verb("ps")->misuse_status, 1);
}

TEST(Verbs, MissOperands) {
  EXPECT_THAT(say("run", {}).err, HasSubstr("IMAGE or FILE.tar is missing"));
  EXPECT_THAT(say("exec", {}).err, HasSubstr("CONTAINER is missing"));
  EXPECT_THAT(say("exec", {"web"}).err, HasSubstr("the program to run is missing"));
  EXPECT_THAT(say("stop", {}).err, HasSubstr("CONTAINER is missing"));
  EXPECT_THAT(say("tag", {"a"}).err, HasSubstr("is missing"));
  EXPECT_THAT(say("top", {}).err, HasSubstr("CONTAINER is missing"));
  EXPECT_THAT(say("ps", {"extra"}).err, HasSubstr("unexpected argument \"extra\""));
}

TEST(Verbs, WhatIsNotThereYetTellsItsOwnWayOut) {
  const Said said = say("run", {"-p", "80:80", "web"});

  EXPECT_EQ(said.status, 125);
  EXPECT_THAT(said.err, HasSubstr("--network host"));
  EXPECT_THAT(said.err, testing::Not(HasSubstr("--help")));
}

TEST(Verbs, ForeignBytesAreMadePrintable) {
  const Said said = say("ps", {"--filter", "status=\x1b[2J\nx"});

  EXPECT_EQ(said.err,
            "skink: ps: --filter: \"\\x1b[2J\\x0ax\" is not a state: created, running, paused, restarting, exited, "
            "unknown or "
            "corrupt; see skink ps --help\n");
}

TEST(Verbs, AnIntervalHasBounds) {
  EXPECT_THAT(say("stats", {"--interval", "99ms"}).err, HasSubstr("--interval: \"99ms\" is not from 100ms to 24h"));
  EXPECT_THAT(say("stats", {"--interval", "25h"}).err, HasSubstr("is not from 100ms to 24h"));
}

TEST(Verbs, PsOptionsThatAreNotKnownTellTheWayOut) {
  EXPECT_EQ(say("top", {"web", "Hp"}).err,
            "skink: top: \"Hp\" is an option of ps that is not known here; choose columns with -o, or use --format "
            "json\n");
}

TEST(Verbs, VersionNeedsNoStore) {
  const Said said = say("version", {"--format", "{{.version}} {{.spec}}"});

  EXPECT_EQ(said.status, 0);
  EXPECT_EQ(said.out, str(SKINK_VERSION, " ", oci::kSpecVersion, "\n"));
}

TEST(Output, AReaderThatWentAwayIsNoFailure) {
  int ends[2] = {-1, -1};
  ASSERT_EQ(::pipe2(ends, O_CLOEXEC), 0);
  const UniqueFd write_end(ends[1]);
  ::close(ends[0]);
  ::signal(SIGPIPE, SIG_IGN);
  Output output(write_end.get());

  output.print("nobody reads this\n");

  EXPECT_FALSE(output.trouble());
  EXPECT_TRUE(output.is_done());
}

TEST(Output, ADiskThatIsFullIsKeptAsTrouble) {
  const UniqueFd full(::open("/dev/full", O_WRONLY | O_CLOEXEC));
  Output output(full.get());

  output.print("nowhere to go\n");

  ASSERT_TRUE(output.trouble());
  EXPECT_THAT(output.trouble()->text(), EndsWith("No space left on device"));
}

}  // namespace
}  // namespace skink::cli
