// SPDX-License-Identifier: Apache-2.0
#include "fs/dir.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <chrono>
#include <cstdlib>
#include <thread>

namespace skink::fs {
namespace {

using testing::HasSubstr;

class Directory : public testing::Test {
 protected:
  void SetUp() override {
    char name[] = "/tmp/skink-fs-XXXXXX";
    ASSERT_NE(::mkdtemp(name), nullptr);
    path_ = name;
    dir_ = *sys::open_at(AT_FDCWD, name, O_RDONLY | O_DIRECTORY);
  }
  void TearDown() override { ASSERT_TRUE(remove_tree(AT_FDCWD, path_.c_str())); }
  void write(const std::string& name, std::string_view text) const {
    ASSERT_TRUE(write_file_atomic(dir_.get(), name.c_str(), text, 0600));
  }
  std::string read(const char* name) const { return read_file(dir_.get(), name, 1 << 20).value_or("?"); }
  [[nodiscard]] bool exists(const char* name) const {
    return sys::stat_at(dir_.get(), name, AT_SYMLINK_NOFOLLOW).has_value();
  }
  std::string path_;
  UniqueFd dir_;
};

TEST_F(Directory, AnAtomicWriteReplacesTheWholeFileAndLeavesNothingElse) {
  write("f", "a long first text");
  write("f", "short");

  EXPECT_EQ(read("f"), "short");
  EXPECT_EQ(list(dir_.get())->size(), 1U);
}

TEST_F(Directory, AnAtomicWriteThatFailsLeavesTheOldFile) {
  ASSERT_EQ(::mkdirat(dir_.get(), "d", 0700), 0);

  const auto written = write_file_atomic(dir_.get(), "d", "text", 0600);

  ASSERT_FALSE(written);
  EXPECT_EQ(list(dir_.get())->size(), 1U) << "the temporary file is still there";
}

TEST_F(Directory, ReadsOnlyRegularFilesOfABoundedSize) {
  write("f", "12345");
  ASSERT_EQ(::symlinkat("f", dir_.get(), "link"), 0);
  ASSERT_EQ(::mkfifoat(dir_.get(), "fifo", 0600), 0);

  EXPECT_FALSE(read_file(dir_.get(), "link", 10));
  EXPECT_THAT(read_file(dir_.get(), "fifo", 10).error().text(), HasSubstr("not a regular file"));
  EXPECT_THAT(read_file(dir_.get(), "f", 4).error().text(), HasSubstr("larger than the 4 bytes allowed"));
}

TEST_F(Directory, RemoveTreeTakesLinksAwayAndNotWhatTheyPointTo) {
  write("kept", "x");
  ASSERT_EQ(::mkdirat(dir_.get(), "tree", 0700), 0);
  ASSERT_EQ(::symlinkat("..", dir_.get(), "tree/up"), 0);
  ASSERT_EQ(::symlinkat("../kept", dir_.get(), "tree/file"), 0);

  ASSERT_TRUE(remove_tree(dir_.get(), "tree"));

  EXPECT_FALSE(exists("tree"));
  EXPECT_EQ(read("kept"), "x");
}

TEST_F(Directory, RemoveTreeGoesDeeperThanThereAreDescriptors) {
  ASSERT_EQ(::mkdirat(dir_.get(), "deep", 0700), 0);
  UniqueFd at = *sys::open_at(dir_.get(), "deep", O_RDONLY | O_DIRECTORY);
  for (int i = 0; i < 3000; ++i) {
    ASSERT_EQ(::mkdirat(at.get(), "d", 0700), 0);
    at = *sys::open_at(at.get(), "d", O_RDONLY | O_DIRECTORY);
  }
  at.reset();
  rlimit before{};
  ASSERT_EQ(::getrlimit(RLIMIT_NOFILE, &before), 0);
  const rlimit few{128, before.rlim_max};
  ASSERT_EQ(::setrlimit(RLIMIT_NOFILE, &few), 0);

  const auto removed = remove_tree(dir_.get(), "deep");

  ASSERT_EQ(::setrlimit(RLIMIT_NOFILE, &before), 0);
  ASSERT_TRUE(removed) << removed.error().text();
  EXPECT_FALSE(exists("deep"));
}

TEST_F(Directory, RemoveTreeOfNothingIsSuccess) { EXPECT_TRUE(remove_tree(dir_.get(), "nothing")); }

TEST_F(Directory, MakeDirInRootStaysInside) {
  ASSERT_EQ(::mkdirat(dir_.get(), "root", 0755), 0);
  ASSERT_EQ(::symlinkat("../../../..", dir_.get(), "root/out"), 0);
  const UniqueFd root = *sys::open_at(dir_.get(), "root", O_PATH | O_DIRECTORY);

  ASSERT_TRUE(make_dir_in_root(root.get(), "/out/made/here", 0755));

  EXPECT_TRUE(exists("root/made/here"));
  EXPECT_FALSE(exists("made"));
}

TEST_F(Directory, ALockIsHeldUntilItsOwnerGoes) {
  const auto open_it = [&] { return *sys::open_at(dir_.get(), ".", O_RDONLY | O_DIRECTORY); };
  {
    const auto held = Lock::take(open_it(), Lock::Mode::exclusive, "x");
    EXPECT_EQ(Lock::try_take(open_it(), Lock::Mode::exclusive, "x").error().code(), Code::busy);
  }
  EXPECT_TRUE(Lock::try_take(open_it(), Lock::Mode::exclusive, "x"));
}

TEST_F(Directory, ALockIsWaitedForNoLongerThanSaid) {
  constexpr std::int64_t kShort = 20'000'000, kLong = 60'000'000'000;
  const auto open_it = [&] { return *sys::open_at(dir_.get(), ".", O_RDONLY | O_DIRECTORY); };
  auto held = Lock::take(open_it(), Lock::Mode::exclusive, "x");
  EXPECT_EQ(Lock::take_within(kShort, open_it(), Lock::Mode::exclusive, "x").error().code(), Code::busy);
  std::thread other([&] {
    std::this_thread::sleep_for(std::chrono::milliseconds(20));
    held = Error::make(Code::internal, "given back");
  });
  EXPECT_TRUE(Lock::take_within(kLong, open_it(), Lock::Mode::exclusive, "x"));
  other.join();
}

TEST(Rfc3339, RoundTrips) {
  const std::int64_t at = 1'763'870'063'097'755'213;

  EXPECT_EQ(parse_rfc3339(rfc3339(at)), at);
  EXPECT_EQ(rfc3339(0), "1970-01-01T00:00:00.000000000Z");
  EXPECT_EQ(parse_rfc3339("2026-11-23T05:00:00+02:00"), parse_rfc3339("2026-11-23T03:00:00Z"));
  for (const char* bad :
       {"", "2026", "2026-11-23", "2026-13-01T00:00:00Z", "2026-11-23T03:00:00", "2026-11-23T03:00:00.Z"})
    EXPECT_FALSE(parse_rfc3339(bad).has_value()) << bad;
  // Days that there are not, zones that there are not, and what 64 bits of nanoseconds cannot say.
  for (const char* bad :
       {"2026-02-31T00:00:00Z", "2026-01-01T00:00:00+99:99", "9999-12-31T23:59:59Z", "0001-01-01T00:00:00Z"})
    EXPECT_FALSE(parse_rfc3339(bad).has_value()) << bad;
  EXPECT_TRUE(parse_rfc3339("2261-12-31T23:59:59Z").has_value());
}

}  // namespace
}  // namespace skink::fs
