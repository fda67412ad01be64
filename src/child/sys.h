// SPDX-License-Identifier: Apache-2.0
// The system calls that skink-init makes, typed, each answering a value or -errno. Freestanding.
#pragma once

#include <linux/capability.h>
#include <linux/errno.h>
#include <linux/fcntl.h>
#include <linux/mount.h>
#include <linux/openat2.h>
#include <linux/types.h>

#include "sys/raw.h"

namespace skink::child {

using sys::raw::arg;
using sys::raw::call;
using Size = decltype(sizeof 0);

// Numbers of the kernel's interface that its headers keep from freestanding code.
inline constexpr int kOpenRead = 0;
inline constexpr int kOpenWrite = 1;
inline constexpr int kOpenReadWrite = 2;
inline constexpr int kOpenCreate = 0100;
inline constexpr int kOpenExclusive = 0200;
inline constexpr int kOpenNoctty = 0400;
inline constexpr int kOpenNonblock = 04000;
inline constexpr int kOpenCloexec = 02000000;
inline constexpr int kOpenPath = 010000000;
#if defined(__aarch64__)
inline constexpr int kOpenDirectory = 040000;
inline constexpr int kOpenNofollow = 0100000;
#else
inline constexpr int kOpenDirectory = 0200000;
inline constexpr int kOpenNofollow = 0400000;
#endif
inline constexpr int kHere = -100;              // AT_FDCWD
inline constexpr int kEmptyPath = 0x1000;       // AT_EMPTY_PATH
inline constexpr int kSymlinkNofollow = 0x100;  // AT_SYMLINK_NOFOLLOW
inline constexpr int kRecursive = 0x8000;       // AT_RECURSIVE
inline constexpr int kEffectiveAccess = 0x200;  // AT_EACCESS
inline constexpr unsigned kFileTypeMask = 0170000, kRegular = 0100000, kDirectory = 0040000, kSymlink = 0120000,
                          kCharacter = 0020000;

/// What stat tells, by statx(2): the only form that is the same on every architecture.
struct FileStatus {
  unsigned mode = 0, uid = 0, gid = 0;
  unsigned rdev_major = 0, rdev_minor = 0;
  unsigned dev_major = 0, dev_minor = 0;
  unsigned long inode = 0, size = 0, links = 0;
  long mtime_seconds = 0;
  unsigned mtime_nanoseconds = 0;
  long atime_seconds = 0;
  unsigned atime_nanoseconds = 0;
  bool is_mount = false;  // something is mounted exactly there
};
long stat_fd(int fd, FileStatus& status);
long stat_at(int dir_fd, const char* path, FileStatus& status);

/// Where a container's filter refuses even this call, by a fault: it takes no call, and must not become a loop.
[[noreturn]] inline void end_process(int status) {
  call(__NR_exit_group, status);
  __builtin_trap();
}

inline long close_fd(int fd) { return call(__NR_close, fd); }
inline long open_at(int dir_fd, const char* path, int flags, unsigned mode = 0) {
  return call(__NR_openat, dir_fd, arg(path), flags | kOpenCloexec, mode);
}
/// openat2(2) inside `root_fd`, EAGAIN retried a bounded number of times. `resolve` adds RESOLVE_* flags.
long open_in_root(int root_fd, const char* path, int flags, unsigned mode = 0, unsigned long resolve = 0);
inline long write_bytes(int fd, const void* bytes, Size count) {
  return call(__NR_write, fd, arg(bytes), static_cast<long>(count));
}
inline long read_bytes(int fd, void* bytes, Size count) {
  return call(__NR_read, fd, arg(bytes), static_cast<long>(count));
}

/// As mknod(2) takes it.
inline __u64 device_number(unsigned major, unsigned minor) {
  return (minor & 0xffU) | (static_cast<__u64>(major & 0xfffU) << 8) | (static_cast<__u64>(minor & ~0xffU) << 12) |
         (static_cast<__u64>(major & ~0xfffU) << 32);
}

Size length_of(const char* text);
bool starts_with(const char* text, const char* prefix);
bool same(const char* a, const char* b);

}  // namespace skink::child
