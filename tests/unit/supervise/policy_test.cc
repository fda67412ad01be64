// SPDX-License-Identifier: Apache-2.0
#include "supervise/policy.h"

#include <gtest/gtest.h>

namespace skink::supervise {
namespace {

constexpr std::int64_t kMs = 1'000'000;
constexpr std::int64_t kSecond = 1'000'000'000;

RestartPolicy policy_of(std::string_view text) { return parse_restart_policy(text).value(); }

TEST(RestartPolicyText, IsDockersForm) {
  for (const std::string_view text : {"no", "on-failure", "on-failure:3", "always", "unless-stopped"})
    EXPECT_EQ(to_text(policy_of(text)), text);
}

TEST(RestartPolicyText, RefusesWhatItDoesNotKnow) {
  for (const std::string_view text : {"sometimes", "on-failure:", "on-failure:x", "on-failure:-1", "always:3", "no:1"})
    EXPECT_FALSE(parse_restart_policy(text)) << text;
}

TEST(Decide, NoNeverRelaunches) {
  std::uint64_t failures = 0;

  EXPECT_FALSE(decide(policy_of("no"), {.success = false, .ran_ns = kSecond}, failures).relaunch);
}

TEST(Decide, OnFailureLeavesASuccessAlone) {
  std::uint64_t failures = 0;

  EXPECT_FALSE(decide(policy_of("on-failure"), {.success = true, .ran_ns = kSecond}, failures).relaunch);
  EXPECT_TRUE(decide(policy_of("on-failure"), {.success = false, .ran_ns = kSecond}, failures).relaunch);
}

TEST(Decide, AlwaysRelaunchesASuccessToo) {
  std::uint64_t failures = 0;

  EXPECT_TRUE(decide(policy_of("always"), {.success = true, .ran_ns = kSecond}, failures).relaunch);
}

TEST(Decide, AStopThatWasAskedForIsTheEnd) {
  std::uint64_t failures = 0;

  EXPECT_FALSE(decide(policy_of("always"), {.success = false, .stop_wanted = true}, failures).relaunch);
}

TEST(Decide, TheFirstRelaunchIsAtOnceAndThenTheDelaysDouble) {
  const auto policy = policy_of("on-failure");
  const RunResult crash{.success = false, .ran_ns = 5 * kMs};
  std::uint64_t failures = 0;

  EXPECT_EQ(decide(policy, crash, failures).delay_ns, 0);
  EXPECT_EQ(decide(policy, crash, failures).delay_ns, 100 * kMs);
  EXPECT_EQ(decide(policy, crash, failures).delay_ns, 200 * kMs);
  EXPECT_EQ(decide(policy, crash, failures).delay_ns, 400 * kMs);
}

TEST(Decide, TheDelayHasAnUpperBound) {
  const auto policy = policy_of("always");
  std::uint64_t failures = 1'000'000;

  EXPECT_EQ(decide(policy, {.success = false}, failures).delay_ns, policy.longest_delay_ns);
}

TEST(Decide, AStableRunForgetsEarlierFailures) {
  const auto policy = policy_of("on-failure:2");
  std::uint64_t failures = 2;

  const auto decision = decide(policy, {.success = false, .ran_ns = 10 * kSecond}, failures);

  EXPECT_TRUE(decision.relaunch);
  EXPECT_EQ(decision.delay_ns, 0);
}

TEST(Decide, OnFailureGivesUpAfterItsNumberOfRelaunches) {
  const auto policy = policy_of("on-failure:2");
  const RunResult crash{.success = false};
  std::uint64_t failures = 0;

  EXPECT_TRUE(decide(policy, crash, failures).relaunch);
  EXPECT_TRUE(decide(policy, crash, failures).relaunch);
  EXPECT_FALSE(decide(policy, crash, failures).relaunch);
}

}  // namespace
}  // namespace skink::supervise
