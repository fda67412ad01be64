// SPDX-License-Identifier: Apache-2.0
#include "base/unique_fd.h"

#include <fcntl.h>
#include <gtest/gtest.h>

namespace skink {
namespace {

bool is_open(int fd) { return ::fcntl(fd, F_GETFD) >= 0; }
UniqueFd some_fd() { return UniqueFd(::open("/dev/null", O_RDONLY | O_CLOEXEC)); }

TEST(UniqueFd, ClosesAtTheEndOfItsLife) {
  int number = -1;
  {
    const UniqueFd fd = some_fd();
    number = fd.get();
    EXPECT_TRUE(is_open(number));
  }
  EXPECT_FALSE(is_open(number));
}

TEST(UniqueFd, MoveAssignmentClosesWhatWasHeld) {
  UniqueFd kept = some_fd();
  UniqueFd taken = some_fd();
  const int old = kept.get();
  const int number = taken.get();

  kept = std::move(taken);

  EXPECT_FALSE(is_open(old));
  EXPECT_EQ(kept.get(), number);
  EXPECT_TRUE(is_open(number));
}

TEST(UniqueFd, ReleaseGivesTheNumberAway) {
  UniqueFd fd = some_fd();

  const int number = fd.release();

  EXPECT_FALSE(fd);
  EXPECT_TRUE(is_open(number));
  ::close(number);
}

}  // namespace
}  // namespace skink
