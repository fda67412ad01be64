// SPDX-License-Identifier: Apache-2.0
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "spec_fixture.h"

namespace skink::oci {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;

void remove_namespace(Spec& spec, NamespaceType type) {
  std::erase_if(spec.linux.namespaces, [&](const Namespace& space) { return space.type == type; });
}

TEST(CheckNamespaces, WantsEachTypeOnceAndAbsolutePaths) {
  Spec spec = plain_spec();
  spec.linux.namespaces.push_back({NamespaceType::pid, "/proc/1/ns/pid"});
  spec.linux.namespaces.push_back({NamespaceType::time, "ns/time"});

  EXPECT_THAT(findings(spec), ElementsAre("linux.namespaces[5].type: pid is in entry 0 already",
                                          "linux.namespaces[6].path: \"ns/time\" is not an absolute path"));
}

TEST(CheckUserNamespace, LooksAtMapsWhereThereIsOne) {
  Spec spec = plain_spec();
  spec.linux.uid_mappings = spec.linux.gid_mappings = {{0, 100000, 65536}};
  EXPECT_THAT(findings(spec), ElementsAre());

  spec.linux.namespaces.push_back({NamespaceType::user, ""});
  EXPECT_THAT(findings(spec), IsEmpty());

  spec.linux.gid_mappings.clear();
  EXPECT_THAT(findings(spec), ElementsAre("linux.gidMappings: is missing; a new user namespace needs it"));
  std::swap(spec.linux.uid_mappings, spec.linux.gid_mappings);
  EXPECT_THAT(findings(spec), ElementsAre("linux.uidMappings: is missing; a new user namespace needs it"));
  spec.linux.gid_mappings.clear();
  EXPECT_THAT(findings(spec), IsEmpty()) << "root alone, as the caller";
  spec.process->user.uid = 1;
  EXPECT_THAT(findings(spec), ElementsAre("process.user.uid: 1 is not in linux.uidMappings"));
  spec.process->user.uid = 0;

  spec.linux.namespaces.back().path = "/proc/7/ns/user";
  EXPECT_THAT(findings(spec), IsEmpty()) << "a joined one has its maps";
}

TEST(CheckUserNamespace, WantsTheProcessInTheMaps) {
  Spec spec = plain_spec();
  spec.linux.namespaces.push_back({NamespaceType::user, ""});
  spec.linux.uid_mappings = spec.linux.gid_mappings = {{0, 100000, 10}, {1000, 200000, 1}};
  spec.process->user = {.uid = 1000, .gid = 10, .additional_gids = {9, 1001}};

  EXPECT_THAT(findings(spec), ElementsAre("process.user.gid: 10 is not in linux.gidMappings",
                                          "process.user.additionalGids[1]: 1001 is not in linux.gidMappings"));
}

TEST(CheckUserNamespace, RefusesMapsThatTheKernelRefuses) {
  Spec spec = plain_spec();
  spec.linux.namespaces.push_back({NamespaceType::user, ""});
  spec.linux.gid_mappings = {{0, 0, 1}};
  spec.linux.uid_mappings = {{0, 0, 10}, {10, 9, 1}, {9, 20, 1}, {50, 50, 0}, {60, 4294967290, 6}};

  EXPECT_THAT(findings(spec),
              ElementsAre("linux.uidMappings[1]: overlaps with entry 0", "linux.uidMappings[2]: overlaps with entry 0",
                          "linux.uidMappings[3].size: is 0",
                          "linux.uidMappings[4].size: 6 reaches beyond the last id, 4294967294"));
}

TEST(CheckUserNamespace, CountsTheEntriesOfAMap) {
  Spec spec = plain_spec();
  spec.linux.namespaces.push_back({NamespaceType::user, ""});
  spec.linux.gid_mappings = {{0, 0, 1}};
  for (std::uint32_t i = 0; i < 341; ++i) spec.linux.uid_mappings.push_back({i, i, 1});

  EXPECT_THAT(findings(spec), ElementsAre("linux.uidMappings: has more than the kernel's 340 entries"));
}

TEST(CheckTimeOffsets, AreNotForATimeNamespaceThatIsJoined) {
  Spec spec = plain_spec();
  spec.linux.time_offsets["monotonic"] = {5, 0};
  EXPECT_THAT(findings(spec), ElementsAre());

  spec.linux.namespaces.push_back({NamespaceType::time, "/proc/1/ns/time"});
  EXPECT_THAT(findings(spec), ElementsAre("linux.timeOffsets: needs a new time namespace in linux.namespaces"));

  spec.linux.namespaces.back().path.clear();
  spec.linux.time_offsets["realtime"] = {};
  EXPECT_THAT(findings(spec), ElementsAre("linux.timeOffsets[\"realtime\"]: is not one of monotonic, boottime"));
}

TEST(CheckDevices, WantsPathsWithAName) {
  Spec spec = plain_spec();
  spec.linux.devices = {{.path = "/dev/fuse"}, {.path = "dev/x"}, {.path = "/../../etc/x"}, {.path = "//"}};

  EXPECT_THAT(findings(spec), ElementsAre("linux.devices[1].path: \"dev/x\" is not an absolute path",
                                          "linux.devices[2].path: \"/../../etc/x\" has no name or has .. in it",
                                          "linux.devices[3].path: \"//\" has no name or has .. in it"));
}

TEST(CheckNetDevices, WantsInterfaceNames) {
  for (const char* name : {"../x", "a/b", "sixteen-letters-", "a b", "a:b", "..", "a%s", "a%d%d", "%"}) {
    Spec spec = plain_spec();
    spec.linux.net_devices = {{"eth0", name}};
    EXPECT_THAT(findings(spec),
                ElementsAre("linux.netDevices[\"eth0\"]: is not moved from and to names of network interfaces"))
        << name;
  }
  Spec spec = plain_spec();
  spec.linux.net_devices = {{"eth0", ""}, {"eth1", "eth%d"}, {"eth2", "eth%d"}, {"eth3", "fifteen-letters"}};
  EXPECT_THAT(findings(spec), IsEmpty());

  spec.linux.net_devices["eth4"] = "eth0";
  EXPECT_THAT(findings(spec), ElementsAre("linux.netDevices[\"eth4\"]: has the same name inside as another one"));
  remove_namespace(spec, NamespaceType::network);
  EXPECT_THAT(findings(spec), testing::Contains("linux.netDevices: needs a network namespace in linux.namespaces"));
}

TEST(CheckCgroupsPath, CannotLeaveItsRoot) {
  for (const char* good : {"", "/a/b", "a", "/a..b/..c", "system.slice:skink:name", ":skink:name"}) {
    Spec spec = plain_spec();
    spec.linux.cgroups_path = good;
    EXPECT_THAT(findings(spec), IsEmpty()) << good;
  }
  for (const char* bad : {"..", "/../x", "a/../../b", "/a/..", "../a"}) {
    Spec spec = plain_spec();
    spec.linux.cgroups_path = bad;
    EXPECT_THAT(findings(spec), ElementsAre(str("linux.cgroupsPath: \"", bad, "\" has .. in it")));
  }
}

TEST(CheckResources, KeepsNamesInsideTheCgroup) {
  Spec spec = plain_spec();
  Resources& resources = spec.linux.resources.emplace();
  resources.unified = {{"../x.y", "1"},       {"a/b.c", "1"}, {"", "1"},  {"memory.high", "a\nb"},
                       {"cgroup.procs", "0"}, {"tasks", "0"}, {"..", "1"}};
  const std::string not_a_file = " is not the name of a cgroup file such as memory.high";

  EXPECT_THAT(findings(spec),
              testing::UnorderedElementsAre(
                  "linux.resources.unified[\"../x.y\"]:" + not_a_file,
                  "linux.resources.unified[\"a/b.c\"]:" + not_a_file, "linux.resources.unified[\"\"]:" + not_a_file,
                  "linux.resources.unified[\"tasks\"]:" + not_a_file, "linux.resources.unified[\"..\"]:" + not_a_file,
                  "linux.resources.unified[\"cgroup.procs\"]: is not a setting"));
}

TEST(CheckResources, ReadsPageSizesAndDeviceNames) {
  Spec spec = plain_spec();
  Resources& resources = spec.linux.resources.emplace();
  for (const char* size : {"2MB", "64KB", "1GB", "2Mb", "2", "MB", "02MB", "../2MB", "-1KB", "2TB"})
    resources.hugepages.push_back({size, 0});
  resources.rdma = {{"mlx5_1", {3, {}}}, {"a b", {3, {}}}, {"../x", {3, {}}}, {"mlx4_0", {}}};
  resources.network.emplace().priorities = {{"eth0", 1}, {"a b", 2}};

  std::vector<std::string> expected;
  for (int i = 3; i < 10; ++i)
    expected.push_back(str("linux.resources.hugepageLimits[", i, "].pageSize: ", "\"",
                           resources.hugepages.at(static_cast<std::size_t>(i)).page_size,
                           "\" is not a size such as 2MB"));
  expected.push_back("linux.resources.network.priorities[1].name: \"a b\" is not the name of a network interface");
  expected.push_back("linux.resources.rdma[\"../x\"]: is not the name of a device");
  expected.push_back("linux.resources.rdma[\"a b\"]: is not the name of a device");
  expected.push_back("linux.resources.rdma[\"mlx4_0\"]: has neither hcaHandles nor hcaObjects");
  EXPECT_EQ(findings(spec), expected);
}

TEST(CheckResources, FindsLimitsThatContradictEachOther) {
  Spec spec = plain_spec();
  Resources& resources = spec.linux.resources.emplace();
  resources.devices = {{.access = "rwa"}, {.allow = true, .access = "rx"}};
  resources.memory.emplace();
  resources.memory->limit = 100;
  resources.memory->swap = 99;
  resources.cpu.emplace();
  resources.cpu->quota = 5000;
  resources.cpu->burst = 6000;
  resources.cpu->cpus = "0-";
  resources.cpu->mems = "x";
  resources.block_io.emplace().weight_devices = {{.major = 8}};

  EXPECT_THAT(findings(spec),
              ElementsAre("linux.resources.devices[1].access: \"rx\" is not made of r, w and m",
                          "linux.resources.memory.swap: 99 is below the limit 100; it counts memory and swap together",
                          "linux.resources.cpu.cpus: \"0-\" is not a list of CPUs such as 0-3,7, up to 8191",
                          "linux.resources.cpu.mems: \"x\" is not a list of memory nodes such as 0-3,7, up to 1023",
                          "linux.resources.cpu.burst: 6000 is above the quota 5000",
                          "linux.resources.blockIO.weightDevice[0]: has neither weight nor leafWeight"));
}

TEST(CheckResources, FindsNumbersThatTheKernelWouldNotTake) {
  Spec spec = plain_spec();
  Resources& resources = spec.linux.resources.emplace();
  resources.devices = {{.major = 4294967296}};
  resources.pids_limit = 4194305;
  resources.cpu.emplace();
  resources.cpu->period = 1000001;
  resources.cpu->quota = 999;
  resources.cpu->realtime_runtime = 1000001;
  resources.cpu->cpus = "8192";
  resources.block_io.emplace().weight = 9;
  resources.block_io->leaf_weight = 1001;

  EXPECT_THAT(
      findings(spec),
      ElementsAre("linux.resources.devices[0].major: 4294967296 is no number of a device",
                  "linux.resources.pids.limit: 4194305 is above 4194304, the most that Linux can have; -1 is no limit",
                  "linux.resources.cpu.cpus: \"8192\" is not a list of CPUs such as 0-3,7, up to 8191",
                  "linux.resources.cpu.period: 1000001 is not from 1000 to 1000000 microseconds",
                  "linux.resources.cpu.realtimeRuntime: 1000001 is above the period of 1000000 microseconds",
                  "linux.resources.cpu.quota: 999 is below 1000 microseconds",
                  "linux.resources.blockIO.weight: 9 is not from 10 to 1000",
                  "linux.resources.blockIO.leafWeight: 1001 is not from 10 to 1000"));
}

TEST(CheckResources, TakesTheBoundsThemselvesAndZeroForNone) {
  for (const bool most : {false, true}) {
    Spec spec = plain_spec();
    Resources& resources = spec.linux.resources.emplace();
    resources.pids_limit = most ? 4194304 : 0;
    resources.cpu.emplace();
    resources.cpu->period = most ? 1000000 : 0;
    resources.cpu->quota = most ? 1000 : 0;
    resources.cpu->realtime_runtime = most ? 1000000 : 0;
    resources.block_io.emplace().weight = static_cast<std::uint16_t>(most ? 1000 : 0);
    EXPECT_THAT(findings(spec), IsEmpty());
  }
}

TEST(CheckResources, TakesUnlimitedSwapAndQuota) {
  Spec spec = plain_spec();
  Resources& resources = spec.linux.resources.emplace();
  resources.memory.emplace();
  resources.memory->limit = 100;
  resources.memory->swap = -1;
  resources.cpu.emplace();
  resources.cpu->quota = -1;
  resources.cpu->burst = 6;

  EXPECT_THAT(findings(spec), IsEmpty());
}

TEST(CheckIntelRdt, KeepsOneLinePerSchemaAndOneNamePerClass) {
  Spec spec = plain_spec();
  IntelRdt& rdt = spec.linux.intel_rdt.emplace();
  rdt.clos_id = "/";
  EXPECT_THAT(findings(spec), IsEmpty());

  rdt.clos_id = "../x";
  rdt.schemata = {"L3:0=f", "L3:0=f\nMB:0=1"};
  rdt.mem_bw_schema = "L3:0";
  EXPECT_THAT(findings(spec), ElementsAre("linux.intelRdt.closID: \"../x\" is not a name without slashes",
                                          "linux.intelRdt.schemata[1]: \"L3:0=f\\x0aMB:0=1\" is not one line",
                                          "linux.intelRdt.memBwSchema: \"L3:0\" does not begin with MB:"));
}

TEST(CheckMemoryPolicy, KnowsWhichModesTakeNodes) {
  const auto with = [](const char* mode, const char* nodes) {
    Spec spec = plain_spec();
    spec.linux.memory_policy = MemoryPolicy{mode, nodes, {}};
    return findings(spec);
  };

  EXPECT_THAT(with("MPOL_BIND", "0-1"), IsEmpty());
  EXPECT_THAT(with("MPOL_PREFERRED", ""), IsEmpty());
  EXPECT_THAT(with("MPOL_LOCAL", "0"), ElementsAre("linux.memoryPolicy.nodes: must be empty for MPOL_LOCAL"));
  EXPECT_THAT(with("MPOL_BIND", ""), ElementsAre("linux.memoryPolicy.nodes: is missing; MPOL_BIND needs it"));
  EXPECT_THAT(with("MPOL_BIND", "x"),
              ElementsAre("linux.memoryPolicy.nodes: \"x\" is not a list of memory nodes such as 0-3,7, up to 1023"));
}

TEST(CheckPaths, WantsMaskedAndReadOnlyPathsAbsolute) {
  Spec spec = plain_spec();
  spec.linux.masked_paths = {"/proc/kcore", "proc/keys"};
  spec.linux.readonly_paths = {""};

  EXPECT_THAT(findings(spec), ElementsAre("linux.maskedPaths[1]: \"proc/keys\" is not an absolute path",
                                          "linux.readonlyPaths[0]: \"\" is not an absolute path"));
}

struct SysctlCase {
  const char* key;
  const char* finding;  // after linux.sysctl["KEY"]: ; nullptr: none
};

TEST(CheckSysctl, TakesOnlyWhatANamespaceOwns) {
  constexpr const char* kHost = "would change the host: it belongs to no namespace";
  constexpr const char* kNoName = "is not the name of a kernel parameter";
  const SysctlCase cases[] = {
      {"kernel.msgmax", nullptr},
      {"kernel/shm_rmid_forced", nullptr},
      {"kernel.sem", nullptr},
      {"kernel.domainname", nullptr},
      {"fs.mqueue.msg_max", nullptr},
      {"fs/mqueue/msg_max", nullptr},
      {"net.ipv4.ip_forward", nullptr},
      {"net.ipv4.conf.eno2/100.rp_filter", nullptr},
      {"net/ipv4/conf/eno2.100/rp_filter", nullptr},
      {"kernel.hostname", "is what the field hostname sets: use that"},
      {"kernel.core_pattern", kHost},
      {"kernel/core_pattern", kHost},
      {"kernel.msg.x", kHost},
      {"kernel.semaphore", kHost},
      {"fs.mqueue", kHost},
      {"fs.mqueue.a.b", kHost},
      {"fs.file-max", kHost},
      {"vm.overcommit_memory", kHost},
      {"network.x", kHost},
      {"Net.ipv4.ip_forward", kHost},
      {"net/../kernel/core_pattern", kNoName},
      {"net.//.kernel.core_pattern", kNoName},
      {"net/./x", kNoName},
      {"net//x", kNoName},
      {"/net/ipv4/ip_forward", kNoName},
      {"net.ipv4.", kNoName},
      {"net", kNoName},
      {"", kNoName},
      {".", kNoName},
      {"net.a\nb", kNoName},
      {"kernel.shm_rmid_forced=1+kernel.core_pattern", kHost},
  };

  for (const auto& [key, finding] : cases) {
    Spec spec = plain_spec();
    spec.linux.sysctl = {{key, "1"}};
    if (finding == nullptr) EXPECT_THAT(findings(spec), IsEmpty()) << key;
    else EXPECT_THAT(findings(spec), ElementsAre(testing::EndsWith(str("]: ", finding)))) << key;
  }
}

TEST(CheckSysctl, WantsTheNamespaceThere) {
  Spec spec = plain_spec();
  spec.linux.sysctl = {{"net.core.somaxconn", "1"}, {"kernel.msgmax", "1"}, {"kernel.domainname", "x"}};
  for (const NamespaceType type : {NamespaceType::network, NamespaceType::ipc, NamespaceType::uts})
    remove_namespace(spec, type);

  EXPECT_THAT(
      findings(spec),
      ElementsAre(
          "linux.sysctl[\"kernel.domainname\"]: would change the host: the container has no uts namespace of its own",
          "linux.sysctl[\"kernel.msgmax\"]: would change the host: the container has no ipc namespace of its own",
          "linux.sysctl[\"net.core.somaxconn\"]: would change the host: the container has no network namespace of its "
          "own"));
}

TEST(CheckSysctl, WantsOneLineAsTheValue) {
  Spec spec = plain_spec();
  spec.linux.sysctl = {
      {"net.core.somaxconn", "1\n2"}, {"net.ipv4.ping_group_range", "0 1"}, {"net.ipv4.tcp_rmem", "1\t2"}};

  EXPECT_THAT(findings(spec), ElementsAre("linux.sysctl[\"net.core.somaxconn\"]: \"1\\x0a2\" is more than one line"));
}

TEST(CheckSeccomp, WantsAnErrnoOnlyWhereItCounts) {
  Spec spec = plain_spec();
  spec.linux.seccomp = Seccomp{.default_action = "SCMP_ACT_KILL", .default_errno_ret = 1};
  spec.linux.seccomp->syscalls = {{.names = {"a"}, .action = "SCMP_ACT_ERRNO", .errno_ret = 4095},
                                  {.names = {"a"}, .action = "SCMP_ACT_ERRNO", .errno_ret = 4096},
                                  {.names = {"a"}, .action = "SCMP_ACT_TRACE", .errno_ret = 65535},
                                  {.names = {"a", ""}, .action = "SCMP_ACT_ALLOW", .errno_ret = 1},
                                  {.names = {}, .action = "SCMP_ACT_ALLOW"}};

  EXPECT_THAT(findings(spec),
              ElementsAre("linux.seccomp.defaultErrnoRet: is for SCMP_ACT_ERRNO and SCMP_ACT_TRACE only",
                          "linux.seccomp.syscalls[1].errnoRet: 4096 is above 4095",
                          "linux.seccomp.syscalls[3].errnoRet: is for SCMP_ACT_ERRNO and SCMP_ACT_TRACE only",
                          "linux.seccomp.syscalls[3].names[1]: is empty", "linux.seccomp.syscalls[4].names: is empty"));
}

TEST(CheckSeccomp, WantsAListenerForNotifications) {
  Spec spec = plain_spec();
  spec.linux.seccomp = Seccomp{.default_action = "SCMP_ACT_NOTIFY", .listener_metadata = "m"};
  spec.linux.seccomp->syscalls = {{.names = {"mknod"}, .action = "SCMP_ACT_NOTIFY"}};

  EXPECT_THAT(findings(spec),
              ElementsAre("linux.seccomp.defaultAction: SCMP_ACT_NOTIFY can be the action of named calls only",
                          "linux.seccomp.listenerPath: is missing; SCMP_ACT_NOTIFY needs it",
                          "linux.seccomp.listenerMetadata: is set without listenerPath"));
}

}  // namespace
}  // namespace skink::oci
