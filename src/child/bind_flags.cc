// SPDX-License-Identifier: Apache-2.0
// The flags of a bind mount: those of its words and no others, as runc has it (mount(8) means the same by "bind,ro").
// For a container in a user namespace the kernel locks the flags of what it gets from outside; a tree that comes by
// descriptor is not locked, so the rule is kept here: nothing is taken off that the source has.
#include "child/context.h"

namespace skink::child {
namespace {

constexpr __u64 kLockable = MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC;
constexpr __u64 kTimes = MOUNT_ATTR__ATIME | MOUNT_ATTR_NODIRATIME;

// struct statfs of 64-bit machines.
struct FileSystemStatus {
  long type, block_size;
  unsigned long blocks, free, available, files, free_files;
  int id[2];
  long name_length, fragment_size, flags, spare[4];
};

// The flags of the mount, and "read-only" also when it is the whole file system that is: statfs(2) does not tell apart.
long flags_of(int tree_fd, __u64& flags) {
  constexpr unsigned long kNoTimes = 0x400, kNoDirectoryTimes = 0x800, kRelativeTimes = 0x1000;  // ST_*
  FileSystemStatus status{};
  const long rc = call(__NR_fstatfs, tree_fd, arg(&status));
  if (rc < 0) return rc;
  const auto shown = static_cast<unsigned long>(status.flags);
  flags = shown & kLockable;  // the same numbers
  if ((shown & kNoTimes) != 0) flags |= MOUNT_ATTR_NOATIME;
  else if ((shown & kRelativeTimes) == 0) flags |= MOUNT_ATTR_STRICTATIME;
  if ((shown & kNoDirectoryTimes) != 0) flags |= MOUNT_ATTR_NODIRATIME;
  return 0;
}

// "rw" was asked for of what is read-only: wrong if the mount is, and without meaning if only the file system is.
long try_writable(int tree_fd) {
  const long rc = set_attributes(tree_fd, 0, 0, MOUNT_ATTR_RDONLY, 0);
  if (rc < 0) return rc;
  __u64 flags = 0;
  const long looked = flags_of(tree_fd, flags);
  if (looked < 0) return looked;
  return (flags & MOUNT_ATTR_RDONLY) != 0 ? 0 : -EPERM;
}

}  // namespace

long set_attributes(int fd, unsigned flags, __u64 set, __u64 clear, __u64 propagation) {
  mount_attr attr{};
  attr.attr_set = set;
  attr.attr_clr = clear;
  attr.propagation = propagation;
  return call(__NR_mount_setattr, fd, arg(""), static_cast<long>(flags | static_cast<unsigned>(kEmptyPath)), arg(&attr),
              sizeof attr);
}

long replace_flags(const plan::Mount& mount, int tree_fd, bool in_user_namespace) {
  if (!in_user_namespace) {
    const long rc = set_attributes(tree_fd, 0, mount.attr_set, mount.attr_clr, 0);
    // Where we are in a user namespace ourselves, the kernel has locked what the source has.
    if (rc != -EPERM) return rc;
  }
  __u64 have = 0;
  long rc = flags_of(tree_fd, have);
  if (rc < 0) return rc;
  __u64 unwanted = have & mount.named_clr;
  if ((unwanted & MOUNT_ATTR_RDONLY) != 0) {
    rc = try_writable(tree_fd);
    if (rc < 0) return rc;
    unwanted &= ~static_cast<__u64>(MOUNT_ATTR_RDONLY);
  }
  if (unwanted != 0) return -EPERM;
  // Access times are locked as they are, whatever they are.
  const bool times = ((mount.attr_set | mount.attr_clr) & kTimes) != 0;
  if (times && (mount.attr_set & kTimes) != (have & kTimes)) return -EPERM;
  return set_attributes(tree_fd, 0, mount.attr_set, mount.attr_clr & ~(have & kLockable), 0);
}

Fault apply_attributes(const Context& context, const plan::Mount& mount, unsigned index, int fd) {
  if ((mount.flags & plan::kMountReplacesFlags) != 0)
    CHILD_TRY(check(replace_flags(mount, fd, context.has(plan::kHasUserNamespace)), Step::mount_attributes, index));
  else if (mount.kind != static_cast<unsigned>(plan::MountKind::fs) && (mount.attr_set | mount.attr_clr) != 0)
    CHILD_TRY(check(set_attributes(fd, 0, mount.attr_set, mount.attr_clr, 0), Step::mount_attributes, index));
  if ((mount.rec_set | mount.rec_clr) != 0)
    CHILD_TRY(check(set_attributes(fd, kRecursive, mount.rec_set, mount.rec_clr, 0), Step::mount_attributes, index));
  return {};
}

}  // namespace skink::child
