// SPDX-License-Identifier: Apache-2.0
#include "cgroup/unit_devices.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/text.h"

namespace skink::cgroup {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

constexpr std::string_view kRegistered =
    "Character devices:\n  1 mem\n  5 /dev/tty\n  5 /dev/console\n136 pts\n\nBlock devices:\n  7 loop\n  8 sd\n 65 "
    "sd\n";

oci::DeviceRule rule(bool allow, char type, std::optional<std::int64_t> major, std::optional<std::int64_t> minor,
                     std::string access) {
  return {.allow = allow, .type = type, .major = major, .minor = minor, .access = std::move(access)};
}
const oci::DeviceRule kDenyAll = rule(false, 'a', {}, {}, "rwm"), kAllowAll = rule(true, 'a', {}, {}, "rwm");

struct Said {
  std::string policy;
  std::vector<std::string> allowed;  // "/dev/char/1:1 rm"
};

Said said(const std::vector<oci::DeviceRule>& rules) {
  const auto checked = check_device_rules(rules);
  EXPECT_TRUE(checked);
  const auto properties = device_properties(*checked, kRegistered);
  Said out{properties[0].second.text, {}};
  for (const auto& one : properties[1].second.items)
    out.allowed.push_back(str(one.items[0].text, ' ', one.items[1].text));
  return out;
}

TEST(DeviceProperties, AreTheRulesThatAreLeft) {
  const Said all =
      said({kDenyAll, rule(true, 'c', 1, 3, "rwm"), rule(true, 'c', 1, {}, "r"), rule(true, 'b', {}, {}, "m")});
  EXPECT_EQ(all.policy, "strict");
  EXPECT_THAT(all.allowed, ElementsAre("/dev/char/1:3 rwm", "char-mem r", "block-* m"));
  EXPECT_THAT(said({kDenyAll, rule(true, 'a', 7, 1, "r")}).allowed, ElementsAre("/dev/char/7:1 r", "/dev/block/7:1 r"));
}

TEST(DeviceProperties, WhatIsDeniedAgainIsNotAllowed) {
  EXPECT_THAT(said({kDenyAll, rule(true, 'c', 1, 1, "rwm"), rule(false, 'c', 1, 1, "w")}).allowed,
              ElementsAre("/dev/char/1:1 rm"));
  EXPECT_THAT(said({kDenyAll, rule(true, 'c', 1, 1, "r"), rule(false, 'c', 1, 1, "rw")}).allowed, IsEmpty());
  EXPECT_THAT(said({kDenyAll, rule(true, 'a', 1, 1, "rw"), rule(false, 'b', 1, 1, "w")}).allowed,
              ElementsAre("/dev/char/1:1 rw", "/dev/block/1:1 r"));
  // Of more or fewer devices than were allowed: systemd knows no exceptions.
  EXPECT_THAT(said({kDenyAll, rule(true, 'c', 1, {}, "rw"), rule(false, 'c', 1, 1, "w")}).allowed,
              ElementsAre("char-mem r"));
  EXPECT_THAT(said({kDenyAll, rule(true, 'c', 1, 1, "rw"), rule(false, 'c', {}, {}, "w")}).allowed,
              ElementsAre("/dev/char/1:1 r"));
  // The last word counts.
  EXPECT_THAT(said({kDenyAll, rule(false, 'c', 1, 1, "w"), rule(true, 'c', 1, 1, "rw")}).allowed,
              ElementsAre("/dev/char/1:1 rw"));
}

TEST(DeviceProperties, WhatHasNoNameIsNotWidened) {
  EXPECT_THAT(said({kDenyAll, rule(true, 'c', {}, 3, "rwm")}).allowed, IsEmpty()) << "a minor of every major";
  EXPECT_THAT(said({kDenyAll, rule(true, 'c', 99, {}, "rwm")}).allowed, IsEmpty()) << "no driver";
  const auto disks = said({kDenyAll, rule(true, 'b', 8, {}, "r")}).allowed;
  ASSERT_EQ(disks.size(), 256U) << "block-sd would be the major 65, too";
  EXPECT_EQ(disks[255], "/dev/block/8:255 r");
}

TEST(DeviceProperties, WhatIsDeniedWhereAllIsAllowedStaysDenied) {
  EXPECT_EQ(said({kAllowAll}).policy, "auto");
  EXPECT_THAT(said({kAllowAll}).allowed, IsEmpty());
  EXPECT_EQ(said({kAllowAll, rule(false, 'c', 1, 1, "w"), rule(true, 'c', 1, 1, "w")}).policy, "auto");

  const Said most = said({kAllowAll, rule(false, 'c', 1, 1, "w"), rule(false, 'b', {}, {}, "rwm")});

  EXPECT_EQ(most.policy, "strict");
  ASSERT_EQ(most.allowed.size(), 258U);
  EXPECT_THAT(std::vector(most.allowed.begin(), most.allowed.begin() + 3),
              ElementsAre("/dev/char/1:0 rwm", "/dev/char/1:1 rm", "/dev/char/1:2 rwm"));
  EXPECT_THAT(std::vector(most.allowed.begin() + 256, most.allowed.end()),
              ElementsAre("char-/dev/tty rwm", "char-pts rwm"));
}

}  // namespace
}  // namespace skink::cgroup
