// SPDX-License-Identifier: Apache-2.0
#include "launch/encode.h"

#include <gtest/gtest.h>

#include <cstring>

namespace skink::launch {
namespace {

plan::LaunchPlan process_plan() {
  plan::LaunchPlan plan;
  plan.process.args = {"/bin/sh", "-c", "true"};
  plan.process.env = {"A=1", "PATH=/opt/bin:/bin"};
  plan.process.cwd = "/tmp";
  plan.process.user.uid = 1000;
  plan.process.user.additional_gids = {5, 6};
  plan.masked = {"/proc/kcore", "/proc/keys"};
  return plan;
}

const plan::Plan& header(const std::string& bytes) { return *reinterpret_cast<const plan::Plan*>(bytes.data()); }
std::string text(const std::string& bytes, plan::Offset at) { return bytes.c_str() + at; }

TEST(Encode, TheHeaderTellsItsSizeAndVersion) {
  const std::string bytes = encode(process_plan(), {}, {});

  EXPECT_EQ(header(bytes).magic, plan::kMagic);
  EXPECT_EQ(header(bytes).version, plan::kVersion);
  EXPECT_EQ(header(bytes).size, bytes.size());
}

TEST(Encode, ArgumentsAreSlotsWithOffsetsAndAZeroAtTheEnd) {
  const std::string bytes = encode(process_plan(), {}, {});

  plan::U64 slots[4];
  std::memcpy(slots, bytes.data() + header(bytes).argv, sizeof slots);
  EXPECT_EQ(text(bytes, static_cast<plan::Offset>(slots[0])), "/bin/sh");
  EXPECT_EQ(text(bytes, static_cast<plan::Offset>(slots[2])), "true");
  EXPECT_EQ(slots[3], 0U);
}

TEST(Encode, ThePathToSearchIsTheProgramsOwn) {
  const std::string bytes = encode(process_plan(), {}, {});

  EXPECT_EQ(text(bytes, header(bytes).path), "/opt/bin:/bin");
}

TEST(Encode, ListsComeAsCountedArrays) {
  const std::string bytes = encode(process_plan(), {}, {});

  ASSERT_EQ(header(bytes).masked.count, 2U);
  plan::Offset paths[2];
  std::memcpy(paths, bytes.data() + header(bytes).masked.at, sizeof paths);
  EXPECT_EQ(text(bytes, paths[1]), "/proc/keys");
  plan::U32 groups[2];
  std::memcpy(groups, bytes.data() + header(bytes).groups.at, sizeof groups);
  EXPECT_EQ(groups[1], 6U);
}

TEST(Encode, WithoutAKeyringNameTheCallersIsKept) {
  EncodeOptions options;
  EXPECT_EQ(header(encode(process_plan(), {}, options)).flags & plan::kNewKeyring, 0U);
  options.keyring = "_ses.c1";
  EXPECT_NE(header(encode(process_plan(), {}, options)).flags & plan::kNewKeyring, 0U);
}

TEST(Numbers, NamesEveryDescriptorThatIsOpen) {
  Descriptors fds;
  fds.root = 7;
  fds.sync = 9;

  EXPECT_EQ(numbers(fds), (std::vector<int>{7, 9}));
}

}  // namespace
}  // namespace skink::launch
