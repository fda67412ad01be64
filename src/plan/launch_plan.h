// SPDX-License-Identifier: Apache-2.0
// LaunchPlan: everything skink-init will have to do, resolved from a Spec before any process exists. Pure data: no
// descriptor, clock or environment; launch/ opens what it names and encodes it as the flat plan of child_plan.h.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "base/result.h"
#include "oci/spec.h"
#include "plan/child_plan.h"
#include "plan/mount_options.h"
#include "security/security.h"

namespace skink::plan {

/// One hierarchy of control groups as the container's cgroup mount shows it.
struct CgroupView {
  std::string name;  ///< directory below the mount: "memory", "cpu,cpuacct", "unified"; empty when it is the only one
  std::string controllers;  ///< as Hierarchy::controllers; empty for cgroup v2
  std::string host_path;    ///< the container's group on the host
};

/// What make_plan needs to know of the host.
struct HostFacts {
  unsigned last_capability = 40;
  std::uint64_t own_capabilities = ~std::uint64_t{0};  ///< that the runtime has, and can so pass on
  std::vector<CgroupView> cgroups;
  bool apparmor = false;
  bool selinux = false;
  bool user_namespace = false;    ///< we are in one: device nodes of the host are bound, for none can be made
  bool setgroups_denied = false;  ///< in the user namespace that the process will be in
};

struct JoinStep {
  oci::NamespaceType type{};
  std::string path;
  std::uint32_t flag = 0;  ///< CLONE_NEW*
};

struct MountStep {
  std::size_t config_index = 0;  ///< of "mounts"
  MountKind kind = MountKind::fs;
  std::string destination;  ///< inside the root
  std::string type;
  std::string source;  ///< host path of a tree; "source" of a file system; target text of a link
  MountOptions options;
  std::uint32_t flags = 0;  ///< kMount*
  /// With options.idmap: the mapping, or the user namespace that has it.
  std::vector<oci::IdMapping> uid_mappings, gid_mappings;
  std::string idmap_namespace;
};

struct DeviceStep {
  std::string path;
  std::uint32_t mode = 0;  ///< with S_IFMT
  std::uint32_t uid = 0, gid = 0;
  std::uint32_t major = 0, minor = 0;
};

struct LinkStep {
  std::string target, path;
};

struct SysctlStep {
  std::string key, path, value;  ///< path below /proc
};

struct LaunchPlan {
  std::uint32_t flags = 0;        ///< kHasUserNamespace, ...
  std::uint64_t clone_flags = 0;  ///< new namespaces that clone3 makes: not the cgroup and time ones, nor with
                                  ///< kMakeNetwork that of the network, which are made by unshare
  bool new_time_namespace = false;
  std::vector<JoinStep> joins;
  std::string time_offsets;
  std::uint32_t propagation = 0, root_propagation = 0;
  std::vector<MountStep> mounts;
  std::vector<DeviceStep> devices;
  std::vector<LinkStep> links;
  std::vector<SysctlStep> sysctls;
  oci::Strings masked, readonly;
  std::string hostname, domainname;
  std::string label_path, label;
  oci::ConsoleSize console;
  std::vector<oci::IdMapping> uid_mappings, gid_mappings;
  oci::Process process;  ///< args, env, cwd, user, rlimits, scheduler, ... as they are
  oci::Capabilities capabilities;
  std::uint64_t withheld_capabilities = 0;  ///< asked for, and not there to be given
  std::uint64_t withheld_ambient = 0;       ///< asked for as ambient, without being permitted and inheritable
  unsigned last_capability = 0;
  std::uint32_t personality = 0;
  std::uint32_t memory_mode = 0;  ///< MPOL_* with MPOL_F_*
  std::vector<std::uint64_t> memory_nodes;
  std::optional<security::SeccompProgram> seccomp;
  std::optional<int> oom_score_adj;
  std::map<std::string, std::string> net_devices;            ///< host name to name inside
  std::vector<oci::Hook> create_container, start_container;  ///< hooks that skink-init runs
};

/// The plan of a container. Errors name the JSON path. linux.seccomp is compiled by the caller (it is cached).
Result<LaunchPlan> make_plan(const oci::Spec& spec, const HostFacts& host);

/// The plan of one more process in a running container of this spec.
Result<LaunchPlan> make_exec_plan(const oci::Spec& spec, const oci::Process& process, const HostFacts& host);

/// The plan, one step a line.
std::string describe(const LaunchPlan& plan);

/// The rules of linux.resources.devices, before them that everything else is denied, and behind them those that every
/// container gets unless it is allowed everything: mknod of anything, and the
/// use of null, zero, full, random, urandom, tty, console, ptmx and pts (config-linux.md "Default Devices").
std::vector<oci::DeviceRule> with_default_devices(std::vector<oci::DeviceRule> rules);

/// The annotation by which `skink run --init` asks for a small PID 1 of ours.
inline constexpr const char* kInitAnnotation = "org.skink.init";

/// The annotation by which podman asks that the caller's groups are kept (--group-add keep-groups).
inline constexpr const char* kKeepGroupsAnnotation = "run.oci.keep_original_groups";

/// "mount", "pid", ... for messages.
std::string_view namespace_name(oci::NamespaceType type);
/// CLONE_NEW* of a namespace type.
std::uint32_t namespace_flag(oci::NamespaceType type);

}  // namespace skink::plan
