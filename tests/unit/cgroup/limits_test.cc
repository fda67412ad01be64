// SPDX-License-Identifier: Apache-2.0
#include "cgroup/limits.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "fake_group.h"

namespace skink::cgroup {
namespace {

using ::testing::HasSubstr;

constexpr const char* kAll = "cpuset cpu io memory hugetlb pids rdma\n";

std::string failure(const Result<void>& result) { return result ? "" : result.error().text(); }

TEST(ApplyV2, WritesMemoryAndSwapAsV2CountsThem) {
  const FakeGroup group(
      true, "", {{"cgroup.controllers", kAll}, {"memory.max", ""}, {"memory.swap.max", ""}, {"memory.low", ""}});
  oci::Resources resources;
  resources.memory = oci::MemoryLimits{.limit = 1000, .reservation = 500, .swap = 1500};

  const auto applied = apply_resources(group.targets(), resources);

  EXPECT_EQ(failure(applied), "");
  EXPECT_EQ(group.text("memory.max"), "1000");
  EXPECT_EQ(group.text("memory.swap.max"), "500");
  EXPECT_EQ(group.text("memory.low"), "500");
}

TEST(ApplyV2, CountsSwapFromTheLimitInForceWhenNoneIsGiven) {
  const FakeGroup group(true, "", {{"cgroup.controllers", kAll}, {"memory.max", "1000\n"}, {"memory.swap.max", ""}});
  oci::Resources resources;
  resources.memory = oci::MemoryLimits{.swap = 1300};
  EXPECT_EQ(failure(apply_resources(group.targets(), resources)), "");
  EXPECT_EQ(group.text("memory.swap.max"), "300");
}

TEST(ApplyV2, LiftsSwapTogetherWithMemory) {
  const FakeGroup group(true, "", {{"cgroup.controllers", kAll}, {"memory.max", ""}, {"memory.swap.max", ""}});
  oci::Resources resources;
  resources.memory = oci::MemoryLimits{.limit = -1};
  EXPECT_EQ(failure(apply_resources(group.targets(), resources)), "");
  EXPECT_EQ(group.text("memory.max"), "max");
  EXPECT_EQ(group.text("memory.swap.max"), "max");
}

TEST(ApplyV2, ChecksTheUsageFirstWhenAsked) {
  const FakeGroup group(true, "", {{"cgroup.controllers", kAll}, {"memory.max", ""}, {"memory.current", "2000\n"}});
  oci::Resources resources;
  resources.memory = oci::MemoryLimits{.limit = 1000, .check_before_update = true};
  const auto applied = apply_resources(group.targets(), resources);
  EXPECT_EQ(failure(applied),
            "linux.resources.memory.limit: 1000 is less than the 2000 bytes in use (checkBeforeUpdate)");
  EXPECT_EQ(group.text("memory.max"), "");
}

TEST(ApplyV2, WritesProcessorLimits) {
  const FakeGroup group(true, "",
                        {{"cgroup.controllers", kAll},
                         {"cpu.weight", ""},
                         {"cpu.max", ""},
                         {"cpu.max.burst", ""},
                         {"cpuset.cpus", ""},
                         {"cpuset.cpus.effective", "0-1\n"},
                         {"cpuset.mems", ""},
                         {"pids.max", ""}});
  oci::Resources resources;
  resources.cpu =
      oci::CpuLimits{.shares = 1024, .quota = 50000, .burst = 1000, .period = 100000, .cpus = "0-1", .mems = "0"};
  resources.pids_limit = 77;
  EXPECT_EQ(failure(apply_resources(group.targets(), resources)), "");
  EXPECT_EQ(group.text("cpu.weight"), "100");
  EXPECT_EQ(group.text("cpu.max"), "50000 100000");
  EXPECT_EQ(group.text("cpu.max.burst"), "1000");
  EXPECT_EQ(group.text("cpuset.cpus"), "0-1");
  EXPECT_EQ(group.text("cpuset.mems"), "0");
  EXPECT_EQ(group.text("pids.max"), "77");
}

TEST(ApplyV2, KeepsTheQuotaWhenOnlyThePeriodChanges) {
  const FakeGroup group(true, "", {{"cgroup.controllers", kAll}, {"cpu.max", "30000 100000\n"}});
  oci::Resources resources;
  resources.cpu = oci::CpuLimits{.period = 200000};
  EXPECT_EQ(failure(apply_resources(group.targets(), resources)), "");
  EXPECT_THAT(group.text("cpu.max"), ::testing::StartsWith("30000 200000"));
}

TEST(ApplyV2, RefusesProcessorsThatTheHostDoesNotGive) {
  const FakeGroup group(true, "",
                        {{"cgroup.controllers", kAll}, {"cpuset.cpus", ""}, {"cpuset.cpus.effective", "0-1\n"}});
  oci::Resources resources;
  resources.cpu = oci::CpuLimits{.cpus = "5"};
  EXPECT_EQ(failure(apply_resources(group.targets(), resources)),
            "linux.resources.cpu.cpus: of \"5\" the host gives only 0-1");
}

TEST(ApplyV2, WritesBlockDeviceLimitsLineByLine) {
  const FakeGroup group(true, "", {{"cgroup.controllers", kAll}, {"io.weight", ""}, {"io.max", ""}});
  oci::Resources resources;
  resources.block_io.emplace();
  resources.block_io->weight = 500;
  resources.block_io->write_iops = {{8, 0, 42}};
  EXPECT_EQ(failure(apply_resources(group.targets(), resources)), "");
  EXPECT_EQ(group.text("io.weight"), "4950");
  EXPECT_EQ(group.text("io.max"), "8:0 wiops=42");
}

TEST(ApplyV2, WritesHugepageAndRdmaLimits) {
  const FakeGroup group(
      true, "",
      {{"cgroup.controllers", kAll}, {"hugetlb.2MB.max", ""}, {"hugetlb.2MB.rsvd.max", ""}, {"rdma.max", ""}});
  oci::Resources resources;
  resources.hugepages = {{"2MB", 4194304}};
  resources.rdma["mlx5_1"] = {.hca_handles = 3, .hca_objects = 10000};
  EXPECT_EQ(failure(apply_resources(group.targets(), resources)), "");
  EXPECT_EQ(group.text("hugetlb.2MB.max"), "4194304");
  EXPECT_EQ(group.text("hugetlb.2MB.rsvd.max"), "4194304");
  EXPECT_EQ(group.text("rdma.max"), "mlx5_1 hca_handle=3 hca_object=10000");
}

TEST(ApplyV2, ALimitOfNoProcessesIsOneOfTheFirstProcess) {
  const FakeGroup group(true, "", {{"cgroup.controllers", kAll}, {"pids.max", ""}});
  oci::Resources resources;
  resources.pids_limit = 0;
  EXPECT_EQ(failure(apply_resources(group.targets(), resources)), "");
  EXPECT_EQ(group.text("pids.max"), "1");
}

TEST(ApplyV2, NoSwapNeedsNoFileWhereThereIsNoSwap) {
  const FakeGroup group(true, "", {{"cgroup.controllers", kAll}, {"memory.max", ""}});
  oci::Resources resources;
  resources.memory = oci::MemoryLimits{.limit = 1000, .swap = 1000};
  EXPECT_EQ(failure(apply_resources(group.targets(), resources)), "");
  resources.memory->swap = 1001;
  EXPECT_THAT(failure(apply_resources(group.targets(), resources)), HasSubstr("linux.resources.memory.swap"));
}

TEST(ApplyV2, AnOldKernelHasOnlyTheHugepagesThatAreTouched) {
  const FakeGroup group(true, "", {{"cgroup.controllers", kAll}, {"hugetlb.1GB.max", ""}});
  oci::Resources resources;
  resources.hugepages = {{"1GB", 1U << 30}};
  EXPECT_EQ(failure(apply_resources(group.targets(), resources)), "");
  EXPECT_EQ(group.text("hugetlb.1GB.max"), "1073741824");
}

// What this host's kernel has no v1 controller for, as files.
TEST(ApplyV1, WritesNetworkHugepageAndRdmaLimits) {
  const FakeGroup group(false, "net_cls,net_prio,hugetlb,rdma",
                        {{"net_cls.classid", ""},
                         {"net_prio.ifpriomap", ""},
                         {"hugetlb.64KB.limit_in_bytes", ""},
                         {"hugetlb.64KB.rsvd.limit_in_bytes", ""},
                         {"rdma.max", ""}});
  oci::Resources resources;
  resources.network = oci::NetworkLimits{.class_id = 1048577, .priorities = {{"eth0", 500}}};
  resources.hugepages = {{"64KB", 1000000}};
  resources.rdma["mlx5_1"] = {.hca_handles = 3, .hca_objects = {}};
  EXPECT_EQ(failure(apply_resources(group.targets(), resources)), "");
  EXPECT_EQ(group.text("net_cls.classid"), "1048577");
  EXPECT_EQ(group.text("net_prio.ifpriomap"), "eth0 500");
  EXPECT_EQ(group.text("hugetlb.64KB.limit_in_bytes"), "1000000");
  EXPECT_EQ(group.text("hugetlb.64KB.rsvd.limit_in_bytes"), "1000000");
  EXPECT_EQ(group.text("rdma.max"), "mlx5_1 hca_handle=3");
}

TEST(ApplyV1, WritesWeightsToTheFilesOfTheSchedulerThatIsThere) {
  const FakeGroup plain(
      false, "blkio",
      {{"blkio.weight", ""}, {"blkio.leaf_weight", ""}, {"blkio.weight_device", ""}, {"blkio.leaf_weight_device", ""}});
  oci::Resources resources;
  resources.block_io.emplace();
  resources.block_io->weight = 10;
  resources.block_io->leaf_weight = 20;
  resources.block_io->weight_devices = {{8, 0, 500, 300}};
  EXPECT_EQ(failure(apply_resources(plain.targets(), resources)), "");
  EXPECT_EQ(plain.text("blkio.weight"), "10");
  EXPECT_EQ(plain.text("blkio.leaf_weight"), "20");
  EXPECT_EQ(plain.text("blkio.weight_device"), "8:0 500");
  EXPECT_EQ(plain.text("blkio.leaf_weight_device"), "8:0 300");
}

TEST(ApplyV2, WritesWeightsOfDevicesToBfq) {
  const FakeGroup group(true, "", {{"cgroup.controllers", kAll}, {"io.bfq.weight", ""}});
  oci::Resources resources;
  resources.block_io.emplace();
  resources.block_io->weight_devices = {{8, 0, 500, {}}};
  EXPECT_EQ(failure(apply_resources(group.targets(), resources)), "");
  EXPECT_EQ(group.text("io.bfq.weight"), "8:0 500");
}

TEST(ApplyV2, WritesTheFourThrottlesAndLiftsThemWithZero) {
  const FakeGroup group(true, "", {{"cgroup.controllers", kAll}, {"io.max", ""}});
  const oci::ThrottleDevice limit{8, 16, 600}, none{8, 16, 0};
  const std::pair<std::vector<oci::ThrottleDevice> oci::BlockIoLimits::*, std::string> members[] = {
      {&oci::BlockIoLimits::read_bps, "rbps"},
      {&oci::BlockIoLimits::write_bps, "wbps"},
      {&oci::BlockIoLimits::read_iops, "riops"},
      {&oci::BlockIoLimits::write_iops, "wiops"}};
  for (const auto& [member, key] : members) {
    oci::Resources resources;
    resources.block_io.emplace();
    (*resources.block_io).*member = {limit};
    EXPECT_EQ(failure(apply_resources(group.targets(), resources)), "");
    EXPECT_EQ(group.text("io.max"), "8:16 " + key + "=600");
    (*resources.block_io).*member = {none};
    EXPECT_EQ(failure(apply_resources(group.targets(), resources)), "");
    EXPECT_EQ(group.text("io.max"), "8:16 " + key + "=max");
  }
}

TEST(ApplyV2, AnIdleGroupIsSaidSo) {
  const FakeGroup group(true, "", {{"cgroup.controllers", kAll}, {"cpu.idle", ""}, {"cpu.weight", ""}});
  oci::Resources resources;
  resources.cpu = oci::CpuLimits{.idle = 1};
  EXPECT_EQ(failure(apply_resources(group.targets(), resources)), "");
  EXPECT_EQ(group.text("cpu.idle"), "1");
}

TEST(ApplyV2, RefusesWhatOnlyV1Has) {
  const FakeGroup group(true, "", {{"cgroup.controllers", kAll}});
  std::vector<std::pair<oci::Resources, std::string>> cases(5);
  cases[0].first.memory = oci::MemoryLimits{.swappiness = 10};
  cases[0].second = "linux.resources.memory.swappiness: ";
  cases[1].first.memory = oci::MemoryLimits{.disable_oom_killer = true};
  cases[1].second = "linux.resources.memory.disableOOMKiller: ";
  cases[2].first.cpu = oci::CpuLimits{.realtime_runtime = 5};
  cases[2].second = "linux.resources.cpu.realtimeRuntime: ";
  cases[3].first.network = oci::NetworkLimits{.class_id = 1, .priorities = {}};
  cases[3].second = "linux.resources.network.classID: ";
  cases[4].first.block_io.emplace();
  cases[4].first.block_io->leaf_weight = 100;
  cases[4].second = "linux.resources.blockIO.leafWeight: ";
  for (const auto& [resources, path] : cases) {
    const auto applied = apply_resources(group.targets(), resources);
    ASSERT_FALSE(applied) << path;
    EXPECT_EQ(applied.error().code(), Code::unsupported);
    EXPECT_EQ(applied.error().text(), path + "only cgroup v1 has this, and this host uses cgroup v2; leave it out");
  }
}

TEST(ApplyV2, WritesUnifiedKeysLineByLine) {
  const FakeGroup group(true, "", {{"cgroup.controllers", kAll}, {"memory.high", ""}, {"cgroup.max.depth", ""}});
  oci::Resources resources;
  resources.unified = {{"memory.high", "max\n"}, {"cgroup.max.depth", "3"}};
  EXPECT_EQ(failure(apply_resources(group.targets(), resources)), "");
  EXPECT_EQ(group.text("memory.high"), "max");
  EXPECT_EQ(group.text("cgroup.max.depth"), "3");
}

TEST(ApplyUnified, RefusesKeysThatAreNoLimits) {
  const FakeGroup group(true, "", {{"cgroup.controllers", kAll}, {"cgroup.procs", ""}});
  for (const std::string& key :
       {std::string("../memory.max"), std::string("a/b.max"), std::string("/etc/x"), std::string(".."),
        std::string("memory"), std::string("cgroup.procs"), std::string("cgroup.kill"),
        std::string("cgroup.subtree_control"), std::string(300, 'x') + ".y", std::string("memory.\0max", 11)}) {
    const auto applied = apply_unified(group.targets(), {{key, "1"}});
    ASSERT_FALSE(applied) << key;
    EXPECT_EQ(applied.error().code(), Code::invalid_config) << applied.error().text();
  }
  EXPECT_EQ(group.text("cgroup.procs"), "");
}

TEST(ApplyUnified, IsAnErrorWithoutAUnifiedHierarchy) {
  const FakeGroup group(false, "memory", {{"memory.high", ""}});
  EXPECT_EQ(failure(apply_unified(group.targets(), {{"memory.high", "1"}})),
            "linux.resources.unified[\"memory.high\"]: invalid configuration: this host has no cgroup v2 hierarchy");
}

TEST(ApplyResources, NamesTheControllerThatTheHostLacks) {
  const FakeGroup group(false, "pids", {});
  oci::Resources resources;
  resources.memory = oci::MemoryLimits{.limit = 1000};
  const auto applied = apply_resources(group.targets(), resources);
  ASSERT_FALSE(applied);
  EXPECT_EQ(applied.error().code(), Code::unsupported);
  EXPECT_EQ(applied.error().text(), "linux.resources.memory.limit: this host has no memory controller");
}

TEST(ApplyResources, NamesTheFileThatTheKernelLacks) {
  const FakeGroup group(false, "hugetlb", {});
  oci::Resources resources;
  resources.hugepages = {{"3MB", 1}};
  const auto applied = apply_resources(group.targets(), resources);
  ASSERT_FALSE(applied);
  EXPECT_EQ(applied.error().code(), Code::unsupported);
  EXPECT_EQ(applied.error().text(),
            "linux.resources.hugepageLimits[0]: this kernel has no " + group.path() + "/g/hugetlb.3MB.limit_in_bytes");
}

TEST(ApplyResources, ChecksNamesThatBecomePartsOfFileNames) {
  const FakeGroup group(false, "hugetlb,net_prio,rdma", {});
  std::vector<oci::Resources> cases(5);
  cases[0].hugepages = {{"../2MB", 1}};
  cases[1].hugepages = {{"2MB/../x", 1}};
  cases[2].network = oci::NetworkLimits{.class_id = {}, .priorities = {{"../eth0", 1}}};
  cases[3].network = oci::NetworkLimits{.class_id = {}, .priorities = {{"a-name-too-long-for-linux", 1}}};
  cases[4].rdma["a/b"] = {.hca_handles = 1, .hca_objects = {}};
  for (const oci::Resources& resources : cases) {
    const auto applied = apply_resources(group.targets(), resources);
    ASSERT_FALSE(applied);
    EXPECT_EQ(applied.error().code(), Code::invalid_config) << applied.error().text();
  }
}

TEST(ApplyResources, NeverFollowsALink) {
  const FakeGroup group(true, "", {{"cgroup.controllers", kAll}, {"victim", ""}});
  ASSERT_EQ(::symlink("victim", (group.path() + "/pids.max").c_str()), 0);
  oci::Resources resources;
  resources.pids_limit = 1;
  EXPECT_FALSE(apply_resources(group.targets(), resources));
  EXPECT_EQ(group.text("victim"), "");
}

TEST(ApplyDevicesV1, RefusesRulesThatTheKernelWouldTakeAndForget) {
  const FakeGroup group(false, "devices", {{"devices.allow", ""}, {"devices.deny", ""}});
  const auto hole =
      apply_devices(group.targets(), {{false, 'a', {}, {}, ""}, {true, 'c', 1, {}, "rwm"}, {false, 'c', 1, 1, "w"}});
  ASSERT_FALSE(hole);
  EXPECT_EQ(hole.error().code(), Code::unsupported);
  EXPECT_THAT(hole.error().text(), HasSubstr("linux.resources.devices[2]: cgroup v1 cannot deny \"c 1:1 w\" again"));
  EXPECT_EQ(group.text("devices.deny"), "") << "nothing is written before all is checked";
}

TEST(ApplyDevicesV1, SplitsRulesForBothTypesThatAreNotForEverything) {
  const FakeGroup group(false, "devices", {{"devices.allow", ""}, {"devices.deny", ""}});
  EXPECT_EQ(failure(apply_devices(group.targets(), {{false, 'a', {}, {}, ""}, {true, 'a', 1, 3, "r"}})), "");
  EXPECT_EQ(group.text("devices.deny"), "a");
  EXPECT_EQ(group.text("devices.allow"), "b 1:3 rc 1:3 r");
}

}  // namespace
}  // namespace skink::cgroup
