// SPDX-License-Identifier: Apache-2.0
#include "plan/launch_plan.h"

#include <linux/mount.h>
#include <linux/sched.h>
#include <sched.h>
#include <sys/stat.h>

#include <algorithm>
#include <array>
#include <set>

#include "base/table_text.h"
#include "base/text.h"
#include "plan/idmap.h"
#include "plan/run_mounts.h"

namespace skink::plan {

using oci::NamespaceType;

namespace {

struct NamespaceWords {
  NamespaceType type;
  TableText<8> name;
  std::uint32_t flag;
};
constexpr std::array<NamespaceWords, 8> kNamespaces{{
    // Order: as they are made. Joining has an order of its own (child/join.cc).
    {NamespaceType::user, "user", CLONE_NEWUSER},
    {NamespaceType::pid, "pid", CLONE_NEWPID},
    {NamespaceType::network, "network", CLONE_NEWNET},
    {NamespaceType::ipc, "ipc", CLONE_NEWIPC},
    {NamespaceType::uts, "uts", CLONE_NEWUTS},
    {NamespaceType::cgroup, "cgroup", CLONE_NEWCGROUP},
    {NamespaceType::time, "time", 0x80},
    {NamespaceType::mount, "mount", CLONE_NEWNS},
}};

constexpr std::uint32_t kRecursive = 16384, kPrivate = 1U << 18, kSlave = 1U << 19;

}  // namespace

std::string_view namespace_name(NamespaceType type) {
  for (const auto& each : kNamespaces)
    if (each.type == type) return each.name;
  return "unknown";
}

std::uint32_t namespace_flag(NamespaceType type) {
  for (const auto& each : kNamespaces)
    if (each.type == type) return each.flag;
  return 0;
}

namespace {

Result<void> plan_namespaces(const oci::Spec& spec, LaunchPlan& plan) {
  for (const auto& words : kNamespaces) {
    const auto* ns = spec.find_namespace(words.type);
    if (ns == nullptr) continue;
    if (!ns->path.empty()) {
      plan.joins.push_back({words.type, ns->path, words.flag});
    } else if (words.type == NamespaceType::cgroup) {
      plan.flags |= kNewCgroupNamespace;
    } else if (words.type == NamespaceType::time) {
      plan.new_time_namespace = true;
    } else {
      plan.clone_flags |= words.flag;
    }
  }
  if ((plan.clone_flags & CLONE_NEWUSER) != 0) {
    plan.flags |= kHasUserNamespace | kBindDevices;
    plan.uid_mappings = spec.linux.uid_mappings;
    plan.gid_mappings = spec.linux.gid_mappings;
  }
  for (const auto& join : plan.joins) {
    if (join.type == NamespaceType::user) plan.flags |= kHasUserNamespace | kBindDevices;
    if (join.type == NamespaceType::mount) plan.flags |= kJoinedMounts;
  }
  // What the kernel does not lock by itself: a tree that comes by descriptor.
  if ((plan.flags & kHasUserNamespace) != 0 && (plan.clone_flags & CLONE_NEWNS) != 0) plan.flags |= kOwnCopies;
  plan.net_devices = spec.linux.net_devices;
  if ((plan.clone_flags & CLONE_NEWNET) != 0) plan.flags |= kNewNetwork;
  // To make one takes the kernel longer than all others together: the process does it while the launcher is at work on
  // groups and records. But devices are moved in before the process is let go.
  if ((plan.flags & kNewNetwork) != 0 && plan.net_devices.empty()) {
    plan.flags |= kMakeNetwork;
    plan.clone_flags &= ~std::uint64_t{CLONE_NEWNET};
  }
  const bool joins_before_clone = std::any_of(plan.joins.begin(), plan.joins.end(), [](const JoinStep& join) {
    return join.type == NamespaceType::pid || join.type == NamespaceType::user || join.type == NamespaceType::time;
  });
  const bool own_pids = (plan.clone_flags & CLONE_NEWPID) != 0;
  // A pid namespace of others (joined or shared with the host) shows our executable to them before it is the stub, so
  // the stub joins first and then clones (attack A01). In a new user namespace an execve before its maps are written
  // would lose all capabilities, so there too the stub is executed first.
  const bool new_user = (plan.clone_flags & CLONE_NEWUSER) != 0;
  if (joins_before_clone || !own_pids || plan.new_time_namespace || new_user) plan.flags |= kTwoStages;
  if (plan.new_time_namespace)
    for (const auto& [clock, offset] : spec.linux.time_offsets)
      plan.time_offsets += str(clock, ' ', offset.seconds, ' ', offset.nanoseconds, '\n');
  if (spec.find_namespace(NamespaceType::mount) == nullptr) plan.flags |= kHostMounts;
  return {};
}

MountStep cgroup_link(const MountStep& step, const std::string& target, const std::string& name) {
  MountStep link;
  link.config_index = step.config_index;
  link.kind = MountKind::link;
  link.destination = step.destination;
  link.type = name;
  link.source = target;
  return link;
}

// Whether a later mount of the list is in the place of this one, or around it.
bool is_covered_later(const oci::Spec& spec, const MountStep& step) {
  const auto place = clean_path(step.destination);
  for (std::size_t i = step.config_index + 1; place && i < spec.mounts.size(); ++i) {
    const auto other = clean_path(str('/', spec.mounts[i].destination));
    if (other && is_at_or_below(*place, *other)) return true;
  }
  return false;
}

// The container's view of control groups: with a cgroup namespace fresh mounts, else binds of its own groups. "cgroup2"
// is the unified hierarchy alone.
Result<void> plan_cgroup_mount(const oci::Spec& spec, const HostFacts& host, MountStep step, LaunchPlan& plan) {
  const bool own = spec.find_namespace(NamespaceType::cgroup) != nullptr;
  const bool readonly = (step.options.attr_set & MOUNT_ATTR_RDONLY) != 0;
  const auto add_view = [&](const CgroupView& view, const std::string& destination) {
    MountStep mount = step;
    mount.destination = destination;
    mount.options.params.clear();
    mount.flags |= kMountNeedsCgroup;
    if (!own) {
      mount.kind = MountKind::tree;
      mount.source = view.host_path;
      mount.options.bind = true;
    } else {
      mount.type = view.controllers.empty() ? "cgroup2" : "cgroup";
      mount.source = "cgroup";
      for (const auto word : split(view.controllers, ',')) {
        if (word.empty()) continue;
        const auto name = split_once(word, '=');
        if (name) {
          mount.options.params.emplace_back("none", std::nullopt);
          mount.options.params.emplace_back(std::string(name->first), std::string(name->second));
        } else {
          mount.options.params.emplace_back(std::string(word), std::nullopt);
        }
      }
    }
    plan.mounts.push_back(std::move(mount));
  };
  const auto unified = std::ranges::find(host.cgroups, "", &CgroupView::controllers);
  const bool found = unified != host.cgroups.end();
  if (step.type == "cgroup2" && !found && !own && !host.cgroups.empty())
    return Error::make(
        Code::unsupported, "mounts[", step.config_index,
        "]: the container has no group in a hierarchy of cgroup v2, of which this could be a view; add a "
        "cgroup namespace, or use the type cgroup");
  if ((step.type == "cgroup2" && (found || own)) || (host.cgroups.size() == 1 && host.cgroups[0].name.empty())) {
    add_view(found ? *unified : CgroupView{}, step.destination);
    return {};
  }
  MountStep top = step;
  top.type = "tmpfs";
  top.source = "tmpfs";
  top.options.params = {{"mode", "755"}};
  top.options.attr_set &= ~static_cast<std::uint64_t>(MOUNT_ATTR_RDONLY);
  plan.mounts.push_back(top);
  for (const auto& view : host.cgroups) {
    add_view(view, str(step.destination, '/', view.name));
    // "cpu,cpuacct" is also reached under each of its names, as on the host.
    const auto parts = split(view.name, ',');
    for (const auto part : parts)
      if (parts.size() > 1) plan.mounts.push_back(cgroup_link(step, view.name, std::string(part)));
  }
  if (!readonly) return {};
  // Order: when the mount points of later entries below it are there, but not when its place is another mount's then.
  MountStep seal = step;
  if (!is_covered_later(spec, step)) seal.flags |= kMountLate;
  seal.kind = MountKind::remount;
  seal.options = {};
  seal.options.attr_set = MOUNT_ATTR_RDONLY;
  plan.mounts.push_back(seal);
  return {};
}

// The label of every file in a file system that is made for the container, as runc does it. Those of the kernel's own
// have labels by its policy.
void label_mount(const oci::Spec& spec, MountStep& step) {
  constexpr std::array<std::string_view, 3> kOwnLabels{"proc", "sysfs", "mqueue"};
  if (spec.linux.mount_label.empty()) return;
  if (std::find(kOwnLabels.begin(), kOwnLabels.end(), step.type) != kOwnLabels.end()) return;
  // podman says by an annotation of crun's which of SELinux's mount options it shall be.
  std::string option = "context";
  const auto annotation = spec.annotations.find("run.oci.mount_context_type");
  if (annotation != spec.annotations.end()) option = annotation->second;
  for (const auto& [key, value] : step.options.params)
    if (key == option) return;
  step.options.params.emplace_back(option, spec.linux.mount_label);
}

Result<void> plan_mount(const oci::Spec& spec, const HostFacts& host, std::size_t index, LaunchPlan& plan) {
  const oci::Mount& mount = spec.mounts[index];
  MountStep step;
  step.config_index = index;
  step.destination = mount.destination.starts_with('/') ? mount.destination : str('/', mount.destination);
  // A file can be mounted there too, over which the kernel would have no slash.
  while (step.destination.size() > 1 && step.destination.ends_with('/')) step.destination.pop_back();
  step.type = mount.type;
  step.source = mount.source;
  step.options = parse_mount_options(mount);
  const auto refuse = [&](std::string_view why) {
    return Error::make(Code::unsupported, "mounts[", index, "]: ", why);
  };
  if (step.options.remount) {
    step.kind = MountKind::remount;
  } else if (step.options.bind) {
    step.kind = MountKind::tree;
    if (mount.source.empty()) return refuse("a bind mount needs a source");
    if (step.options.replaces_flags) step.flags |= kMountReplacesFlags;
    TRY_CTX(plan_idmap(spec, mount, step), "mounts[", index, "]");
  } else if (mount.type == "cgroup" || mount.type == "cgroup2") {
    return plan_cgroup_mount(spec, host, std::move(step), plan);
  } else if (mount.type.empty() || mount.type == "none") {
    return refuse("a mount needs a type, or the option bind");
  }
  if (step.options.idmap && step.kind != MountKind::tree) return refuse("only a bind mount can be idmapped");
  if (step.options.dest_nofollow) step.flags |= kMountTargetNofollow;
  if (mount.type == "proc" || mount.type == "sysfs") step.flags |= kMountTargetIsRealDir;
  if (step.kind == MountKind::fs) label_mount(spec, step);
  const auto& params = step.options.params;
  const auto has = [&](std::string_view name) {
    return std::any_of(params.begin(), params.end(), [&](const auto& one) { return one.first == name; });
  };
  const bool has_mode = has("mode");
  if (mount.type == "tmpfs" && !has_mode && !step.options.copy_up) step.flags |= kMountTakesMode;
  if (step.options.copy_up) {
    if (mount.type != "tmpfs") return refuse("tmpcopyup is an option of tmpfs");
    step.flags |= kMountCopyUp;
    if (has_mode) step.flags |= kMountKeepMode;
    if (has("uid")) step.flags |= kMountKeepUid;
    if (has("gid")) step.flags |= kMountKeepGid;
  }
  plan.mounts.push_back(std::move(step));
  return {};
}

// A read-only tmpfs is so once everything is in it: mount points of later entries, /dev's nodes, what is copied up.
void seal_late(LaunchPlan& plan) {
  const std::size_t count = plan.mounts.size();
  for (std::size_t i = 0; i < count; ++i) {
    MountStep& step = plan.mounts[i];
    if (step.kind != MountKind::fs || step.type != "tmpfs" || (step.options.attr_set & MOUNT_ATTR_RDONLY) == 0)
      continue;
    const auto covers = [&](const MountStep& other) { return other.destination == step.destination; };
    if (std::any_of(plan.mounts.begin() + static_cast<std::ptrdiff_t>(i) + 1, plan.mounts.end(), covers)) continue;
    step.options.attr_set &= ~static_cast<std::uint64_t>(MOUNT_ATTR_RDONLY);
    MountStep seal;
    seal.config_index = step.config_index;
    seal.kind = MountKind::remount;
    seal.destination = step.destination;
    seal.flags = kMountLate | (step.flags & kMountTargetNofollow);
    seal.options.attr_set = MOUNT_ATTR_RDONLY;
    plan.mounts.push_back(std::move(seal));
  }
}

// Linux lists the mounts of a namespace by number (since 6.8), and a mount has its number from when it is made or
// cloned, not from when it is attached. So what comes after a file system of the child's is cloned by the child, at
// its turn. It has no right to in a user namespace; in mounts of others it must not leave them for ours.
void clone_late(LaunchPlan& plan) {
  if ((plan.flags & (kHasUserNamespace | kHostMounts | kJoinedMounts)) != 0) return;
  bool after = false;
  for (auto& step : plan.mounts) {
    after = after || step.kind == MountKind::fs;
    if (after && step.kind == MountKind::tree && !step.options.idmap) step.flags |= kMountOfHost;
  }
}

constexpr std::array<std::pair<const char*, std::uint32_t>, 5> kMemoryDevices{
    {{"/dev/null", 3}, {"/dev/zero", 5}, {"/dev/full", 7}, {"/dev/random", 8}, {"/dev/urandom", 9}}};

void plan_devices(const oci::Spec& spec, LaunchPlan& plan) {
  // A /dev bound from elsewhere comes with its own nodes.
  for (const auto& mount : plan.mounts)
    if (mount.destination == "/dev" && mount.options.bind) return;
  const auto configured = [&](std::string_view path) {
    return std::any_of(spec.linux.devices.begin(), spec.linux.devices.end(),
                       [&](const auto& d) { return d.path == path; });
  };
  for (const auto& [path, minor] : kMemoryDevices)
    if (!configured(path)) plan.devices.push_back({path, S_IFCHR | 0666, 0, 0, 1, minor});
  if (!configured("/dev/tty")) plan.devices.push_back({"/dev/tty", S_IFCHR | 0666, 0, 0, 5, 0});
  for (const auto& device : spec.linux.devices) {
    const std::uint32_t type = device.type == 'b' ? S_IFBLK : device.type == 'p' ? S_IFIFO : S_IFCHR;
    const std::string path = device.path.substr(0, device.path.find_last_not_of('/') + 1);
    plan.devices.push_back({path, type | device.file_mode.value_or(0666), device.uid, device.gid,
                            static_cast<std::uint32_t>(device.major), static_cast<std::uint32_t>(device.minor)});
  }
  for (const auto& [target, path] :
       std::initializer_list<std::pair<const char*, const char*>>{{"/proc/self/fd", "/dev/fd"},
                                                                  {"/proc/self/fd/0", "/dev/stdin"},
                                                                  {"/proc/self/fd/1", "/dev/stdout"},
                                                                  {"/proc/self/fd/2", "/dev/stderr"},
                                                                  {"pts/ptmx", "/dev/ptmx"}})
    plan.links.push_back({target, path});
}

// "net.ipv4.conf.eth0/1.rp_filter" and "net/ipv4/conf/eth0.1/rp_filter" name the same file: whichever separator comes
// first separates, the other one is part of a name (sysctl(8)).
std::string sysctl_path(const std::string& key) {
  std::string path = "sys/";
  const auto first = key.find_first_of("./");
  const bool dots = first != std::string::npos && key[first] == '.';
  for (const char c : key) path += dots && c == '.' ? '/' : dots && c == '/' ? '.' : c;
  return path;
}

Result<void> plan_labels(const oci::Process& process, const HostFacts& host, LaunchPlan& plan) {
  // A label that was asked for and cannot be put on must stop the container, not run it unconfined (CVE-2025-65105).
  if (!process.apparmor_profile.empty() && process.apparmor_profile != "unconfined") {
    if (!host.apparmor)
      return Error::make(Code::unsupported, "process.apparmorProfile: AppArmor is not enabled on this host");
    plan.label_path = "attr/apparmor/exec";
    plan.label = str("exec ", process.apparmor_profile);
  }
  if (!process.selinux_label.empty()) {
    if (!host.selinux)
      return Error::make(Code::unsupported, "process.selinuxLabel: SELinux is not enabled on this host");
    plan.label_path = "attr/exec";
    plan.label = process.selinux_label;
  }
  return {};
}

// set_mempolicy(2); the numbers are of linux/mempolicy.h, which older headers have only in part.
struct MemoryWord {
  TableText<25> name;
  std::uint32_t number;
};
constexpr std::array<MemoryWord, 10> kMemoryWords{{{"MPOL_DEFAULT", 0},
                                                   {"MPOL_PREFERRED", 1},
                                                   {"MPOL_BIND", 2},
                                                   {"MPOL_INTERLEAVE", 3},
                                                   {"MPOL_LOCAL", 4},
                                                   {"MPOL_PREFERRED_MANY", 5},
                                                   {"MPOL_WEIGHTED_INTERLEAVE", 6},
                                                   {"MPOL_F_NUMA_BALANCING", 1U << 13},
                                                   {"MPOL_F_RELATIVE_NODES", 1U << 14},
                                                   {"MPOL_F_STATIC_NODES", 1U << 15}}};

std::uint32_t memory_number(std::string_view name) {
  for (const auto& word : kMemoryWords)
    if (word.name == name) return word.number;
  return 0;
}

// What a container's processes have from "linux", the first one and those of exec alike.
Result<void> plan_shared(const oci::Spec& spec, const HostFacts& host, LaunchPlan& plan) {
  const oci::Linux& linux = spec.linux;
  const auto kept = spec.annotations.find(kKeepGroupsAnnotation);
  const bool keep = kept != spec.annotations.end() && kept->second == "1";
  if (host.setgroups_denied && !keep && !plan.process.user.additional_gids.empty())
    return Error::make(Code::denied, "process.user.additionalGids: setgroups is denied in this user namespace");
  // What cannot be set is kept: the caller's groups are all unmapped there, or asked for.
  if (keep || host.setgroups_denied) plan.flags |= kSetgroupsDenied;
  if (linux.personality_domain) {
    constexpr std::uint32_t kLinux32 = 8;
    plan.flags |= kSetPersonality;
    plan.personality = *linux.personality_domain == "LINUX32" ? kLinux32 : 0;
  }
  if (!linux.memory_policy) return {};
  const oci::MemoryPolicy& policy = *linux.memory_policy;
  plan.flags |= kSetMemoryPolicy;
  plan.memory_mode = memory_number(policy.mode);
  for (const auto& flag : policy.flags) plan.memory_mode |= memory_number(flag);
  if (policy.nodes.empty()) return {};
  constexpr std::uint32_t kMostNode = 1023;  // MAX_NUMNODES of the largest kernel there is
  auto nodes = oci::number_list_bits(policy.nodes, kMostNode);
  if (!nodes)
    return Error::make(Code::invalid_config, "linux.memoryPolicy.nodes: ", quoted(policy.nodes),
                       " is not a list of memory nodes from 0 to ", kMostNode);
  plan.memory_nodes = *std::move(nodes);
  return {};
}

// As runc: of two entries for one name the last one counts (a program would see the first, another one the last).
oci::Strings without_duplicates(const oci::Strings& env) {
  std::set<std::string_view> seen;
  oci::Strings out;
  for (auto entry = env.rbegin(); entry != env.rend(); ++entry)
    if (seen.insert(std::string_view(*entry).substr(0, entry->find('='))).second) out.push_back(*entry);
  std::reverse(out.begin(), out.end());
  return out;
}

// What cannot be granted is left out and told, and no failure (config.md "Linux Process"): what this kernel does not
// know, and what the runtime does not have itself. In a user namespace of its own a process has everything.
void limit_capabilities(const HostFacts& host, bool in_user_namespace, LaunchPlan& plan) {
  const std::uint64_t known = host.last_capability >= 63 ? ~0ULL : (1ULL << (host.last_capability + 1)) - 1;
  const std::uint64_t granted = in_user_namespace ? known : known & host.own_capabilities;
  for (auto* set : {&plan.capabilities.bounding, &plan.capabilities.effective, &plan.capabilities.inheritable,
                    &plan.capabilities.permitted, &plan.capabilities.ambient}) {
    plan.withheld_capabilities |= *set & ~granted;
    *set &= granted;
  }
  // The kernel raises only what is permitted and inheritable; runc's own default asks for more and gets no error.
  const std::uint64_t can_be_raised = plan.capabilities.permitted & plan.capabilities.inheritable;
  plan.withheld_ambient = plan.capabilities.ambient & ~can_be_raised;
  plan.capabilities.ambient &= can_be_raised;
}

Result<void> plan_process(const oci::Process& process, const HostFacts& host, LaunchPlan& plan) {
  plan.process = process;
  plan.process.env = without_duplicates(process.env);
  plan.last_capability = host.last_capability;
  plan.capabilities = process.capabilities.value_or(oci::Capabilities{});
  plan.oom_score_adj = process.oom_score_adj;
  if (process.terminal) plan.flags |= kTerminal;
  if (process.console_size) plan.console = *process.console_size;
  if (process.no_new_privileges) plan.flags |= kNoNewPrivileges;
  if (process.scheduler) plan.flags |= kSetScheduler;
  if (process.scheduler && process.scheduler->policy == SCHED_ISO)
    return Error::make(Code::unsupported,
                       "process.scheduler.policy: SCHED_ISO is a reserved number that no kernel has");
  if (process.io_priority) plan.flags |= kSetIoPriority;
  return plan_labels(process, host, plan);
}

}  // namespace

Result<LaunchPlan> make_plan(const oci::Spec& spec, const HostFacts& host) {
  if (!spec.process) return Error::make(Code::invalid_config, "process: is missing");
  // As with process.selinuxLabel: what was asked for is put on, or nothing runs.
  if (!spec.linux.mount_label.empty() && !host.selinux)
    return Error::make(Code::unsupported, "linux.mountLabel: SELinux is not enabled on this host");
  LaunchPlan plan;
  TRY(plan_process(*spec.process, host, plan));
  TRY(plan_namespaces(spec, plan));
  plan.hostname = spec.hostname;
  plan.domainname = spec.domainname;
  if ((!plan.hostname.empty() || !plan.domainname.empty()) && spec.find_namespace(NamespaceType::uts) == nullptr)
    return Error::make(Code::invalid_config, "hostname: would be the host's own; add a uts namespace");
  for (std::size_t i = 0; i < spec.mounts.size(); ++i) TRY(plan_mount(spec, host, i, plan));
  seal_late(plan);
  clone_late(plan);
  plan_devices(spec, plan);
  if (host.user_namespace) plan.flags |= kBindDevices;
  for (const auto& [key, value] : spec.linux.sysctl) plan.sysctls.push_back({key, sysctl_path(key), value});
  // One mount is enough for a path that is named twice.
  for (const auto& path : spec.linux.masked_paths)
    if (std::find(plan.masked.begin(), plan.masked.end(), path) == plan.masked.end()) plan.masked.push_back(path);
  for (const auto& path : spec.linux.readonly_paths)
    plan.readonly.push_back(path.starts_with('/') ? path : str('/', path));
  const auto is_root = [](const std::string& path) {
    const auto clean = clean_path(path);
    return clean && *clean == "/";
  };
  if (spec.root.readonly || std::erase_if(plan.readonly, is_root) > 0) plan.flags |= kRootReadonly;
  if (!spec.hooks.prestart.empty() || !spec.hooks.create_runtime.empty()) plan.flags |= kHooks;
  plan.create_container = spec.hooks.create_container;
  plan.start_container = spec.hooks.start_container;
  plan.flags |= kMakeWorkdir | kDeathSignal;
  const auto init = spec.annotations.find(kInitAnnotation);
  if (init != spec.annotations.end() && init->second == "true") plan.flags |= kInit;
  // Nothing of ours propagates out: private unless the container's root is to take part in the host's propagation.
  plan.propagation = kPrivate;
  if (!spec.linux.rootfs_propagation.empty()) {
    const auto word = parse_propagation(spec.linux.rootfs_propagation);
    if (!word)
      return Error::make(Code::invalid_config, "linux.rootfsPropagation: ", quoted(spec.linux.rootfs_propagation),
                         " is none of shared, slave, private, unbindable");
    plan.root_propagation = *word;
    // All below the root is so already, unless a mount's own options say otherwise, and those are to hold.
    if ((*word & (kPrivate | kSlave)) != 0) plan.root_propagation &= ~kRecursive;
    if ((*word & kPrivate) == 0) plan.propagation = kSlave;
  }
  TRY(plan_shared(spec, host, plan));
  limit_capabilities(host, spec.find_namespace(NamespaceType::user) != nullptr, plan);
  return plan;
}

Result<LaunchPlan> make_exec_plan(const oci::Spec& spec, const oci::Process& process, const HostFacts& host) {
  LaunchPlan plan;
  TRY(plan_process(process, host, plan));
  plan.flags |= kExec | kTwoStages | kDeathSignal;
  if (spec.find_namespace(NamespaceType::user) != nullptr) plan.flags |= kHasUserNamespace;
  TRY(plan_shared(spec, host, plan));
  limit_capabilities(host, spec.find_namespace(NamespaceType::user) != nullptr, plan);
  return plan;
}

namespace {

bool is_for_everything(const oci::DeviceRule& rule) {
  const auto in = [&](char access) { return rule.access.empty() || rule.access.find(access) != std::string::npos; };
  return rule.type == 'a' && !rule.major && !rule.minor && in('r') && in('w') && in('m');
}

// Nodes can always be made, as with the rules below: what is behind one is another matter. "-" when nothing is left.
void allow_making(oci::DeviceRule& rule) {
  if (rule.allow) return;
  if (rule.access.empty()) rule.access = "rwm";
  std::erase(rule.access, 'm');
  if (rule.access.empty()) rule.access = "-";
}

}  // namespace

std::vector<oci::DeviceRule> with_default_devices(std::vector<oci::DeviceRule> rules) {
  for (auto& rule : rules)
    if (rule.denies_whatever_it_says()) rule.access.clear();
  // As runc: what no rule speaks of is denied.
  if (rules.empty() || !is_for_everything(rules.front())) rules.insert(rules.begin(), oci::DeviceRule{});
  // Where everything is allowed, only what the configuration denies by name is denied, and that stays.
  const auto last = std::find_if(rules.rbegin(), rules.rend(), is_for_everything);
  if (last->allow) {
    for (auto rule = last.base(); rule != rules.end(); ++rule) allow_making(*rule);
    std::erase_if(rules, [](const auto& rule) { return rule.access == "-"; });
    return rules;
  }
  struct Default {
    char type;
    std::int64_t major, minor;  // -1: any
    const char* access;
  };
  constexpr std::array<Default, 11> kDefaults{{{'c', -1, -1, "m"},
                                               {'b', -1, -1, "m"},
                                               {'c', 1, 3, "rwm"},
                                               {'c', 1, 5, "rwm"},
                                               {'c', 1, 7, "rwm"},
                                               {'c', 1, 8, "rwm"},
                                               {'c', 1, 9, "rwm"},
                                               {'c', 5, 0, "rwm"},
                                               {'c', 5, 1, "rwm"},
                                               {'c', 5, 2, "rwm"},
                                               {'c', 136, -1, "rwm"}}};
  for (const auto& each : kDefaults) {
    oci::DeviceRule rule;
    rule.allow = true;
    rule.type = each.type;
    if (each.major >= 0) rule.major = each.major;
    if (each.minor >= 0) rule.minor = each.minor;
    rule.access = each.access;
    rules.push_back(std::move(rule));
  }
  return rules;
}

}  // namespace skink::plan
