// SPDX-License-Identifier: Apache-2.0
// Mounts: our copy of the host's mounts made private, the root attached, and the entries of "mounts" in their order,
// each on a target that is pinned by descriptor first (CVE-2021-30465).
#include "child/context.h"

namespace skink::child {
namespace {

long make_private(__u64 propagation) {
  mount_attr attr{};
  attr.propagation = propagation;
  return call(__NR_mount_setattr, kHere, arg("/"), kRecursive, arg(&attr), sizeof attr);
}

// Started in a chroot whose root is no mount: neither can its propagation be set nor can it be pivoted away from. To
// enter a mount namespace is to be put at its real root (man 2 setns), also when it is the one that we are in.
long go_to_real_root() {
  constexpr int kMountNamespace = 0x00020000;  // CLONE_NEWNS
  const long fd = open_at(kHere, "/proc/self/ns/mnt", kOpenRead);
  if (fd < 0) return fd;
  const long rc = call(__NR_setns, fd, kMountNamespace);
  close_fd(static_cast<int>(fd));
  return rc;
}

}  // namespace

long move_mount(int from_fd, int to_fd) {
  return call(__NR_move_mount, from_fd, arg(""), to_fd, arg(""), MOVE_MOUNT_F_EMPTY_PATH | MOVE_MOUNT_T_EMPTY_PATH);
}

Fault make_mounts_private(const Context& context) {
  const auto propagation = context.plan().propagation;
  long done = make_private(propagation);
  if (done == -EINVAL && go_to_real_root() >= 0) done = make_private(propagation);
  return check(done, Step::propagation);
}

Fault make_private_and_attach_root(Context& context) {
  const auto& plan = context.plan();
  if (context.root_fd < 0) context.root_fd = plan.root_fd;
  // The mounts are the host's own: the launcher has attached the root over its directory, and only below it we mount.
  if (context.has(plan::kHostMounts)) return {};
  // Order: before any mount of ours, so that none can propagate to the host (attack A50); one call, no walk of
  // mountinfo.
  CHILD_TRY(make_mounts_private(context));
  CHILD_TRY(remember_own_mounts(context));
  // The root is attached over "/": this process's own root stays the old one below it until pivot_root.
  // In a mount namespace of others its root is theirs: the container's is attached where the bundle is, nowhere else.
  if (context.has(plan::kJoinedMounts) && context.attach_fd < 0) return {Step::attach_root, 0, ENOENT};
  // Hooks find it where the bundle says instead: there a process that enters our mount namespace still starts at the
  // host's root, and what is mounted in the container's can be seen (config.md "POSIX-platform Hooks").
  const long attached = context.attach_fd >= 0
                            ? move_mount(context.root_fd, context.attach_fd)
                            : call(__NR_move_mount, context.root_fd, arg(""), kHere, arg("/"), MOVE_MOUNT_F_EMPTY_PATH);
  CHILD_TRY(check(attached, Step::attach_root));
  return {};
}

namespace {

Fault set_params(const Context& context, const plan::Mount& mount, unsigned index, int fs) {
  const auto* params = context.array<plan::Param>(mount.params);
  for (unsigned i = 0; i < mount.params.count; ++i) {
    const char* key = context.text(params[i].key);
    const long rc = params[i].value != 0
                        ? call(__NR_fsconfig, fs, FSCONFIG_SET_STRING, arg(key), arg(context.text(params[i].value)), 0)
                        : call(__NR_fsconfig, fs, FSCONFIG_SET_FLAG, arg(key), 0, 0);
    CHILD_TRY(check(rc, Step::mount_option, index, i));
  }
  return {};
}

// The mode that a tmpfs takes from the directory that it is going to cover, as runc has it; -1 for the kernel's 1777.
long mode_below(const Context& context, const plan::Mount& mount) {
  if ((mount.flags & plan::kMountTakesMode) == 0) return -1;
  const long fd = open_in_root(context.root_fd, context.text(mount.target), kOpenPath | kOpenDirectory);
  if (fd < 0) return -1;
  FileStatus status;
  const long rc = stat_fd(static_cast<int>(fd), status);
  close_fd(static_cast<int>(fd));
  return rc < 0 ? -1 : static_cast<long>(status.mode & 07777);
}

long set_mode(int fs, long mode) {
  if (mode < 0) return 0;
  const char octal[5] = {static_cast<char>('0' + (mode >> 9 & 7)), static_cast<char>('0' + (mode >> 6 & 7)),
                         static_cast<char>('0' + (mode >> 3 & 7)), static_cast<char>('0' + (mode & 7)), 0};
  return call(__NR_fsconfig, fs, FSCONFIG_SET_STRING, arg("mode"), arg(octal), 0);
}

Fault make_file_system(const Context& context, const plan::Mount& mount, unsigned index, long mode, long& fd) {
  fd = -1;
  const long config = call(__NR_fsopen, arg(context.text(mount.type)), 1 /* FSOPEN_CLOEXEC */);
  CHILD_TRY(check(config, Step::mount_fsopen, index));
  const int fs = static_cast<int>(config);
  if (mount.source != 0) {
    const long rc = call(__NR_fsconfig, fs, FSCONFIG_SET_STRING, arg("source"), arg(context.text(mount.source)), 0);
    CHILD_TRY(check(rc, Step::mount_option, index, ~0U));
  }
  CHILD_TRY(set_params(context, mount, index, fs));
  CHILD_TRY(check(set_mode(fs, mode), Step::mount_create, index));
  CHILD_TRY(check(call(__NR_fsconfig, fs, FSCONFIG_CMD_CREATE, 0, 0, 0), Step::mount_create, index));
  fd = call(__NR_fsmount, fs, 1 /* FSMOUNT_CLOEXEC */, static_cast<long>(mount.attr_set));
  close_fd(fs);
  return check(fd, Step::mount_create, index);
}

Fault fill_from_target(const plan::Mount& mount, unsigned index, int fd, int target) {
  if ((mount.flags & plan::kMountCopyUp) == 0) return {};
  const long from = open_at(target, ".", kOpenRead | kOpenDirectory);
  CHILD_TRY(check(from, Step::mount_copy_up, index));
  const auto kept = [&](unsigned flag) { return (mount.flags & flag) != 0; };
  Fault fault = copy_up(static_cast<int>(from), fd,
                        {kept(plan::kMountKeepMode), kept(plan::kMountKeepUid), kept(plan::kMountKeepGid)});
  close_fd(static_cast<int>(from));
  if (fault) {
    fault.step = Step::mount_copy_up;
    fault.index = index;
  }
  return fault;
}

Fault apply_propagation(const plan::Mount& mount, unsigned index, int fd) {
  if (mount.propagation == 0) return {};
  const unsigned recursive = mount.propagation_recursive != 0 ? static_cast<unsigned>(kRecursive) : 0;
  return check(set_attributes(fd, recursive, 0, 0, mount.propagation), Step::mount_propagation, index);
}

// "remount": attributes and propagation of what is mounted at the target, and parameters of its file system.
Fault change_mounted(const Context& context, const plan::Mount& mount, unsigned index, int target) {
  CHILD_TRY(apply_attributes(context, mount, index, target));
  CHILD_TRY(apply_propagation(mount, index, target));
  if (mount.params.count == 0) return {};
  constexpr long kFlags = 1 | 8;  // FSPICK_CLOEXEC, FSPICK_EMPTY_PATH
  const long config = call(__NR_fspick, target, arg(""), kFlags);
  CHILD_TRY(check(config, Step::mount_fsopen, index));
  const int fs = static_cast<int>(config);
  CHILD_TRY(set_params(context, mount, index, fs));
  const long rc = call(__NR_fsconfig, fs, FSCONFIG_CMD_RECONFIGURE, 0, 0, 0);
  close_fd(fs);
  return check(rc, Step::mount_create, index);
}

// There already is what we would make: good when it is the same link.
long check_link(int dir_fd, const char* name, const char* wanted) {
  char target[4096];
  const long length = call(__NR_readlinkat, dir_fd, arg(name), arg(target), sizeof target - 1);
  if (length < 0) return -EEXIST;
  target[length] = 0;
  return same(target, wanted) ? 0 : -EEXIST;
}

// A link of procfs, as /proc/self: what is mounted on it would be found in its place by everything that looks there.
bool is_kernel_link(int fd) {
  constexpr long kProcMagic = 0x9fa0;
  FileStatus status;
  struct {
    long type;
    char rest[248];
  } system{};
  return stat_fd(fd, status) >= 0 && (status.mode & kFileTypeMask) == kSymlink &&
         call(__NR_fstatfs, fd, arg(&system)) >= 0 && system.type == kProcMagic;
}

// The target, made where it is missing. A symlink there is the target itself if the configuration says so.
long open_target(const Context& context, const plan::Mount& mount) {
  const char* path = context.text(mount.target);
  if ((mount.flags & plan::kMountTargetNofollow) != 0) {
    const long fd = open_in_root(context.root_fd, path, kOpenPath | kOpenNofollow);
    if (fd >= 0 && is_kernel_link(static_cast<int>(fd))) {
      close_fd(static_cast<int>(fd));
      return -ELOOP;
    }
    if (fd != -ENOENT) return fd;
  }
  const bool file = (mount.flags & plan::kMountTargetIsFile) != 0;
  const unsigned long resolve = (mount.flags & plan::kMountTargetIsRealDir) != 0 ? RESOLVE_NO_SYMLINKS : 0;
  return make_target(context.root_fd, path, file, resolve, true);
}

Fault make_mount(Context& context, unsigned index) {
  const auto& mount = context.array<plan::Mount>(context.plan().mounts)[index];
  if ((mount.flags & plan::kMountNeedsCgroup) != 0) CHILD_TRY(make_cgroup_namespace(context));
  if ((mount.flags & plan::kMountOfHost) != 0) CHILD_TRY(clone_host_sources(context, index));
  if ((mount.flags & plan::kMountOfRoot) != 0) CHILD_TRY(clone_root_source(context, index));
  // Order: before the target is made.
  const long mode = mode_below(context, mount);
  const long pinned = open_target(context, mount);
  CHILD_TRY(check(pinned, Step::mount_target, index));
  const int target = static_cast<int>(pinned);
  if (mount.kind == static_cast<unsigned>(plan::MountKind::remount)) {
    const Fault fault = change_mounted(context, mount, index, target);
    close_fd(target);
    return fault;
  }
  if (mount.kind == static_cast<unsigned>(plan::MountKind::link)) {
    const char* wanted = context.text(mount.source);
    const char* name = context.text(mount.type);
    long rc = call(__NR_symlinkat, arg(wanted), target, arg(name));
    if (rc == -EEXIST) rc = check_link(target, name, wanted);
    close_fd(target);
    return check(rc, Step::mount_attach, index);
  }
  long fd = mount.fd;
  if (mount.kind == static_cast<unsigned>(plan::MountKind::fs))
    CHILD_TRY(make_file_system(context, mount, index, mode, fd));
  const int tree = static_cast<int>(fd);
  CHILD_TRY(fill_from_target(mount, index, tree, target));
  CHILD_TRY(apply_attributes(context, mount, index, tree));
  CHILD_TRY(check(move_mount(tree, target), Step::mount_attach, index));
  close_fd(target);
  CHILD_TRY(apply_propagation(mount, index, tree));
  const char* place = context.text(mount.target);
  if (place[0] == '/' && place[1] == '\0') {
    // What is over "/" is the root from here on; by the old descriptor everybody would go on below it.
    if (context.covered_root_fd < 0) context.covered_root_fd = context.root_fd;
    else close_fd(context.root_fd);
    context.root_fd = tree;
    return {};
  }
  close_fd(tree);
  return {};
}

}  // namespace

Fault make_mounts(Context& context, bool late) {
  const auto* mounts = context.array<plan::Mount>(context.plan().mounts);
  for (unsigned i = 0; i < context.plan().mounts.count; ++i)
    if (((mounts[i].flags & plan::kMountLate) != 0) == late) CHILD_TRY(make_mount(context, i));
  forget_own_mounts(context);
  return {};
}

}  // namespace skink::child
