// SPDX-License-Identifier: Apache-2.0
// What a group has used, out of a fake tree of files.
#include "cgroup/usage.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <string>

#include "fs/dir.h"
#include "sys/file.h"

namespace skink::cgroup {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;

class FakeFiles : public testing::Test {
 protected:
  void SetUp() override {
    char name[] = "/tmp/skink-usage-XXXXXX";
    ASSERT_NE(::mkdtemp(name), nullptr);
    path_ = name;
    dir_ = *sys::open_at(AT_FDCWD, name, O_RDONLY | O_DIRECTORY);
  }
  void TearDown() override { ASSERT_TRUE(fs::remove_tree(AT_FDCWD, path_.c_str())); }
  void file(const char* name, std::string_view text) const {
    ASSERT_TRUE(fs::write_file_atomic(dir_.get(), name, text, 0600));
  }
  std::string path_;
  UniqueFd dir_;
};

TEST_F(FakeFiles, V1CountsNanosecondsAndProcessors) {
  file("cpuacct.usage", "5000\n");
  file("cpuacct.usage_percpu", "2000 3000 \n");
  file("cpuacct.usage_all", "cpu user system\n0 1500 500\n1 1000 2000\n");
  file("cpuacct.stat", "user 3\nsystem 4\n");
  file("cpu.stat", "nr_periods 7\nnr_throttled 2\nthrottled_time 900\n");
  Usage usage;

  read_usage_v1("cpu,cpuacct", dir_.get(), usage);

  EXPECT_EQ(usage.cpu.total, 5000u);
  EXPECT_THAT(usage.cpu.each, ElementsAre(2000, 3000));
  EXPECT_THAT(usage.cpu.each_user, ElementsAre(1500, 1000));
  EXPECT_THAT(usage.cpu.each_kernel, ElementsAre(500, 2000));
  EXPECT_EQ(usage.cpu.user, 30'000'000u) << "ticks of 10 ms";
  EXPECT_EQ(usage.cpu.kernel, 40'000'000u);
  EXPECT_EQ(usage.cpu.throttled_time, 900u);
}

TEST_F(FakeFiles, V1KeepsTheKernelsWordForNoLimit) {
  file("memory.limit_in_bytes", "9223372036854771712\n");
  file("memory.usage_in_bytes", "4096\n");
  file("memory.max_usage_in_bytes", "8192\n");
  file("memory.failcnt", "3\n");
  file("memory.stat", "cache 100\npgfault 42\nhierarchical_memory_limit 9223372036854771712\n");
  Usage usage;

  read_usage_v1("memory", dir_.get(), usage);

  EXPECT_EQ(usage.memory.memory.limit, 9223372036854771712u);
  EXPECT_EQ(usage.memory.memory.max, 8192u);
  EXPECT_EQ(usage.memory.memory.failures, 3u);
  EXPECT_EQ(usage.memory.cache, 100u);
  EXPECT_EQ(usage.memory.raw.at("pgfault"), 42u);
}

TEST_F(FakeFiles, V1BlockIoHasOperationsAndSkipsTheTotal) {
  file("blkio.throttle.io_service_bytes_recursive", "8:0 Read 4096\n8:0 Write 0\nTotal 4096\n");
  file("blkio.time_recursive", "8:16 77\n");
  Usage usage;

  read_usage_v1("blkio", dir_.get(), usage);

  ASSERT_EQ(usage.block_io.bytes.size(), 2u);
  EXPECT_EQ(usage.block_io.bytes[0].op, "Read");
  EXPECT_EQ(usage.block_io.bytes[0].value, 4096u);
  ASSERT_EQ(usage.block_io.time.size(), 1u);
  EXPECT_EQ(usage.block_io.time[0].minor, 16u);
  EXPECT_EQ(usage.block_io.time[0].op, "");
}

TEST_F(FakeFiles, TheUnifiedHierarchyIsToldInTheUnitsOfV1) {
  file("cgroup.controllers", "cpuset cpu io memory hugetlb pids\n");
  file("cpu.stat", "usage_usec 10\nuser_usec 6\nsystem_usec 4\nnr_periods 1\nnr_throttled 1\nthrottled_usec 5\n");
  file("cpu.pressure",
       "some avg10=1.25 avg60=0.00 avg300=0.50 total=99\nfull avg10=0.00 avg60=0.00 avg300=0.00 total=3\n");
  file("memory.max", "1000\n");
  file("memory.current", "400\n");
  file("memory.swap.max", "500\n");
  file("memory.swap.current", "100\n");
  file("memory.events", "low 0\nhigh 0\nmax 8\noom 1\noom_kill 1\n");
  file("memory.stat", "anon 1\nfile 250\n");
  file("io.stat", "8:0 rbytes=1 wbytes=2 rios=3 wios=4 dbytes=5 dios=6\n");
  file("cpuset.cpus.effective", "0-2,5\n");
  file("hugetlb.2MB.current", "0\n");
  file("hugetlb.2MB.max", "max\n");
  file("hugetlb.2MB.rsvd.current", "0\n");
  file("pids.current", "4\n");
  file("pids.max", "max\n");
  Usage usage;

  read_usage_unified(dir_.get(), usage);

  EXPECT_EQ(usage.cpu.total, 10'000u);
  EXPECT_EQ(usage.cpu.throttled_time, 5'000u);
  ASSERT_TRUE(usage.cpu.pressure);
  EXPECT_DOUBLE_EQ(usage.cpu.pressure->some.avg10, 1.25);
  EXPECT_EQ(usage.cpu.pressure->full.total, 3u);
  EXPECT_EQ(usage.memory.swap.limit, 1500u) << "memory and swap together";
  EXPECT_EQ(usage.memory.swap.usage, 500u);
  EXPECT_EQ(usage.memory.cache, 250u);
  EXPECT_EQ(usage.memory.memory.failures, 8u);
  EXPECT_EQ(usage.block_io.bytes.size(), 3u);
  EXPECT_EQ(usage.block_io.operations.back().op, "Discard");
  EXPECT_THAT(usage.cpuset.cpus, ElementsAre(0, 1, 2, 5));
  ASSERT_EQ(usage.hugepages.size(), 1u);
  EXPECT_EQ(usage.hugepages.at("2MB").max, 18446744073709551615u);
  EXPECT_EQ(usage.pids, 4u);
  EXPECT_EQ(usage.pids_limit, 0u);
}

TEST_F(FakeFiles, WhatIsNotThereCountsAsNothing) {
  Usage usage;

  read_usage_v1("cpu,cpuacct,cpuset,memory,blkio,hugetlb,pids", dir_.get(), usage);
  read_usage_unified(dir_.get(), usage);

  EXPECT_EQ(usage.cpu.total, 0u);
  EXPECT_THAT(usage.cpuset.cpus, IsEmpty());
  EXPECT_FALSE(usage.memory.pressure);
  EXPECT_TRUE(usage.hugepages.empty());
}

}  // namespace
}  // namespace skink::cgroup
