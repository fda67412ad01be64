// SPDX-License-Identifier: Apache-2.0
#include "plan/launch_plan.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <linux/sched.h>

namespace skink::plan {
namespace {

using oci::NamespaceType;
using testing::HasSubstr;

oci::Spec small_spec() {
  oci::Spec spec;
  spec.oci_version = "1.3.0";
  spec.process.emplace();
  spec.process->args = {"/bin/true"};
  spec.process->cwd = "/";
  spec.root.path = "rootfs";
  spec.root.readonly = true;
  for (const auto type :
       {NamespaceType::pid, NamespaceType::network, NamespaceType::ipc, NamespaceType::uts, NamespaceType::mount})
    spec.linux.namespaces.push_back({type, ""});
  return spec;
}

oci::Mount mount(std::string destination, std::string type, std::string source, oci::Strings options) {
  oci::Mount out;
  out.destination = std::move(destination);
  out.type = std::move(type);
  out.source = std::move(source);
  out.options = std::move(options);
  return out;
}

TEST(MakePlan, NewNamespacesAreMadeByTheCloneAndTheNetworkBesideTheLauncher) {
  const auto plan = make_plan(small_spec(), {});

  ASSERT_TRUE(plan) << plan.error().text();
  EXPECT_EQ(plan->clone_flags, std::uint64_t{CLONE_NEWPID} | CLONE_NEWIPC | CLONE_NEWUTS | CLONE_NEWNS);
  EXPECT_NE(plan->flags & kMakeNetwork, 0U);
  EXPECT_THAT(describe(*plan), HasSubstr("new network namespace\n"));
  EXPECT_EQ(plan->flags & kTwoStages, 0U);
  EXPECT_NE(plan->flags & kRootReadonly, 0U);
}

TEST(MakePlan, ANetworkThatDevicesAreMovedIntoIsThereFromTheStart) {
  auto spec = small_spec();
  spec.linux.net_devices = {{"dummy0", "eth"}};

  const auto plan = make_plan(spec, {});

  ASSERT_TRUE(plan);
  EXPECT_NE(plan->clone_flags & CLONE_NEWNET, 0U);
  EXPECT_EQ(plan->flags & kMakeNetwork, 0U);
}

TEST(MakePlan, WithoutAPidNamespaceOfItsOwnTheProcessIsClonedByTheStub) {
  auto spec = small_spec();
  std::erase_if(spec.linux.namespaces, [](const auto& ns) { return ns.type == NamespaceType::pid; });

  const auto plan = make_plan(spec, {});

  ASSERT_TRUE(plan);
  EXPECT_NE(plan->flags & kTwoStages, 0U) << "its executable would be the runtime's own file to those in there (A01)";
}

TEST(MakePlan, WithoutAMountNamespaceTheMountsAreTheHosts) {
  auto spec = small_spec();
  std::erase_if(spec.linux.namespaces, [](const auto& ns) { return ns.type == NamespaceType::mount; });

  const auto plan = make_plan(spec, {});

  ASSERT_TRUE(plan);
  EXPECT_NE(plan->flags & kHostMounts, 0U);
}

TEST(MakePlan, AHostNameNeedsAUtsNamespace) {
  auto spec = small_spec();
  spec.hostname = "c1";
  std::erase_if(spec.linux.namespaces, [](const auto& ns) { return ns.type == NamespaceType::uts; });

  EXPECT_EQ(make_plan(spec, {}).error().text(), "hostname: would be the host's own; add a uts namespace");
}

TEST(MakePlan, AmbientCapabilitiesStayWithinPermittedAndInheritable) {
  auto spec = small_spec();
  spec.process->capabilities =
      oci::Capabilities{.bounding = 7, .effective = 7, .inheritable = 2, .permitted = 3, .ambient = 7};

  EXPECT_EQ(make_plan(spec, {})->capabilities.ambient, 2U);
}

TEST(MakePlan, CapabilitiesBeyondTheKernelsLastAreDropped) {
  auto spec = small_spec();
  spec.process->capabilities =
      oci::Capabilities{.bounding = ~0ULL, .effective = 0, .inheritable = 0, .permitted = 0, .ambient = 0};
  HostFacts host;
  host.last_capability = 40;

  EXPECT_EQ(make_plan(spec, host)->capabilities.bounding, (1ULL << 41) - 1);
}

TEST(MakePlan, ALabelThatTheHostCannotPutOnIsRefused) {
  auto spec = small_spec();
  spec.process->apparmor_profile = "strict";
  EXPECT_EQ(make_plan(spec, {}).error().text(), "process.apparmorProfile: AppArmor is not enabled on this host");

  spec = small_spec();
  spec.process->selinux_label = "system_u:system_r:x_t:s0";
  EXPECT_EQ(make_plan(spec, {}).error().code(), Code::unsupported);
}

TEST(MakePlan, SysctlKeysBecomePathsWithEitherSeparator) {
  auto spec = small_spec();
  spec.linux.sysctl = {{"net.ipv4.conf.eth0/1.rp_filter", "1"}, {"net/ipv4/conf/eth0.1/rp_filter", "0"}};

  const auto plan = make_plan(spec, {});

  ASSERT_TRUE(plan);
  for (const auto& sysctl : plan->sysctls) EXPECT_EQ(sysctl.path, "sys/net/ipv4/conf/eth0.1/rp_filter") << sysctl.key;
}

TEST(MakePlan, ABoundDevKeepsItsNodes) {
  auto spec = small_spec();
  spec.mounts = {mount("/dev", "bind", "/dev", {"rbind"})};
  EXPECT_TRUE(make_plan(spec, {})->devices.empty());

  spec.mounts = {mount("/dev", "tmpfs", "tmpfs", {})};
  EXPECT_EQ(make_plan(spec, {})->devices.size(), 6U);
}

TEST(MakePlan, CgroupMountOnV1IsOneMountAHierarchyBelowASealedTmpfs) {
  auto spec = small_spec();
  spec.linux.namespaces.push_back({NamespaceType::cgroup, ""});
  spec.mounts = {mount("/sys/fs/cgroup", "cgroup", "cgroup", {"ro", "nosuid"})};
  HostFacts host;
  host.cgroups = {{"cpu,cpuacct", "cpu,cpuacct", "/sys/fs/cgroup/cpu,cpuacct/c1"}, {"systemd", "name=systemd", "/x"}};

  const auto plan = make_plan(spec, host);

  ASSERT_TRUE(plan);
  const std::string text = describe(*plan);
  EXPECT_THAT(text, HasSubstr("mount tmpfs tmpfs on /sys/fs/cgroup nosuid mode=755\n"
                              "mount cgroup cgroup on /sys/fs/cgroup/cpu,cpuacct ro,nosuid cpu cpuacct\n"
                              "link /sys/fs/cgroup/cpu -> cpu,cpuacct\n"
                              "link /sys/fs/cgroup/cpuacct -> cpu,cpuacct\n"
                              "mount cgroup cgroup on /sys/fs/cgroup/systemd ro,nosuid none name=systemd\n"
                              "mount remount cgroup on /sys/fs/cgroup ro\n"));
}

TEST(MakePlan, WithoutACgroupNamespaceTheContainersOwnGroupIsBound) {
  auto spec = small_spec();
  spec.mounts = {mount("/sys/fs/cgroup", "cgroup", "cgroup", {"ro"})};
  HostFacts host;
  host.cgroups = {{"", "", "/sys/fs/cgroup/skink/c1"}};

  EXPECT_THAT(describe(*make_plan(spec, host)), HasSubstr("mount bind /sys/fs/cgroup/skink/c1 on /sys/fs/cgroup ro\n"));
}

TEST(MakePlan, HooksOfTheContainersNamespacesAreSkinkInits) {
  auto spec = small_spec();
  spec.hooks.create_container.push_back({"/bin/outer", {}, {}, {}});
  spec.hooks.start_container.push_back({"/bin/inner", {}, {}, {}});

  const auto plan = *make_plan(spec, {});

  ASSERT_EQ(plan.create_container.size(), 1U);
  ASSERT_EQ(plan.start_container.size(), 1U);
  EXPECT_EQ(plan.start_container[0].path, "/bin/inner");
  EXPECT_EQ(plan.flags & kHooks, 0U) << "there is nothing for the launcher to run";
}

oci::Mount idmapped(std::vector<std::string> options) {
  auto out = mount("/m", "bind", "/srv", std::move(options));
  out.options.push_back("rbind");
  return out;
}

TEST(MakePlan, AnIdmappedMountHasItsOwnMappingOrTheContainers) {
  auto spec = small_spec();
  spec.linux.namespaces.push_back({oci::NamespaceType::user, ""});
  spec.linux.uid_mappings = spec.linux.gid_mappings = {{0, 0, 1}, {1, 2, 1000}};
  spec.mounts = {idmapped({"idmap"}), idmapped({"ridmap"})};
  spec.mounts[1].uid_mappings = spec.mounts[1].gid_mappings = {{5, 6, 7}};

  const auto plan = *make_plan(spec, {});

  EXPECT_EQ(plan.mounts[0].uid_mappings, spec.linux.uid_mappings);
  EXPECT_FALSE(plan.mounts[0].options.idmap_recursive);
  EXPECT_EQ(plan.mounts[1].gid_mappings, spec.mounts[1].gid_mappings);
  EXPECT_TRUE(plan.mounts[1].options.idmap_recursive);
}

TEST(MakePlan, CrunsWordsForAMappingCanBeRelativeToTheContainers) {
  auto spec = small_spec();
  spec.linux.namespaces.push_back({oci::NamespaceType::user, ""});
  spec.linux.uid_mappings = spec.linux.gid_mappings = {{0, 0, 1}, {1, 2, 1000}};
  spec.mounts = {idmapped({"idmap=uids=@1-3-10#0-0-1;gids=1-3-10"})};

  const auto plan = *make_plan(spec, {});

  EXPECT_EQ(plan.mounts[0].uid_mappings, (std::vector<oci::IdMapping>{{1, 4, 10}, {0, 0, 1}}));
  EXPECT_EQ(plan.mounts[0].gid_mappings, (std::vector<oci::IdMapping>{{1, 3, 10}}));
}

TEST(MakePlan, AnIdmappedMountWithoutAMappingIsRefused) {
  auto spec = small_spec();
  for (const auto* option : {"idmap", "idmap=uids=0-1-1", "idmap=uids=0-1", "idmap=who=0-1-1", "idmap=uids=0-1-x"}) {
    spec.mounts = {idmapped({option})};
    EXPECT_EQ(make_plan(spec, {}).error().code(), Code::invalid_config) << option;
  }
}

TEST(MakePlan, AMountLabelIsOnWhatIsMadeForTheContainer) {
  auto spec = small_spec();
  spec.linux.mount_label = "label";
  spec.mounts = {mount("/proc", "proc", "proc", {}), mount("/t", "tmpfs", "tmpfs", {}),
                 mount("/b", "bind", "/srv", {})};
  HostFacts host;

  EXPECT_EQ(make_plan(spec, host).error().text(), "linux.mountLabel: SELinux is not enabled on this host");
  host.selinux = true;
  const auto plan = *make_plan(spec, host);

  const MountOptions none;
  EXPECT_EQ(plan.mounts[0].options.params, none.params);
  ASSERT_EQ(plan.mounts[1].options.params.size(), 1U);
  EXPECT_EQ(plan.mounts[1].options.params[0].first, "context");
  EXPECT_EQ(plan.mounts[2].options.params, none.params);
}

TEST(MakePlan, TmpcopyupIsForTmpfsOnly) {
  auto spec = small_spec();
  spec.mounts = {mount("/x", "proc", "proc", {"tmpcopyup"})};

  EXPECT_EQ(make_plan(spec, {}).error().text(), "mounts[0]: tmpcopyup is an option of tmpfs");
}

TEST(WithDefaultDevices, TheDefaultsComeLastAndSoAlwaysHold) {
  oci::DeviceRule deny;
  const auto rules = with_default_devices({deny});

  ASSERT_EQ(rules.size(), 12U);
  EXPECT_FALSE(rules.front().allow);
  EXPECT_TRUE(rules.back().allow);
  EXPECT_EQ(rules.back().major, 136);
}

TEST(WithDefaultDevices, WhatNoRuleSpeaksOfIsDenied) {
  oci::DeviceRule fuse;
  fuse.allow = true;
  fuse.type = 'c';
  fuse.major = 10;
  for (const auto& rules : {with_default_devices({}), with_default_devices({fuse})}) {
    EXPECT_FALSE(rules.front().allow);
    EXPECT_EQ(rules.front().type, 'a');
  }
}

TEST(WithDefaultDevices, WhereEverythingIsAllowedADeniedDeviceStaysDenied) {
  oci::DeviceRule all, disk;
  all.allow = true;
  all.access = "rwm";
  disk.type = 'b';
  disk.major = 8;
  oci::DeviceRule node = disk;
  node.access = "m";
  const auto rules = with_default_devices({all, disk, node});
  ASSERT_EQ(rules.size(), 2U);
  EXPECT_FALSE(rules[1].allow);
  EXPECT_EQ(rules[1].access, "rw") << "a node can be made";
}

TEST(Describe, NamesEveryStepInOrder) {
  auto spec = small_spec();
  spec.hostname = "c1";
  spec.process->no_new_privileges = true;
  spec.mounts = {mount("/proc", "proc", "proc", {"nosuid"}), mount("/data", "bind", "/srv", {"rbind", "ro"})};
  spec.linux.masked_paths = {"/proc/kcore"};
  spec.linux.readonly_paths = {"/proc/sys"};

  const std::string text = describe(*make_plan(spec, {}));

  EXPECT_THAT(text, HasSubstr("mount proc proc on /proc nosuid\nmount bind /srv on /data ro\n"));
  EXPECT_THAT(text, HasSubstr("device /dev/null 1:3 mode 666\n"));
  EXPECT_THAT(text, HasSubstr("read-only /proc/sys\nmask /proc/kcore\nroot read-only\nhostname c1\n"));
  EXPECT_THAT(text, HasSubstr("user 0:0\nno new privileges\ndirectory /\nexecute \"/bin/true\"\n"));
}

}  // namespace
}  // namespace skink::plan
