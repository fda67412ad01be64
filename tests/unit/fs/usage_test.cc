// SPDX-License-Identifier: Apache-2.0
#include "fs/usage.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstdlib>
#include <string>

#include "fs/dir.h"

namespace skink::fs {
namespace {

class DiskUsage : public testing::Test {
 protected:
  void SetUp() override {
    char name[] = "/var/tmp/skink-usage-test-XXXXXX";
    ASSERT_NE(::mkdtemp(name), nullptr);
    top_ = name;
    dir_ = UniqueFd(::open(name, O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  }
  void TearDown() override { EXPECT_TRUE(remove_tree(AT_FDCWD, top_.c_str())); }
  // In the directory `dir`, "." for the top.
  void write(const char* dir, const char* name, std::size_t size) {
    const UniqueFd into(::openat(dir_.get(), dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    ASSERT_TRUE(write_file_atomic(into.get(), name, std::string(size, 'x'), 0600, Durability::durable));
  }
  std::int64_t blocks(const char* name) {
    struct stat status {};
    EXPECT_EQ(::fstatat(dir_.get(), name, &status, AT_SYMLINK_NOFOLLOW), 0);
    return std::int64_t{status.st_blocks} * 512;
  }
  std::string top_;
  UniqueFd dir_;
};

TEST_F(DiskUsage, AFileOfTwoNamesCountsOnceAndALinkForItself) {
  write(".", "a", 100'000);
  ASSERT_EQ(::linkat(dir_.get(), "a", dir_.get(), "b", 0), 0);
  ASSERT_EQ(::symlinkat("/usr", dir_.get(), "c"), 0);
  ASSERT_EQ(::mkdirat(dir_.get(), "d", 0700), 0);
  write("d", "e", 50'000);

  EXPECT_EQ(*disk_usage(dir_.get(), "."), blocks(".") + blocks("a") + blocks("c") + blocks("d") + blocks("d/e"));
  EXPECT_GE(*disk_usage(dir_.get(), "a"), 100'000);
}

TEST_F(DiskUsage, NothingThereIsNothing) { EXPECT_EQ(*disk_usage(dir_.get(), "none"), 0); }

}  // namespace
}  // namespace skink::fs
