// SPDX-License-Identifier: Apache-2.0
#include "launch/encode.h"

#include <sys/sysmacros.h>

#include <cstring>
#include <type_traits>

namespace skink::launch {
namespace {

// Grows the flat plan: every piece is aligned to 8 bytes, offset 0 is the header and so never a piece.
class Blob {
 public:
  Blob() : bytes_(sizeof(plan::Plan), '\0') {}

  plan::Offset text(const std::string& value) {
    const plan::Offset at = here();
    bytes_.append(value);
    bytes_ += '\0';
    return at;
  }
  plan::Offset text_or_none(const std::string& value) { return value.empty() ? 0 : text(value); }
  plan::Offset raw(const std::string& value) {
    const plan::Offset at = here();
    bytes_.append(value);
    return at;
  }
  template <typename T>
  plan::Span array(const std::vector<T>& records) {
    static_assert(std::is_trivially_copyable_v<T>);
    const plan::Offset at = here();
    if (!records.empty()) bytes_.append(reinterpret_cast<const char*>(records.data()), records.size() * sizeof(T));
    return {at, static_cast<plan::U32>(records.size())};
  }
  plan::Span texts(const oci::Strings& values) {
    std::vector<plan::Offset> offsets;
    offsets.reserve(values.size());
    for (const auto& value : values) offsets.push_back(text(value));
    return array(offsets);
  }
  // As execve takes them: a slot each, and a zero.
  plan::Offset vector(const oci::Strings& values) {
    std::vector<plan::U64> slots;
    slots.reserve(values.size() + 1);
    for (const auto& value : values) slots.push_back(text(value));
    slots.push_back(0);
    return array(slots).at;
  }
  std::string finish(plan::Plan header) {
    header.size = static_cast<plan::U32>(bytes_.size());
    std::memcpy(bytes_.data(), &header, sizeof header);
    return std::move(bytes_);
  }

 private:
  plan::Offset here() {
    bytes_.resize((bytes_.size() + 7) & ~std::size_t{7});
    return static_cast<plan::Offset>(bytes_.size());
  }
  std::string bytes_;
};

// What the kernel does not copy into a user namespace, and so is done once more there: mount_namespaces(7) makes a
// slave of what is shared, and what is unbindable is not copied at all.
bool is_set_again(const plan::MountOptions& options, bool copied) {
  constexpr plan::U32 kUnbindable = 1U << 17, kShared = 1U << 20;
  return copied && (options.propagation == kUnbindable || options.propagation == kShared);
}

plan::Mount encode_mount(const plan::MountStep& step, int fd, bool target_is_file, bool copied, Blob& blob) {
  plan::Mount mount{};
  mount.kind = static_cast<plan::U32>(step.kind);
  mount.fd = fd;
  mount.target = blob.text(step.destination);
  mount.type = blob.text_or_none(step.type);
  const bool tree = step.kind == plan::MountKind::tree;
  const bool cloned = tree && (step.flags & (plan::kMountOfHost | plan::kMountOfRoot)) == 0;
  mount.source = tree && (step.flags & plan::kMountOfRoot) == 0 ? 0 : blob.text_or_none(step.source);
  std::vector<plan::Param> params;
  for (const auto& [key, value] : step.options.params)
    params.push_back({blob.text(key), value ? blob.text(*value) : plan::Offset{0}});
  mount.params = blob.array(params);
  mount.flags = step.flags | (target_is_file ? plan::kMountTargetIsFile : 0);
  if (tree && step.options.recursive) mount.flags |= plan::kMountRecursive;
  if (tree && step.options.source_nofollow) mount.flags |= plan::kMountSourceNofollow;
  // The propagation of a tree was set when it was cloned.
  mount.propagation = cloned && !is_set_again(step.options, copied) ? 0 : step.options.propagation;
  mount.propagation_recursive = step.options.propagation_recursive ? 1 : 0;
  mount.attr_set = step.options.attr_set;
  mount.attr_clr = step.options.attr_clear;
  mount.named_clr = step.options.named_clear;
  mount.rec_set = step.options.rec_set;
  mount.rec_clr = step.options.rec_clear;
  return mount;
}

void encode_steps(const plan::LaunchPlan& plan, const Descriptors& fds, Blob& blob, plan::Plan& out) {
  std::vector<plan::I32> groups;
  for (const auto& fd : fds.groups) groups.push_back(fd.get());
  out.groups_to_join = blob.array(groups);

  std::vector<plan::Namespace> joins;
  for (std::size_t i = 0; i < plan.joins.size(); ++i) joins.push_back({fds.joins[i].get(), plan.joins[i].flag});
  if (fds.pidfd_to_join >= 0) joins.push_back({fds.pidfd_to_join, fds.pidfd_flags});
  out.joins = blob.array(joins);

  const bool copied = (plan.flags & plan::kOwnCopies) != 0;
  std::vector<plan::Mount> mounts;
  for (std::size_t i = 0; i < plan.mounts.size(); ++i)
    mounts.push_back(encode_mount(plan.mounts[i], fds.mounts[i].get(), fds.target_files[i], copied, blob));
  out.mounts = blob.array(mounts);

  std::vector<plan::DeviceNode> devices;
  for (std::size_t i = 0; i < plan.devices.size(); ++i) {
    const auto& device = plan.devices[i];
    const int bind = i < fds.devices.size() ? fds.devices[i].get() : -1;
    const bool made = i < fds.made_devices.size() && fds.made_devices[i];
    const auto owner = made ? fds.device_owners[i] : std::pair(device.uid, device.gid);
    devices.push_back({blob.text(device.path), bind, made ? 1U : 0U, device.mode, owner.first, owner.second,
                       static_cast<plan::U64>(::makedev(device.major, device.minor))});
  }
  out.devices = blob.array(devices);

  std::vector<plan::Link> links;
  for (const auto& link : plan.links) links.push_back({blob.text(link.target), blob.text(link.path)});
  out.links = blob.array(links);

  std::vector<plan::Sysctl> sysctls;
  for (const auto& sysctl : plan.sysctls) sysctls.push_back({blob.text(sysctl.path), blob.text(sysctl.value)});
  out.sysctls = blob.array(sysctls);
  out.masked = blob.texts(plan.masked);
  out.readonly = blob.texts(plan.readonly);
}

void encode_process(const plan::LaunchPlan& plan, Blob& blob, plan::Plan& out) {
  const oci::Process& process = plan.process;
  std::vector<plan::Rlimit> rlimits;
  for (const auto& limit : process.rlimits)
    rlimits.push_back({static_cast<plan::U32>(limit.resource), limit.soft, limit.hard});
  out.rlimits = blob.array(rlimits);
  out.uid = process.user.uid;
  out.gid = process.user.gid;
  // Never the caller's: a file that the container makes must not depend on who started it.
  constexpr plan::U32 kUsualUmask = 0022;
  out.umask = process.user.umask.value_or(kUsualUmask);
  out.groups = blob.array(process.user.additional_gids);
  out.bounding = plan.capabilities.bounding;
  out.effective = plan.capabilities.effective;
  out.permitted = plan.capabilities.permitted;
  out.inheritable = plan.capabilities.inheritable;
  out.ambient = plan.capabilities.ambient;
  out.last_capability = plan.last_capability;
  if (process.scheduler) {
    out.sched_policy = static_cast<plan::U32>(process.scheduler->policy);
    out.sched_nice = process.scheduler->nice;
    out.sched_priority = process.scheduler->priority;
    out.sched_flags = process.scheduler->flags;
    out.sched_runtime = process.scheduler->runtime;
    out.sched_deadline = process.scheduler->deadline;
    out.sched_period = process.scheduler->period;
  }
  constexpr int kClassShift = 13;  // man 2 ioprio_set
  if (process.io_priority)
    out.io_priority =
        static_cast<plan::U32>((process.io_priority->io_class << kClassShift) | process.io_priority->priority);
  out.cwd = blob.text(process.cwd.empty() ? "/" : process.cwd);
  out.argv = blob.vector(process.args);
  out.envp = blob.vector(process.env);
  for (const auto& entry : process.env)
    if (entry.starts_with("PATH=")) out.path = blob.text(entry.substr(5));
}

plan::Span encode_hooks(const std::vector<oci::Hook>& hooks, const StateText& state, plan::Offset program_env,
                        Blob& blob) {
  std::vector<plan::Hook> list;
  for (const auto& hook : hooks) {
    plan::Hook out{};
    out.path = blob.text(hook.path);
    out.argv = blob.vector(hook.args.empty() ? oci::Strings{hook.path} : hook.args);
    out.envp = hook.env.empty() && program_env != 0 ? program_env : blob.vector(hook.env);
    out.head = blob.text(state.head);
    out.tail = blob.text(state.tail);
    out.timeout_seconds = hook.timeout_seconds.value_or(-1);
    list.push_back(out);
  }
  return blob.array(list);
}

}  // namespace

std::string encode(const plan::LaunchPlan& plan, const Descriptors& fds, const EncodeOptions& options) {
  Blob blob;
  plan::Plan out{};
  out.magic = plan::kMagic;
  out.version = plan::kVersion;
  out.flags = plan.flags;
  if (options.no_pivot) out.flags |= plan::kNoPivot;
  if (options.groups_follow) out.flags |= plan::kGroupsFollow;
  if (options.plain_output) out.flags |= plan::kPlainOutput;
  if (!options.keyring.empty()) out.flags |= plan::kNewKeyring;
  out.keyring = blob.text_or_none(options.keyring);
  out.sync_fd = fds.sync;
  out.listener_fd = fds.listener;
  out.root_fd = fds.root;
  out.host_mounts_fd = fds.host_mounts.get();
  out.cgroup_fd = fds.cgroup;
  out.preserve_fds = fds.preserve;
  out.clone_flags = plan.clone_flags;
  out.time_offsets = blob.text_or_none(plan.time_offsets);
  out.time_offsets_fd = plan.new_time_namespace ? 0 : -1;
  out.propagation = plan.propagation;
  out.root_propagation = plan.root_propagation;
  out.hostname = blob.text_or_none(plan.hostname);
  out.domainname = blob.text_or_none(plan.domainname);
  out.label_path = blob.text_or_none(plan.label_path);
  out.label = blob.text_or_none(plan.label);
  out.console_rows = plan.console.height;
  out.console_columns = plan.console.width;
  out.personality = plan.personality;
  out.memory_mode = plan.memory_mode;
  out.memory_nodes = blob.array(plan.memory_nodes);
  out.cpus = blob.array(options.cpus);
  encode_steps(plan, fds, blob, out);
  encode_process(plan, blob, out);
  out.attach_path = blob.text_or_none(options.attach_path);
  out.stage_path = blob.text_or_none(options.stage_path);
  // A hook of the host's must not see the container's environment (attack A24); one of the container's has it, as there
  // is none of the runtime's inside.
  out.create_container_hooks = encode_hooks(plan.create_container, options.creating, 0, blob);
  out.start_container_hooks = encode_hooks(plan.start_container, options.created, out.envp, blob);
  if (plan.seccomp && !plan.seccomp->bpf.empty()) {
    constexpr std::size_t kInstruction = 8;
    out.seccomp = blob.raw(plan.seccomp->bpf);
    out.seccomp_count = static_cast<plan::U32>(plan.seccomp->bpf.size() / kInstruction);
    out.seccomp_flags = plan.seccomp->flags;
    out.seccomp_listener = plan.seccomp->needs_listener ? 1 : 0;
    // Hooks and a PID 1 of ours make calls of which the filter may know nothing.
    const bool alone = plan.start_container.empty() && (plan.flags & plan::kInit) == 0;
    if (fds.listener >= 0 && plan.seccomp->lets_start && alone) out.flags |= plan::kFilterWaits;
  }
  return blob.finish(out);
}

std::vector<int> numbers(const Descriptors& fds) {
  std::vector<int> all;
  const auto add = [&](int fd) {
    if (fd >= 0) all.push_back(fd);
  };
  for (const auto* list : {&fds.mounts, &fds.joins, &fds.devices, &fds.groups})
    for (const auto& fd : *list) add(fd.get());
  for (const int fd : {fds.pidfd_to_join, fds.root, fds.host_mounts.get(), fds.listener, fds.sync, fds.cgroup}) add(fd);
  return all;
}

}  // namespace skink::launch
