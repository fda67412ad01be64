// SPDX-License-Identifier: Apache-2.0
#include "cgroup/convert.h"

#include <gtest/gtest.h>

#include "cgroup/control_file.h"

namespace skink::cgroup {
namespace {

TEST(WeightOfShares, MeetsBothEndsAndTheDefault) {
  EXPECT_EQ(weight_of_shares(0), 0U);
  EXPECT_EQ(weight_of_shares(1), 1U);
  EXPECT_EQ(weight_of_shares(2), 1U);
  EXPECT_EQ(weight_of_shares(1024), 100U);
  EXPECT_EQ(weight_of_shares(262144), 10000U);
  EXPECT_EQ(weight_of_shares(~0ULL), 10000U);
}

TEST(WeightOfShares, NeverFallsWhenSharesRise) {
  std::uint64_t before = 0;
  for (std::uint64_t shares = 2; shares <= 262144; shares += 7) {
    const std::uint64_t weight = weight_of_shares(shares);
    ASSERT_GE(weight, before) << shares;
    ASSERT_LE(weight, 10000U);
    before = weight;
  }
}

TEST(IoWeightOfBlkio, MapsTheRangeAndHoldsItsEnds) {
  EXPECT_EQ(io_weight_of_blkio(0), 0U);
  EXPECT_EQ(io_weight_of_blkio(10), 1U);
  EXPECT_EQ(io_weight_of_blkio(1000), 10000U);
  EXPECT_EQ(io_weight_of_blkio(3), 1U);
  EXPECT_EQ(io_weight_of_blkio(500), 4950U);
}

TEST(SwapMax, TakesTheMemoryLimitAway) {
  EXPECT_EQ(*swap_max(300, 100), 200);
  EXPECT_EQ(*swap_max(100, 100), 0);
  EXPECT_EQ(*swap_max(-1, 100), -1);
  EXPECT_EQ(*swap_max(300, -1), 300);
}

TEST(SwapMax, RefusesLessThanTheMemoryLimitAndNoLimitToCountFrom) {
  const auto less = swap_max(50, 100);
  ASSERT_FALSE(less);
  EXPECT_EQ(less.error().code(), Code::invalid_config);
  EXPECT_EQ(less.error().text(), "50 is less than the memory limit of 100; it counts memory and swap together");
  EXPECT_FALSE(swap_max(50, 0));
}

TEST(CheckComponent, RefusesWhateverIsNotOnePlainFileName) {
  EXPECT_TRUE(check_component("memory.high", "x"));
  EXPECT_TRUE(check_component("..x", "x"));
  for (const std::string& name :
       {std::string(), std::string("."), std::string(".."), std::string("../x"), std::string("a/b"),
        std::string("a\0b", 3), std::string("a\nb"), std::string(300, 'x')})
    EXPECT_FALSE(check_component(name, "linux.resources.unified")) << name;
}

TEST(ListWithin, ComparesListsOfProcessors) {
  EXPECT_TRUE(list_within("0-1", "0-3"));
  EXPECT_TRUE(list_within("0,2", "0,2"));
  EXPECT_TRUE(list_within("0-3", "2-3,0-1"));
  EXPECT_FALSE(list_within("0-1", "5"));
  EXPECT_FALSE(list_within("0-3", "0-1,3"));
  EXPECT_FALSE(list_within("", "0"));
  EXPECT_FALSE(list_within("0", "x"));
}

TEST(ControlText, FindsWordsAndKeys) {
  EXPECT_TRUE(has_word("cpu,cpuacct", "cpu"));
  EXPECT_TRUE(has_word("cpuset cpu io\n", "io"));
  EXPECT_FALSE(has_word("cpuset", "cpu"));
  EXPECT_FALSE(has_word("", "cpu"));
  EXPECT_EQ(keyed("populated 1\nfrozen 0\n", "frozen"), "0");
  EXPECT_EQ(keyed("oom 3\noom_kill 2\n", "oom_kill"), "2");
  EXPECT_EQ(keyed("oom_kill_disable 0\n", "oom_kill"), "");
}

}  // namespace
}  // namespace skink::cgroup
