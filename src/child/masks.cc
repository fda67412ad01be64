// SPDX-License-Identifier: Apache-2.0
// Sysctls, masked and read-only paths, and the change of root. All below "/proc" goes through descriptors that were
// checked.
#include "child/context.h"

namespace skink::child {
namespace {

constexpr unsigned long kBeneath = RESOLVE_BENEATH | RESOLVE_NO_XDEV | RESOLVE_NO_MAGICLINKS | RESOLVE_NO_SYMLINKS;
constexpr long kProcMagic = 0x9fa0;

long open_beneath(int dir_fd, const char* path, int flags) {
  open_how how;
  how.flags = static_cast<__u64>(static_cast<unsigned>(flags | kOpenCloexec));
  how.mode = 0;
  how.resolve = kBeneath;
  return call(__NR_openat2, dir_fd, arg(path), arg(&how), sizeof how);
}

long clone_tree(int fd, unsigned flags) {
  return call(__NR_open_tree, fd, arg(""),
              static_cast<long>(1U | static_cast<unsigned>(kOpenCloexec | kEmptyPath) | flags));
}

long attach(int tree_fd, int target_fd) {
  return call(__NR_move_mount, tree_fd, arg(""), target_fd, arg(""), MOVE_MOUNT_F_EMPTY_PATH | MOVE_MOUNT_T_EMPTY_PATH);
}

}  // namespace

// A detached procfs that nobody can mount over. In a user namespace the kernel refuses a new one while the visible one
// is masked; the caller falls back on the /proc it can see, checked the same way.
long open_private_procfs() {
  const long config = call(__NR_fsopen, arg("proc"), 1);
  if (config < 0) return config;
  const int fs = static_cast<int>(config);
  long rc = call(__NR_fsconfig, fs, FSCONFIG_CMD_CREATE, 0, 0, 0);
  if (rc >= 0) rc = call(__NR_fsmount, fs, 1, MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC);
  close_fd(fs);
  if (rc == -EPERM) rc = open_at(kHere, "/proc", kOpenPath | kOpenDirectory);
  if (rc < 0) return rc;
  struct {
    long type;
    char rest[248];
  } status{};
  FileStatus root;
  const int fd = static_cast<int>(rc);
  const bool genuine = call(__NR_fstatfs, fd, arg(&status)) == 0 && status.type == kProcMagic &&
                       stat_fd(fd, root) == 0 && root.inode == 1;
  if (genuine) return fd;
  close_fd(fd);
  return -EXDEV;
}

Fault write_sysctls(Context& context) {
  const auto& sysctls = context.plan().sysctls;
  if (sysctls.count == 0) return {};
  const long proc = open_private_procfs();
  CHILD_TRY(check(proc, Step::open_procfs));
  const auto* list = context.array<plan::Sysctl>(sysctls);
  for (unsigned i = 0; i < sysctls.count; ++i) {
    const long fd = open_beneath(static_cast<int>(proc), context.text(list[i].path), kOpenWrite);
    CHILD_TRY(check(fd, Step::write_sysctl, i));
    const char* value = context.text(list[i].value);
    const long rc = write_bytes(static_cast<int>(fd), value, length_of(value));
    close_fd(static_cast<int>(fd));
    CHILD_TRY(check(rc, Step::write_sysctl, i));
  }
  close_fd(static_cast<int>(proc));
  return {};
}

namespace {

// What masks: the host's /dev/null for files, one empty read-only tmpfs for directories. Both are taken before the
// container's root is entered, never from its own /dev (CVE-2025-31133).
struct Masks {
  int null_fd = -1;
  int empty_fd = -1;
  bool empty_attached = false;
};

Fault take_masks(Masks& masks) {
  const long null_fd = open_at(kHere, "/dev/null", kOpenPath | kOpenNofollow);
  CHILD_TRY(check(null_fd, Step::mask_path));
  FileStatus status;
  CHILD_TRY(check(stat_fd(static_cast<int>(null_fd), status), Step::mask_path));
  if ((status.mode & kFileTypeMask) != kCharacter || status.rdev_major != 1 || status.rdev_minor != 3)
    return {Step::mask_path, 0, ENODEV};
  masks.null_fd = static_cast<int>(null_fd);
  return {};
}

Fault make_empty(Masks& masks, unsigned index) {
  const long config = call(__NR_fsopen, arg("tmpfs"), 1);
  CHILD_TRY(check(config, Step::mask_path, index));
  const int fs = static_cast<int>(config);
  call(__NR_fsconfig, fs, FSCONFIG_SET_STRING, arg("nr_inodes"), arg("1"), 0);
  CHILD_TRY(check(call(__NR_fsconfig, fs, FSCONFIG_CMD_CREATE, 0, 0, 0), Step::mask_path, index));
  const long fd =
      call(__NR_fsmount, fs, 1, MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC);
  close_fd(fs);
  CHILD_TRY(check(fd, Step::mask_path, index));
  masks.empty_fd = static_cast<int>(fd);
  return {};
}

Fault mask_directory(Masks& masks, int target, unsigned index) {
  if (masks.empty_fd < 0) CHILD_TRY(make_empty(masks, index));
  if (!masks.empty_attached) {
    masks.empty_attached = true;
    return check(attach(masks.empty_fd, target), Step::mask_path, index);
  }
  // Further ones are clones of the first, which is part of our mount namespace now (older kernels clone no detached
  // mount).
  const long tree = clone_tree(masks.empty_fd, 0);
  CHILD_TRY(check(tree, Step::mask_path, index));
  const long rc = attach(static_cast<int>(tree), target);
  close_fd(static_cast<int>(tree));
  return check(rc, Step::mask_path, index);
}

Fault mask_one(const Context& context, Masks& masks, const char* path, unsigned index) {
  const long fd = open_in_root(context.root_fd, path, kOpenPath);
  // Nothing there is nothing to hide; every other failure is fatal.
  if (fd == -ENOENT || fd == -ENOTDIR) return {};
  CHILD_TRY(check(fd, Step::mask_path, index));
  const int target = static_cast<int>(fd);
  FileStatus status;
  Fault fault = check(stat_fd(target, status), Step::mask_path, index);
  if (!fault && (status.mode & kFileTypeMask) == kDirectory) {
    fault = mask_directory(masks, target, index);
  } else if (!fault) {
    const long tree = clone_tree(masks.null_fd, 0);
    fault = check(tree, Step::mask_path, index);
    if (!fault) fault = check(attach(static_cast<int>(tree), target), Step::mask_path, index);
    if (tree >= 0) close_fd(static_cast<int>(tree));
  }
  close_fd(target);
  return fault;
}

Fault protect_one(const Context& context, const char* path, unsigned index) {
  const long fd = open_in_root(context.root_fd, path, kOpenPath);
  if (fd == -ENOENT || fd == -ENOTDIR) return {};
  CHILD_TRY(check(fd, Step::readonly_path, index));
  const long tree = clone_tree(static_cast<int>(fd), static_cast<unsigned>(kRecursive));
  CHILD_TRY(check(tree, Step::readonly_path, index));
  mount_attr attr{};
  attr.attr_set = MOUNT_ATTR_RDONLY;
  long rc = call(__NR_mount_setattr, tree, arg(""), kRecursive | kEmptyPath, arg(&attr), sizeof attr);
  if (rc >= 0) rc = attach(static_cast<int>(tree), static_cast<int>(fd));
  close_fd(static_cast<int>(tree));
  close_fd(static_cast<int>(fd));
  return check(rc, Step::readonly_path, index);
}

}  // namespace

// Order: read-only paths first; a masked path below one of them is then covered as well and stays masked.
Fault hide_paths(Context& context) {
  const auto& plan = context.plan();
  const auto* readonly = context.array<plan::Offset>(plan.readonly);
  for (unsigned i = 0; i < plan.readonly.count; ++i) CHILD_TRY(protect_one(context, context.text(readonly[i]), i));
  if (plan.masked.count == 0) return {};
  Masks masks;
  CHILD_TRY(take_masks(masks));
  const auto* masked = context.array<plan::Offset>(plan.masked);
  Fault fault;
  for (unsigned i = 0; i < plan.masked.count && !fault; ++i)
    fault = mask_one(context, masks, context.text(masked[i]), i);
  close_fd(masks.null_fd);
  if (masks.empty_fd >= 0) close_fd(masks.empty_fd);
  return fault;
}

Fault enter_root(Context& context) {
  const auto& plan = context.plan();
  CHILD_TRY(check(call(__NR_fchdir, context.root_fd), Step::pivot_root));
  if (context.has(plan::kNoPivot) || context.has(plan::kJoinedMounts) || context.has(plan::kHostMounts)) {
    // Only where the root file system cannot be pivoted away from (a ramdisk, or it is others' root or the host's too):
    // the old root stays reachable in principle.
    if (context.has(plan::kNoPivot)) CHILD_TRY(take_off_host_views(context));
    CHILD_TRY(check(call(__NR_chroot, arg(".")), Step::pivot_root));
  } else {
    // man 2 pivot_root, "pivot_root(".", ".")": the old root ends up over the new one and is then taken off.
    CHILD_TRY(check(call(__NR_pivot_root, arg("."), arg(".")), Step::pivot_root));
    constexpr int kDetach = 2;  // MNT_DETACH
    CHILD_TRY(check(call(__NR_umount2, arg("."), kDetach), Step::pivot_root));
  }
  CHILD_TRY(check(call(__NR_chdir, arg("/")), Step::pivot_root));
  close_fd(context.root_fd);
  if (context.covered_root_fd >= 0) close_fd(context.covered_root_fd);
  context.covered_root_fd = -1;
  const long root = open_at(kHere, "/", kOpenPath | kOpenDirectory);
  CHILD_TRY(check(root, Step::pivot_root));
  context.root_fd = static_cast<int>(root);
  if (plan.root_propagation != 0) {
    mount_attr attr{};
    attr.propagation = plan.root_propagation & ~0x4000U;
    const unsigned flags = (plan.root_propagation & 0x4000U) != 0 ? static_cast<unsigned>(kRecursive) : 0;
    CHILD_TRY(check(call(__NR_mount_setattr, kHere, arg("/"), static_cast<long>(flags), arg(&attr), sizeof attr),
                    Step::root_propagation));
  }
  if (context.has(plan::kRootReadonly)) {
    mount_attr attr{};
    attr.attr_set = MOUNT_ATTR_RDONLY;
    CHILD_TRY(check(call(__NR_mount_setattr, kHere, arg("/"), 0, arg(&attr), sizeof attr), Step::root_readonly));
  }
  return {};
}

}  // namespace skink::child
