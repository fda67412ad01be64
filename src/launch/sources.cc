// SPDX-License-Identifier: Apache-2.0
#include "launch/sources.h"

#include <fcntl.h>
#include <linux/mount.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

#include <algorithm>
#include <cerrno>

#include "base/text.h"
#include "launch/id_maps.h"
#include "launch/rootless.h"
#include "security/security.h"
#include "sys/file.h"
#include "sys/mount.h"

namespace skink::launch {
namespace {

constexpr std::uint64_t kMsPrivate = 1U << 18, kMsUnbindable = 1U << 17;

Result<UniqueFd> open_tree_of(int fd, bool recursive, std::string_view what) {
  const unsigned flags =
      OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | AT_EMPTY_PATH | (recursive ? unsigned{AT_RECURSIVE} : 0U);
  return sys::open_tree(fd, "", flags, what);
}

// Attributes are set while nobody can see the tree; so a ro bind is never writable, not even for an instant (A52).
// `copied`: the child gets a copy of it, and what is unbindable cannot be copied; it makes it so itself.
Result<void> dress_tree(int tree_fd, const plan::MountOptions& options, bool copied, std::string_view what) {
  sys::MountChange privacy;
  privacy.recursive = options.propagation == 0 || options.propagation_recursive;
  privacy.propagation = options.propagation != 0 ? options.propagation : kMsPrivate;
  if (copied && privacy.propagation == kMsUnbindable) privacy.propagation = kMsPrivate;
  return sys::change_mount(tree_fd, privacy, what);
}

Result<void> open_bind(const plan::LaunchPlan& plan, std::size_t index, const std::string& bundle, Descriptors& out) {
  const plan::MountStep& step = plan.mounts[index];
  const std::string path = host_path(step.source, bundle);
  const std::string what =
      str("mounts[", step.config_index, "]: ", printable(path), " on ", printable(step.destination));
  const int nofollow = step.options.source_nofollow ? O_NOFOLLOW : 0;
  // Opened once: the same object is looked at and mounted (attack A16).
  UniqueFd source = TRY_CTX(sys::open_at(AT_FDCWD, path.c_str(), O_PATH | nofollow), what);
  const auto status = TRY(sys::stat_fd(source.get(), what));
  out.target_files[index] = !S_ISDIR(status.st_mode);
  if ((step.flags & plan::kMountOfHost) != 0) {
    out.mounts[index] = TRY(above(std::move(source), out.preserve));
    return {};
  }
  UniqueFd tree = TRY(open_tree_of(source.get(), step.options.recursive, what));
  TRY(dress_tree(tree.get(), step.options, (plan.flags & plan::kOwnCopies) != 0, what));
  TRY(map_tree(tree.get(), step, what));
  out.mounts[index] = TRY(above(std::move(tree), out.preserve));
  return {};
}

// True when `ns_fd` is the namespace of this type that we are in ourselves.
Result<bool> is_our_own(int ns_fd, oci::NamespaceType type) {
  struct Entry {
    oci::NamespaceType type;
    const char* path;
  };
  constexpr Entry kEntries[] = {{oci::NamespaceType::network, "/proc/self/ns/net"},
                                {oci::NamespaceType::ipc, "/proc/self/ns/ipc"},
                                {oci::NamespaceType::uts, "/proc/self/ns/uts"},
                                {oci::NamespaceType::mount, "/proc/self/ns/mnt"}};
  const auto theirs = TRY(sys::stat_fd(ns_fd, "namespace"));
  for (const auto& entry : kEntries) {
    if (entry.type != type) continue;
    const auto ours = TRY(sys::stat_at(AT_FDCWD, entry.path, 0));
    return ours.st_ino == theirs.st_ino && ours.st_dev == theirs.st_dev;
  }
  return false;
}

Result<void> open_joins(const plan::LaunchPlan& plan, unsigned preserve, Descriptors& out) {
  for (const auto& join : plan.joins) {
    const auto what = str("linux.namespaces ", plan::namespace_name(join.type), ": ", printable(join.path));
    UniqueFd fd = TRY_CTX(sys::open_at(AT_FDCWD, join.path.c_str(), O_RDONLY), what);
    // A sysctl of a namespace that is the host's own would change the host (attack A19); only here can that be seen.
    if (!plan.sysctls.empty() && TRY(is_our_own(fd.get(), join.type)))
      return Error::make(Code::invalid_config, what, ": it is the host's own, in which linux.sysctl must not be set");
    if (join.type == oci::NamespaceType::mount && TRY(is_our_own(fd.get(), join.type)))
      return Error::make(Code::invalid_config, what,
                         ": it is the host's own, whose mounts a container must not change");
    out.joins.push_back(TRY(above(std::move(fd), preserve)));
  }
  return {};
}

// The host's node of a device; empty when there is none, or another one, and one can be made of our own.
Result<UniqueFd> open_node(const plan::DeviceStep& device, bool can_be_made) {
  auto node = sys::open_at(AT_FDCWD, device.path.c_str(), O_PATH | O_NOFOLLOW);
  if (!node && can_be_made && (node.error().errnum() == ENOENT || node.error().errnum() == ENOTDIR)) return UniqueFd{};
  if (!node) return std::move(node.error().context("linux.devices"));
  const auto status = TRY(sys::stat_fd(node->get(), device.path));
  const bool same_type = (status.st_mode & S_IFMT) == (device.mode & S_IFMT);
  if (same_type && status.st_rdev == ::makedev(device.major, device.minor)) return node;
  if (can_be_made) return UniqueFd{};
  if (!S_ISCHR(status.st_mode) && !S_ISBLK(status.st_mode))
    return Error::make(Code::invalid_config, "linux.devices: ", printable(device.path), " is no device on the host");
  return Error::make(Code::invalid_config, "linux.devices: ", printable(device.path), " is ", ::major(status.st_rdev),
                     ':', ::minor(status.st_rdev), " on the host, not ", device.major, ':', device.minor,
                     ", and in a user namespace only the host's own node can be there");
}

// What is made on a file system of the host's has the host's ids.
Result<void> find_owners(const plan::LaunchPlan& plan, Descriptors& out) {
  if (std::ranges::find(out.made_devices, true) == out.made_devices.end()) return {};
  const IdMaps maps = TRY(maps_of(plan));
  for (std::size_t i = 0; i < plan.devices.size(); ++i) {
    const auto& device = plan.devices[i];
    out.device_owners.push_back({device.uid, device.gid});
    if (!out.made_devices[i]) continue;
    const auto uid = host_id(maps.uids, device.uid), gid = host_id(maps.gids, device.gid);
    if (!uid || !gid)
      return Error::make(Code::invalid_config, "linux.devices: ", printable(device.path), ": its owner ", device.uid,
                         ':', device.gid, " is not mapped in the user namespace");
    out.device_owners.back() = {*uid, *gid};
  }
  return {};
}

// Without the right to make device nodes (a user namespace, of the container or around us) the host's own are bound;
// where only the container has one, what the host lacks is made before it is entered (child/own_copies.cc).
Result<void> open_devices(const plan::LaunchPlan& plan, unsigned preserve, Descriptors& out) {
  if ((plan.flags & plan::kBindDevices) == 0) return {};
  const bool can_be_made = (plan.flags & plan::kOwnCopies) != 0 && !sys::in_user_namespace();
  for (const auto& device : plan.devices) {
    out.devices.emplace_back();
    out.made_devices.push_back(false);
    if (S_ISFIFO(device.mode)) continue;
    const UniqueFd node = TRY(open_node(device, can_be_made));
    out.made_devices.back() = !node;
    if (!node) continue;
    UniqueFd tree = TRY(open_tree_of(node.get(), false, device.path));
    sys::MountChange change;
    change.set = MOUNT_ATTR_NOSUID | MOUNT_ATTR_NOEXEC;
    change.propagation = kMsPrivate;
    TRY(sys::change_mount(tree.get(), change, device.path));
    out.devices.back() = TRY(above(std::move(tree), preserve));
  }
  return find_owners(plan, out);
}

Result<void> open_root(const ContainerRequest& request, plan::LaunchPlan& plan, Descriptors& out, UniqueFd& root) {
  if (request.root_mount_fd >= 0) {
    root = TRY(sys::dup_fd(request.root_mount_fd, 3 + static_cast<int>(request.preserve_fds)));
    const std::string place = host_path(request.spec->root.path, request.bundle);
    if (request.root_is_attached) find_inside(plan, place, place);
  } else {
    const std::string path = host_path(request.spec->root.path, request.bundle);
    const UniqueFd dir = TRY_CTX(sys::open_at(AT_FDCWD, path.c_str(), O_PATH | O_DIRECTORY), "root.path");
    const auto what = str("root.path: ", printable(path));
    if (!plan.mounts.empty())
      find_inside(plan, path, TRY(sys::readlink_at(AT_FDCWD, str("/proc/self/fd/", dir.get()).c_str())));
    root = TRY(above(TRY(open_tree_of(dir.get(), true, what)), request.preserve_fds));
    sys::MountChange change;
    change.propagation = kMsPrivate;
    change.recursive = true;
    // A slave keeps its master: what the host mounts below it is seen. One that is shared is so inside only, as with
    // runc.
    if (request.spec->linux.rootfs_propagation.find("slave") != std::string::npos) change.propagation = 1U << 19;
    TRY(sys::change_mount(root.get(), change, what));
  }
  out.root = root.get();
  return {};
}

}  // namespace

Result<void> map_tree(int tree_fd, const plan::MountStep& step, std::string_view what) {
  if (!step.options.idmap) return {};
  const UniqueFd userns = step.idmap_namespace.empty()
                              ? TRY_CTX(make_user_namespace(step.uid_mappings, step.gid_mappings), what)
                              : TRY_CTX(sys::open_at(AT_FDCWD, step.idmap_namespace.c_str(), O_RDONLY), what);
  sys::MountChange mapping;
  mapping.userns_fd = userns.get();
  mapping.recursive = step.options.idmap_recursive;
  auto mapped = sys::change_mount(tree_fd, mapping, what);
  if (!mapped && mapped.error().errnum() == EINVAL)
    return Error::make(Code::unsupported, what, ": its file system has no idmapped mounts, or it is one already");
  return mapped;
}

Result<void> copy_symlinks(plan::LaunchPlan& plan, const std::string& bundle) {
  for (auto& step : plan.mounts) {
    if (step.kind != plan::MountKind::tree || !step.options.copy_symlink) continue;
    const std::string path = host_path(step.source, bundle);
    const auto what = str("mounts[", step.config_index, "]: ", printable(path));
    const auto status = TRY_CTX(sys::stat_at(AT_FDCWD, path.c_str(), AT_SYMLINK_NOFOLLOW), what);
    if (!S_ISLNK(status.st_mode)) continue;
    while (step.destination.size() > 1 && step.destination.ends_with('/')) step.destination.pop_back();
    const auto slash = step.destination.rfind('/');
    step.kind = plan::MountKind::link;
    step.flags &= ~plan::kMountOfHost;
    step.source = TRY_CTX(sys::readlink_at(AT_FDCWD, path.c_str()), what);
    step.type = step.destination.substr(slash + 1);
    step.destination.resize(slash == 0 ? 1 : slash);
  }
  return {};
}

std::string host_path(const std::string& path, const std::string& bundle) {
  return path.starts_with('/') ? path : str(bundle, '/', path);
}

Result<UniqueFd> above(UniqueFd fd, unsigned preserve) {
  const int least = 3 + static_cast<int>(preserve);
  if (fd.get() >= least) return fd;
  return sys::dup_fd(fd.get(), least);
}

bool binds_group(const plan::MountStep& step) {
  return step.kind == plan::MountKind::tree && (step.flags & plan::kMountNeedsCgroup) != 0;
}

Result<void> open_group_sources(const plan::LaunchPlan& plan, std::vector<UniqueFd>& out) {
  for (const auto& step : plan.mounts)
    if (binds_group(step))
      out.push_back(TRY_CTX(sys::open_at(AT_FDCWD, step.source.c_str(), O_PATH | O_DIRECTORY),
                            str("mounts[", step.config_index, "]")));
  return {};
}

Result<Descriptors> open_sources(plan::LaunchPlan& plan, const ContainerRequest& request, UniqueFd& root,
                                 bool groups_follow) {
  Descriptors out;
  out.preserve = request.preserve_fds;
  out.listener = request.start_listener_fd;
  out.mounts.resize(plan.mounts.size());
  out.target_files.resize(plan.mounts.size());
  TRY(open_root(request, plan, out, root));
  bool later = false;
  for (std::size_t i = 0; i < plan.mounts.size(); ++i) {
    const auto& step = plan.mounts[i];
    if (step.kind != plan::MountKind::tree || (step.flags & plan::kMountOfRoot) != 0) continue;
    if (!groups_follow || !binds_group(step)) TRY(open_bind(plan, i, request.bundle, out));
    later = later || (step.flags & plan::kMountOfHost) != 0;
  }
  if (later)
    out.host_mounts = TRY(above(TRY(sys::open_at(AT_FDCWD, "/proc/self/ns/mnt", O_RDONLY)), request.preserve_fds));
  TRY(open_joins(plan, request.preserve_fds, out));
  TRY(open_devices(plan, request.preserve_fds, out));
  return out;
}

namespace {

std::string read_or_empty(const char* path) {
  const auto fd = sys::open_at(AT_FDCWD, path, O_RDONLY);
  if (!fd) return {};
  return sys::read_all(fd->get(), 4096, path).value_or({});
}

unsigned last_capability() {
  std::string text = read_or_empty("/proc/sys/kernel/cap_last_cap");
  while (!text.empty() && text.back() == '\n') text.pop_back();
  constexpr unsigned kCheckpointRestore = 40;
  return parse_int<unsigned>(text).value_or(kCheckpointRestore);
}

plan::CgroupView view_of(const cgroup::Place& place, bool only) {
  plan::CgroupView view;
  const auto slash = place.hierarchy.mount_point.rfind('/');
  if (!only) view.name = place.hierarchy.mount_point.substr(slash + 1);
  if (!place.hierarchy.unified) view.controllers = place.hierarchy.controllers;
  view.host_path = str(place.hierarchy.mount_point, place.path);
  return view;
}

}  // namespace

Result<plan::HostFacts> host_facts(const cgroup::Location* location) {
  static const unsigned last = last_capability();
  static const bool apparmor = read_or_empty("/sys/module/apparmor/parameters/enabled").starts_with('Y');
  static const bool selinux = !read_or_empty("/sys/fs/selinux/enforce").empty();
  plan::HostFacts facts;
  facts.last_capability = last;
  facts.own_capabilities = security::permitted_capabilities();
  facts.apparmor = apparmor;
  facts.selinux = selinux;
  facts.user_namespace = sys::in_user_namespace();
  facts.setgroups_denied = facts.user_namespace && setgroups_denied("self");
  if (location == nullptr) return facts;
  const bool only = location->layout == cgroup::Layout::v2;
  for (const auto& place : location->places) facts.cgroups.push_back(view_of(place, only));
  return facts;
}

}  // namespace skink::launch
