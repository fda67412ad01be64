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
  Streak failures{.failures_in_row = 0};

  EXPECT_FALSE(decide(policy_of("no"), {.success = false, .ran_ns = kSecond}, failures).relaunch);
}

TEST(Decide, OnFailureLeavesASuccessAlone) {
  Streak failures{.failures_in_row = 0};

  EXPECT_FALSE(decide(policy_of("on-failure"), {.success = true, .ran_ns = kSecond}, failures).relaunch);
  EXPECT_TRUE(decide(policy_of("on-failure"), {.success = false, .ran_ns = kSecond}, failures).relaunch);
}

TEST(Decide, AlwaysRelaunchesASuccessToo) {
  Streak failures{.failures_in_row = 0};

  EXPECT_TRUE(decide(policy_of("always"), {.success = true, .ran_ns = kSecond}, failures).relaunch);
}

TEST(Decide, AStopThatWasAskedForIsTheEnd) {
  Streak failures{.failures_in_row = 0};

  EXPECT_FALSE(decide(policy_of("always"), {.success = false, .stop_wanted = true}, failures).relaunch);
}

TEST(Decide, TheFirstRelaunchIsAtOnceAndThenTheDelaysDouble) {
  const auto policy = policy_of("on-failure");
  const RunResult crash{.success = false, .ran_ns = 5 * kMs};
  Streak failures{.failures_in_row = 0};

  EXPECT_EQ(decide(policy, crash, failures).delay_ns, 0);
  EXPECT_EQ(decide(policy, crash, failures).delay_ns, 100 * kMs);
  EXPECT_EQ(decide(policy, crash, failures).delay_ns, 200 * kMs);
  EXPECT_EQ(decide(policy, crash, failures).delay_ns, 400 * kMs);
}

TEST(Decide, TheDelayHasAnUpperBound) {
  const auto policy = policy_of("always");
  Streak failures{.failures_in_row = 1'000'000};

  EXPECT_EQ(decide(policy, {.success = false}, failures).delay_ns, policy.longest_delay_ns);
}

TEST(Decide, AStableRunForgetsEarlierFailures) {
  const auto policy = policy_of("on-failure:2");
  Streak failures{.failures_in_row = 2};

  const auto decision = decide(policy, {.success = false, .ran_ns = 10 * kSecond}, failures);

  EXPECT_TRUE(decision.relaunch);
  EXPECT_EQ(decision.delay_ns, 0);
}

TEST(Decide, OnFailureGivesUpAfterItsNumberOfRelaunches) {
  const auto policy = policy_of("on-failure:2");
  const RunResult crash{.success = false};
  Streak failures{.failures_in_row = 0};

  EXPECT_TRUE(decide(policy, crash, failures).relaunch);
  EXPECT_TRUE(decide(policy, crash, failures).relaunch);
  EXPECT_FALSE(decide(policy, crash, failures).relaunch);
}

TEST(Decide, StatusesThatAreFinalComeBeforeThePolicy) {
  RestartPolicy policy = policy_of("always");
  policy.never = parse_status_ranges("64-78,99").value();
  Streak streak;

  EXPECT_FALSE(decide(policy, {.status = 78}, streak).relaunch);
  EXPECT_FALSE(decide(policy, {.status = 99}, streak).relaunch);
  EXPECT_TRUE(decide(policy, {.status = 79}, streak).relaunch);
  EXPECT_TRUE(decide(policy, {.status = -1}, streak).relaunch);
}

TEST(Decide, StatusesThatAreRelaunchedAtOnceAreNoFailures) {
  RestartPolicy policy = policy_of("on-failure:1");
  policy.at_once = parse_status_ranges("0,75").value();
  Streak streak{.failures_in_row = 1};

  EXPECT_EQ(decide(policy, {.status = 75}, streak).outcome, "relaunched at once");
  EXPECT_TRUE(decide(policy, {.success = true, .status = 0}, streak).relaunch);
  EXPECT_EQ(streak.failures_in_row, 1);
}

TEST(Decide, ABudgetCountsEndsWithinItsTime) {
  RestartPolicy policy = policy_of("always");
  ASSERT_TRUE(parse_restart_budget("3/10s", policy));
  Streak streak;

  EXPECT_TRUE(decide(policy, {.now_ns = 0}, streak).relaunch);
  EXPECT_TRUE(decide(policy, {.now_ns = 9 * kSecond}, streak).relaunch);
  EXPECT_TRUE(decide(policy, {.now_ns = 11 * kSecond}, streak).relaunch) << "the first one is forgotten";
  EXPECT_EQ(decide(policy, {.now_ns = 12 * kSecond}, streak).outcome, "given up: it has ended 3 times within 10s");
}

TEST(Decide, TheJitterIsAPartOfTheDelay) {
  RestartPolicy policy = policy_of("always");
  policy.jitter = 0.25;
  Streak low{.failures_in_row = 1}, high{.failures_in_row = 1};

  EXPECT_EQ(decide(policy, {.chance = 0}, low).delay_ns, 75 * kMs);
  EXPECT_EQ(decide(policy, {.chance = 1}, high).delay_ns, 125 * kMs);
}

TEST(StatusRangesText, IsWhatWasGiven) {
  EXPECT_EQ(to_text(parse_status_ranges("75,100-110").value()), "75,100-110");
  for (const std::string_view text : {",", "1,", "-1", "256", "9-3", "x", "1-2-3"})
    EXPECT_FALSE(parse_status_ranges(text)) << text;
}

}  // namespace
}  // namespace skink::supervise
