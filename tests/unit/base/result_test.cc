// SPDX-License-Identifier: Apache-2.0
#include "base/result.h"

#include <gtest/gtest.h>

#include <cerrno>
#include <memory>

namespace skink {
namespace {

Result<int> half(int value) {
  if (value % 2 != 0) return Error::make(Code::invalid_config, value, " is odd");
  return value / 2;
}
Result<int> quarter(int value) {
  const int once = TRY(half(value));
  return TRY_CTX(half(once), "second half of ", value);
}

TEST(Try, GivesTheValueOrReturnsTheError) {
  EXPECT_EQ(*quarter(8), 2);
  EXPECT_EQ(quarter(7).error().text(), "7 is odd");
  EXPECT_EQ(quarter(6).error().text(), "second half of 6: 3 is odd");
  EXPECT_EQ(quarter(6).error().code(), Code::invalid_config);
}

TEST(Try, MovesWhatCannotBeCopied) {
  const auto make = []() -> Result<std::unique_ptr<int>> { return std::make_unique<int>(3); };
  const auto use = [&]() -> Result<int> {
    const std::unique_ptr<int> held = TRY(make());
    return *held;
  };
  EXPECT_EQ(*use(), 3);
}

TEST(Error, FromErrnoNamesStepAndReasonAndKeepsTheNumber) {
  const Error error = Error::from_errno(ENOENT, "openat2 ", "/x");
  EXPECT_EQ(error.text(), "openat2 /x: No such file or directory");
  EXPECT_EQ(error.code(), Code::not_found);
  EXPECT_EQ(error.errnum(), ENOENT);
}

TEST(Error, ContextGoesInFront) {
  Error error = Error::from_errno(EIO, "read");
  error.context("blob ", 3).context("load");
  EXPECT_EQ(error.text(), "load: blob 3: read: Input/output error");
}

}  // namespace
}  // namespace skink
