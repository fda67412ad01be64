// SPDX-License-Identifier: Apache-2.0
// --env, --env-file, and points in time.
#include "cli/environment.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <map>

#include "cli/archive_name.h"
#include "cli/hints.h"
#include "cli/times.h"

namespace skink::cli {
namespace {

using testing::ElementsAre;

Surroundings outside(std::map<std::string, std::string> files = {}) {
  Surroundings made;
  made.variable = [](const std::string& name) -> std::optional<std::string> {
    if (name == "HOME") return "/root";
    return std::nullopt;
  };
  made.read_file = [files](const std::string& path) -> Result<std::string> {
    const auto found = files.find(path);
    if (found == files.end()) return Error::from_errno(2, "openat ", path);
    return found->second;
  };
  made.working_dir = "/where";
  return made;
}

TEST(Environment, ABareNameTakesTheValueOutside) {
  EXPECT_THAT(*merge_environment({}, {"A=1", "HOME", "NOT_SET", "B="}, outside()),
              ElementsAre("A=1", "HOME=/root", "B="));
}

TEST(Environment, OptionsComeAfterFilesAndSoWin) {
  const auto merged = merge_environment({"f"}, {"A=2"}, outside({{"f", "# comment\n\nA=1\r\n  HOME\nC=x y # z\n"}}));

  EXPECT_THAT(*merged, ElementsAre("A=1", "HOME=/root", "C=x y # z", "A=2"));
}

TEST(Environment, MistakesNameOptionFileAndLine) {
  EXPECT_EQ(merge_environment({"f"}, {}, outside({{"f", "A=1\nB C=2\n"}})).error().text(),
            "--env-file: f:2: \"B C=2\": expected NAME=VALUE with no space in the name");
  EXPECT_EQ(merge_environment({"f"}, {}, outside()).error().text(), "--env-file: openat f: No such file or directory");
}

TEST(Environment, RelativePathsStartAtTheWorkingDirectory) {
  EXPECT_EQ(absolute_path("/a", outside()), "/a");
  EXPECT_EQ(absolute_path("a/b", outside()), "/where/a/b");
}

TEST(Times, AreReadInAllFormsOfDocker) {
  constexpr std::int64_t kInstant = 1'000'000'000'000;
  EXPECT_EQ(*parse_time("10m", kInstant), kInstant - 600'000'000'000);
  EXPECT_EQ(*parse_time("5", kInstant), 5'000'000'000);
  EXPECT_EQ(*parse_time("5.25", kInstant), 5'250'000'000);
  EXPECT_FALSE(parse_time("yesterday", kInstant));
  EXPECT_FALSE(parse_time("", kInstant));
  EXPECT_FALSE(parse_time("-5", kInstant));
  EXPECT_FALSE(parse_time("99999999999999999999", kInstant));
}

TEST(Archives, AreToldFromNamesOfImages) {
  EXPECT_FALSE(*names_archive("web"));
  EXPECT_FALSE(*names_archive("registry:5000/web:1"));
  EXPECT_FALSE(*names_archive("library/web"));
  EXPECT_TRUE(*names_archive("/dev/null"));
  EXPECT_EQ(names_archive("nope.tar").error().text(), "nope.tar: No such file or directory");
  EXPECT_FALSE(names_archive("./nope"));
  EXPECT_NE(names_archive("/tmp").error().text().find("--bundle"), std::string::npos);
}

TEST(Hints, AWriteToTheReadOnlyRootIsToldFromOtherFailures) {
  EXPECT_TRUE(tells_of_read_only_root("sh: can't create /etc/x: Read-only file system\n"));
  EXPECT_TRUE(tells_of_read_only_root("Error: EROFS: read-only file system, open '/x'\n"));
  EXPECT_TRUE(tells_of_read_only_root("OSError: [Errno 30] Read-only file system: '/x'\n"));
  EXPECT_FALSE(tells_of_read_only_root("sh: can't create /etc/x: Permission denied\n"));
  EXPECT_FALSE(tells_of_read_only_root(""));
}

}  // namespace
}  // namespace skink::cli
