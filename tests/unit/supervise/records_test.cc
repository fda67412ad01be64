// SPDX-License-Identifier: Apache-2.0
#include "supervise/records.h"

#include <fcntl.h>
#include <gtest/gtest.h>

#include <csignal>

#include "supervise/exits.h"
#include "supervise/status.h"
#include "temp_dir.h"

namespace skink::supervise {
namespace {

Container example() {
  Container c;
  c.id = std::string(64, 'a');
  c.name = "web";
  c.image = "nginx:1";
  c.command = {"nginx", "-g", "daemon off;"};
  c.labels = {{"k", "v\n\"x\""}};
  c.created_ns = 1234567890123456789;
  c.restart = parse_restart_policy("on-failure:7").value();
  c.stop_signal = 3;
  c.dns = {"9.9.9.9"};
  c.tty = true;
  c.starter = {7, 1234567, "boot"};
  return c;
}

TEST(NameLink, FitsIntoAnInodeAndComesBack) {
  for (const char digit : std::string_view("0123456789abcdef")) {
    std::string id(64, digit);
    id[5] = '7';
    const std::string target = name_target(id);

    EXPECT_LE(target.size(), 59U);
    EXPECT_EQ(id_of_target(target), id);
  }
}

TEST(NameLink, OfAnythingElseNamesNoContainer) {
  for (const std::string target : {"", "../../etc/passwd", "AAAA"}) EXPECT_FALSE(id_of_target(target)) << target;
  EXPECT_FALSE(id_of_target(std::string(64, 'a')));
  EXPECT_FALSE(id_of_target(std::string(42, 'A') + "/"));
}

TEST(ContainerRecord, ComesBackAsItWasWritten) {
  const auto back = parse_container(dump(example()));

  ASSERT_TRUE(back) << back.error().text();
  EXPECT_EQ(dump(*back), dump(example()));
  EXPECT_EQ(to_text(back->restart), "on-failure:7");
}

TEST(ContainerRecord, EveryTruncationIsRefusedAndNoneCrashes) {
  const std::string whole = dump(example());

  for (std::size_t length = 0; length < whole.size(); ++length)
    EXPECT_FALSE(parse_container(std::string_view(whole).substr(0, length))) << length;
}

TEST(ContainerRecord, OfAnotherContainerIsCorrupt) {
  const TempDir dir;
  ASSERT_TRUE(fs::write_file_atomic(dir.fd(), kContainerFile, dump(example()), 0600));

  const auto other = read_container(dir.fd(), std::string(64, 'b'));

  ASSERT_FALSE(other);
  EXPECT_EQ(other.error().code(), Code::corrupt);
}

TEST(ContainerRecord, ThatIsAFifoIsNotWaitedFor) {
  const TempDir dir;
  ASSERT_EQ(::mkfifoat(dir.fd(), kContainerFile, 0600), 0);

  EXPECT_FALSE(read_container(dir.fd(), std::string(64, 'a')));
}

TEST(ContainerName, IsOfPlainCharactersAndNoOption) {
  for (const std::string_view name : {"a", "web-1", "A.b_c+d", "0"}) EXPECT_TRUE(is_name(name)) << name;
  for (const std::string& name :
       {std::string(), std::string("../x"), std::string("."), std::string(".."), std::string("-rf"), std::string("a/b"),
        std::string(256, 'a'), std::string("a\nb"), std::string("a\0b", 3)})
    EXPECT_FALSE(is_name(name)) << name;
}

TEST(Wish, IsStoppedUntilItIsRecorded) {
  const TempDir dir;

  EXPECT_FALSE(wants_running(dir.fd()));
  ASSERT_TRUE(record_wish(dir.fd(), true, false));
  EXPECT_TRUE(wants_running(dir.fd()));
  ASSERT_TRUE(record_wish(dir.fd(), false, true));
  EXPECT_FALSE(wants_running(dir.fd()));
}

TEST(Wish, CountsOrdersAndKnowsTheBootOfAStop) {
  const TempDir dir;
  EXPECT_EQ(read_wish(dir.fd()).order, 0u);

  ASSERT_TRUE(record_wish(dir.fd(), true, false));
  ASSERT_TRUE(record_wish(dir.fd(), true, false));
  EXPECT_EQ(read_wish(dir.fd()).order, 2u);

  ASSERT_TRUE(record_wish(dir.fd(), false, false));
  EXPECT_EQ(read_wish(dir.fd()).order, 2u);
  EXPECT_EQ(read_wish(dir.fd()).stopped_boot, sys::boot_id().value());
}

TEST(Wish, IsTakenBackWhenTheOrderCameToNothing) {
  const TempDir dir;
  ASSERT_TRUE(record_wish(dir.fd(), true, false));
  ASSERT_TRUE(restore_wish(dir.fd(), "", false));
  EXPECT_EQ(read_wish(dir.fd()).order, 0u);

  ASSERT_TRUE(restore_wish(dir.fd(), "stopped 7 some-boot\n", false));

  EXPECT_FALSE(wants_running(dir.fd()));
  EXPECT_EQ(read_wish(dir.fd()).order, 7u);
  EXPECT_EQ(read_wish(dir.fd()).stopped_boot, "some-boot");
}

TEST(Wish, ABootIsToldByItsIdAndByTheStartOfProcessOne) {
  const std::string boot = sys::boot_id().value();
  const std::uint64_t init = sys::start_time(1).value();
  const auto was_stopped = [](const std::string& text) {
    const TempDir dir;
    EXPECT_TRUE(restore_wish(dir.fd(), text, false));
    return was_stopped_in_this_boot(read_wish(dir.fd()));
  };

  EXPECT_TRUE(was_stopped(str("stopped 7 ", boot, ' ', init, '\n')));
  EXPECT_TRUE(was_stopped(str("stopped 7 ", boot, '\n'))) << "as a former version wrote it";
  EXPECT_EQ(was_stopped(str("stopped 7 ", boot, ' ', init + 1, '\n')), init == 0);
  EXPECT_FALSE(was_stopped(str("stopped 7 some-boot ", init, '\n')));
  EXPECT_FALSE(was_stopped("running 7\n"));
}

TEST(Wish, OfAnOlderSkinkIsUnderstood) {
  const TempDir dir;
  ASSERT_TRUE(restore_wish(dir.fd(), "running\n", false));

  EXPECT_TRUE(wants_running(dir.fd()));
  EXPECT_EQ(read_wish(dir.fd()).order, 1u);
}

TEST(CutOff, IsWhatShouldRunAndHasNoFinalRecord) {
  const TempDir dir;
  const auto record = [&](std::uint64_t order, bool final) {
    RunRecord run;
    run.order = order;
    run.final = final;
    ASSERT_TRUE(fs::write_file_atomic(dir.fd(), kExitFile, dump(run), 0600));
  };
  EXPECT_FALSE(was_cut_off(dir.fd()));

  ASSERT_TRUE(record_wish(dir.fd(), true, false));
  EXPECT_TRUE(was_cut_off(dir.fd()));
  record(1, false);  // a relaunch
  EXPECT_TRUE(was_cut_off(dir.fd()));
  record(1, true);
  EXPECT_FALSE(was_cut_off(dir.fd()));

  ASSERT_TRUE(record_wish(dir.fd(), true, false));
  EXPECT_TRUE(was_cut_off(dir.fd()));  // the record is of the order before
  ASSERT_TRUE(record_wish(dir.fd(), false, false));
  EXPECT_FALSE(was_cut_off(dir.fd()));
}

TEST(Alive, IsWhoHoldsTheLockAndAskingDoesNotTakeIt) {
  const TempDir dir;
  const auto file = sys::open_at(dir.fd(), kAliveFile, O_RDWR | O_CREAT, 0600).value();
  EXPECT_FALSE(is_alive(dir.fd()));
  struct flock lock {};
  lock.l_type = F_WRLCK;

  ASSERT_EQ(::fcntl(file.get(), F_OFD_SETLK, &lock), 0);

  EXPECT_TRUE(is_alive(dir.fd()));
  EXPECT_TRUE(is_alive(dir.fd()));
}

TEST(StatusRecord, ComesBackAsItWasWritten) {
  Status status;
  status.boot_id = sys::boot_id().value();
  status.step = Step::waiting;
  status.stop_wanted = true;
  status.init = {42, 4711, status.boot_id};
  status.restarts = 3;
  status.last_exit = LastExit{.status = 137, .signal = 9, .oom = true};
  status.execs = {{{43, 4712, status.boot_id}, 64}};

  const auto back = parse_status(dump(status));

  ASSERT_TRUE(back) << back.error().text();
  EXPECT_EQ(dump(*back), dump(status));
  EXPECT_EQ(back->execs.at(0).identity.start_time, 4712U);
}

TEST(StatusRecord, OfAnotherBootIsNone) {
  const TempDir dir;
  Status status;
  status.boot_id = "00000000-0000-0000-0000-000000000000";
  status.init = {1, 1, status.boot_id};
  ASSERT_TRUE(fs::write_file_atomic(dir.fd(), kStatusFile, dump(status), 0600));

  const auto read = read_status(dir.fd());

  ASSERT_FALSE(read);
  EXPECT_EQ(read.error().code(), Code::not_found);
}

TEST(Exits, AreFoundFromTheGivenPlaceOn) {
  const TempDir dir;
  const auto file = sys::open_at(dir.fd(), kExitsFile, O_RDWR | O_CREAT | O_APPEND, 0600).value();
  const auto add = [&](int pid, int code, int status) {
    const ExitRecord record{pid, code, status, kExitMagic, 1, 2};
    ASSERT_TRUE(sys::write_all(file.get(), {reinterpret_cast<const char*>(&record), sizeof record}, "exits"));
  };
  add(7, CLD_EXITED, 1);
  add(8, CLD_KILLED, 9);
  const auto from = exits_end(file.get()).value();
  add(7, CLD_EXITED, 2);

  EXPECT_EQ(find_exit(file.get(), 7, 0).value()->status, 1);
  EXPECT_EQ(find_exit(file.get(), 7, from).value()->status, 2);
  EXPECT_FALSE(find_exit(file.get(), 8, from).value());
  EXPECT_EQ(last_exit_of(*find_exit(file.get(), 8, 0).value()).status, 137);
}

// Records on disks have left these out: to change one changes containers that are there.
TEST(ContainerRecord, WhatIsLeftOutMeansWhatItAlwaysDid) {
  const auto container =
      parse_container(R"({"format":1,"id":")" + std::string(64, 'a') + R"(","name":"n","restart":{}})");

  ASSERT_TRUE(container) << container.error().text();
  EXPECT_EQ(container->restart.kind, RestartPolicy::Kind::no);
  EXPECT_EQ(container->restart.first_delay_ns, 100'000'000);
  EXPECT_EQ(container->restart.longest_delay_ns, 60'000'000'000);
  EXPECT_EQ(container->restart.factor, 2.0);
  EXPECT_EQ(container->restart.reset_after_ns, 10'000'000'000);
  EXPECT_EQ(container->restart.jitter, 0.1);
  EXPECT_EQ(container->stop_signal, SIGTERM);
  EXPECT_EQ(container->stop_timeout_ns, 10'000'000'000);
  EXPECT_TRUE(container->durable);
  EXPECT_FALSE(container->tty || container->writable || container->remove_at_end || container->default_seccomp);
}

}  // namespace
}  // namespace skink::supervise
