// SPDX-License-Identifier: Apache-2.0
// Samples of a group, out of a fake tree of files.
#include "cgroup/sample.h"

#include <gtest/gtest.h>

#include "fake_group.h"

namespace skink::cgroup {
namespace {

Sample v1_sample(const std::string& controllers, const std::vector<std::pair<std::string, std::string>>& files) {
  const FakeGroup group(false, controllers, files);
  Sample sample;
  sample_v1(controllers, group.target().fd, sample);
  return sample;
}

Sample unified_sample(const std::vector<std::pair<std::string, std::string>>& files) {
  const FakeGroup group(true, "", files);
  Sample sample;
  sample_unified(group.target().fd, sample);
  return sample;
}

TEST(Sample, OfV1HasTheTotalsOfTheGroupsBelow) {
  const Sample sample = v1_sample(
      "memory", {{"memory.usage_in_bytes", "1000\n"},
                 {"memory.limit_in_bytes", "9223372036854771712\n"},
                 {"memory.max_usage_in_bytes", "2000\n"},
                 {"memory.kmem.usage_in_bytes", "30\n"},
                 {"memory.stat", "cache 1\nrss 2\ntotal_cache 400\ntotal_rss 500\ntotal_inactive_file 300\n"}});

  EXPECT_EQ(sample.memory.usage, 1000u);
  EXPECT_EQ(sample.memory.used(), 700u);
  EXPECT_EQ(sample.memory.limit, std::nullopt) << "the number that means none";
  EXPECT_EQ(sample.memory.peak, 2000u);
  EXPECT_EQ(sample.memory.anon, 500u);
  EXPECT_EQ(sample.memory.file, 400u);
  EXPECT_EQ(sample.memory.kernel, 30u);
  EXPECT_EQ(sample.memory.swap, std::nullopt) << "swap is not counted here";
}

TEST(Sample, OfV1CountsTimesInNanoseconds) {
  const Sample sample = v1_sample("cpu,cpuacct", {{"cpuacct.usage", "900\n"},
                                                  {"cpuacct.usage_user", "600\n"},
                                                  {"cpuacct.usage_sys", "300\n"},
                                                  {"cpu.stat", "nr_periods 7\nnr_throttled 2\nthrottled_time 55\n"}});

  EXPECT_EQ(sample.cpu.total_ns, 900u);
  EXPECT_EQ(sample.cpu.user_ns, 600u);
  EXPECT_EQ(sample.cpu.throttled_periods, 2u);
  EXPECT_EQ(sample.cpu.throttled_ns, 55u);
  EXPECT_GT(sample.at_ns, 0);
}

TEST(Sample, OfTheUnifiedHierarchyMeansTheSame) {
  const Sample sample = unified_sample(
      {{"cgroup.controllers", "cpu io memory pids\n"},
       {"cpu.stat", "usage_usec 9\nuser_usec 6\nsystem_usec 3\nnr_periods 7\nnr_throttled 2\nthrottled_usec 5\n"},
       {"cpu.pressure",
        "some avg10=1.50 avg60=0.00 avg300=0.00 total=77\nfull avg10=0.00 avg60=0.00 avg300=0.00 total=0\n"},
       {"memory.current", "1000\n"},
       {"memory.max", "max\n"},
       {"memory.stat", "anon 500\nfile 400\nslab 20\nkernel_stack 10\ninactive_file 2000\n"},
       {"io.stat", "8:0 rbytes=1 wbytes=2 rios=3 wios=4 dbytes=5 dios=6\n8:16 rbytes=10 wbytes=20 rios=30 wios=40\n"},
       {"pids.current", "4\n"},
       {"pids.max", "9\n"}});

  EXPECT_EQ(sample.cpu.total_ns, 9000u);
  EXPECT_EQ(sample.cpu.throttled_ns, 5000u);
  EXPECT_EQ(sample.memory.limit, std::nullopt);
  EXPECT_EQ(sample.memory.kernel, 30u) << "the sum of what older kernels tell one by one";
  EXPECT_EQ(sample.memory.used(), 0u) << "the files are read one after another and need not agree";
  EXPECT_EQ(sample.memory.peak, std::nullopt);
  ASSERT_TRUE(sample.block_io);
  EXPECT_EQ(sample.block_io->read_bytes, 11u);
  EXPECT_EQ(sample.block_io->writes, 44u);
  EXPECT_EQ(sample.pids, 4u);
  EXPECT_EQ(sample.pids_limit, 9u);
  ASSERT_TRUE(sample.cpu_pressure);
  EXPECT_DOUBLE_EQ(sample.cpu_pressure->some.avg10, 1.5);
  EXPECT_FALSE(sample.memory_pressure);
}

TEST(Sample, OnAHybridHostTheUnifiedHierarchyAddsThePressureAlone) {
  const FakeGroup accounts(false, "cpuacct", {{"cpuacct.usage", "900\n"}});
  const FakeGroup unified(true, "",
                          {{"cgroup.controllers", "\n"},
                           {"cpu.stat", "usage_usec 8\n"},
                           {"io.pressure", "some avg10=0.00 avg60=0.00 avg300=0.00 total=1\n"}});
  Sample sample;

  sample_v1("cpuacct", accounts.target().fd, sample);
  sample_unified(unified.target().fd, sample);

  EXPECT_EQ(sample.cpu.total_ns, 900u);
  EXPECT_EQ(sample.memory.usage, std::nullopt);
  EXPECT_FALSE(sample.block_io);
  ASSERT_TRUE(sample.io_pressure);
  EXPECT_EQ(sample.io_pressure->some.total, 1u);
}

TEST(CpuPercent, Is100ForEachBusyProcessor) {
  Sample before, after;
  before.at_ns = 1'000;
  after.at_ns = 2'000;
  EXPECT_EQ(cpu_percent(before, after), std::nullopt) << "nothing is told";

  before.cpu.total_ns = 500;
  after.cpu.total_ns = 2'000;
  EXPECT_DOUBLE_EQ(cpu_percent(before, after).value_or(0), 150.0);

  after.cpu.total_ns = 400;
  EXPECT_EQ(cpu_percent(before, after), std::nullopt) << "another group of that name";
  EXPECT_EQ(cpu_percent(before, before), std::nullopt) << "no time has passed";
}

}  // namespace
}  // namespace skink::cgroup
