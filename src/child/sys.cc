// SPDX-License-Identifier: Apache-2.0
#include "child/sys.h"

#include <linux/stat.h>

namespace skink::child {
namespace {

long stat_path(int dir_fd, const char* path, int flags, FileStatus& status) {
  struct statx raw;
  const long rc = call(__NR_statx, dir_fd, arg(path), flags, STATX_BASIC_STATS, arg(&raw));
  if (rc < 0) return rc;
  status.mode = raw.stx_mode;
  status.uid = raw.stx_uid;
  status.gid = raw.stx_gid;
  status.rdev_major = raw.stx_rdev_major;
  status.rdev_minor = raw.stx_rdev_minor;
  status.dev_major = raw.stx_dev_major;
  status.dev_minor = raw.stx_dev_minor;
  status.inode = raw.stx_ino;
  status.size = raw.stx_size;
  status.links = raw.stx_nlink;
  status.mtime_seconds = raw.stx_mtime.tv_sec;
  status.mtime_nanoseconds = raw.stx_mtime.tv_nsec;
  status.atime_seconds = raw.stx_atime.tv_sec;
  status.atime_nanoseconds = raw.stx_atime.tv_nsec;
  status.is_mount = (raw.stx_attributes & STATX_ATTR_MOUNT_ROOT) != 0;
  return 0;
}

}  // namespace

long stat_fd(int fd, FileStatus& status) { return stat_path(fd, "", kEmptyPath, status); }
long stat_at(int dir_fd, const char* path, FileStatus& status) {
  return stat_path(dir_fd, path, kSymlinkNofollow, status);
}

long open_in_root(int root_fd, const char* path, int flags, unsigned mode, unsigned long resolve) {
  constexpr int kTries = 64;
  open_how how;
  how.flags = static_cast<__u64>(static_cast<unsigned>(flags | kOpenCloexec));
  how.mode = mode;
  how.resolve = RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS | resolve;
  long fd = -EAGAIN;
  // EAGAIN: a rename raced with "..". A path that never settles is an attack, so the tries end.
  for (int i = 0; i < kTries && (fd == -EAGAIN || fd == -EINTR); ++i)
    fd = call(__NR_openat2, root_fd, arg(path), arg(&how), sizeof how);
  return fd;
}

Size length_of(const char* text) {
  Size length = 0;
  while (text[length] != 0) ++length;
  return length;
}

bool starts_with(const char* text, const char* prefix) {
  for (; *prefix != 0; ++text, ++prefix)
    if (*text != *prefix) return false;
  return true;
}

bool same(const char* a, const char* b) { return starts_with(a, b) && length_of(a) == length_of(b); }

}  // namespace skink::child
