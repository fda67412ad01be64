// SPDX-License-Identifier: Apache-2.0
// Mounts: the system calls of the new mount API (Linux 5.2 to 5.12) once, with descriptors instead of paths and with
// the kernel's own message in the error. man 2 fsopen, fsconfig, fsmount, move_mount, open_tree, mount_setattr.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "base/result.h"
#include "base/unique_fd.h"

namespace skink::sys {

/// A file system being configured: fsopen(2), then set(), then create() and mount(). Close-on-exec.
class FsContext {
 public:
  /// A new file system of this type. unsupported when the kernel does not know it.
  static Result<FsContext> open(const char* type);

  /// fsconfig(2) FSCONFIG_SET_STRING; the kernel takes at most 255 bytes. Unknown keys are EINVAL.
  Result<void> set(const char* key, const std::string& value);
  /// FSCONFIG_SET_FLAG.
  Result<void> set_flag(const char* key);
  /// FSCONFIG_SET_FD.
  Result<void> set_fd(const char* key, int fd);
  /// FSCONFIG_CMD_CREATE: makes the superblock.
  Result<void> create();
  /// fsmount(2): a detached mount with these MOUNT_ATTR_* flags.
  Result<UniqueFd> mount(std::uint64_t attributes = 0);
  [[nodiscard]] int fd() const { return fd_.get(); }

 private:
  FsContext(UniqueFd fd, std::string type) : fd_(std::move(fd)), type_(std::move(type)) {}
  // The words that the kernel left in the context's log, and the errno.
  Error fault(int errnum, std::string_view call, std::string_view key);
  UniqueFd fd_;
  std::string type_;
};

/// open_tree(2); OPEN_TREE_CLONE gives a detached copy (with AT_RECURSIVE of all below), without it just an O_PATH
/// descriptor. `what` names the path in errors; `path` may be "" with AT_EMPTY_PATH.
Result<UniqueFd> open_tree(int dir_fd, const char* path, unsigned flags, std::string_view what);

/// move_mount(2) of a (detached) mount to the place that `to_fd` is open on: no path is resolved.
Result<void> attach_mount(int mount_fd, int to_fd, std::string_view what);
/// The same to a path below `to_dir_fd`; a symlink as last component is not followed.
Result<void> attach_mount_at(int mount_fd, int to_dir_fd, const char* to, std::string_view what);

/// mount_setattr(2) on an open mount: MOUNT_ATTR_* to set and to clear, propagation MS_PRIVATE, MS_SLAVE, MS_SHARED,
/// MS_UNBINDABLE or 0, `userns_fd` for MOUNT_ATTR_IDMAP (-1 for none).
struct MountChange {
  std::uint64_t set = 0;
  std::uint64_t clear = 0;
  std::uint64_t propagation = 0;
  int userns_fd = -1;
  bool recursive = false;
};
Result<void> change_mount(int mount_fd, const MountChange& change, std::string_view what);
/// The same on a path below `dir_fd`.
Result<void> change_mount_at(int dir_fd, const char* path, const MountChange& change);

/// mount(2), for what only it does (remounting a whole tree's propagation, old overlay). Null pointers as there.
Result<void> old_mount(const char* source, const char* target, const char* type, unsigned long flags, const char* data);

/// umount2(2). Nothing mounted there (EINVAL) is an error too. UMOUNT_NOFOLLOW is added.
Result<void> unmount(const char* path, int flags);

/// A field of mountinfo, in which the kernel writes space, tab, newline and backslash as three octal digits
/// (proc_pid_mountinfo(5)).
std::string unescape_mount_field(std::string_view text);

/// The id of the mount that `fd` is on, as in the first column of mountinfo (statx(2), STATX_MNT_ID).
Result<std::uint64_t> mount_id(int fd);

/// The magic number of the file system that `fd` is on (fstatfs(2)).
Result<std::int64_t> fs_magic(int fd);

}  // namespace skink::sys
