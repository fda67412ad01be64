// SPDX-License-Identifier: Apache-2.0
// Copying what an image has at the target of a tmpfs into it ("tmpcopyup"): directories, files, symlinks with their
// modes, owners and times, by descriptor and without following anything.
#include "child/context.h"

namespace skink::child {
namespace {

constexpr unsigned kDeepest = 64;

// struct linux_dirent64; the name follows the type byte.
struct DirEntry {
  __u64 inode;
  __s64 offset;
  unsigned short length;
  unsigned char type;
};
constexpr Size kNameOffset = 19;

struct Times {
  long seconds;
  long nanoseconds;
};

Fault fail(long rc) { return check(rc, Step::mount_copy_up); }

long set_times(int dir_fd, const char* path, const FileStatus& status, int flags) {
  const Times times[2] = {{status.atime_seconds, static_cast<long>(status.atime_nanoseconds)},
                          {status.mtime_seconds, static_cast<long>(status.mtime_nanoseconds)}};
  return call(__NR_utimensat, dir_fd, arg(path), arg(times), flags);
}

// Order: owner before mode, since chown clears the set-id bits.
Fault copy_metadata(int fd, const FileStatus& status) {
  CHILD_TRY(fail(call(__NR_fchown, fd, status.uid, status.gid)));
  return fail(call(__NR_fchmod, fd, status.mode & 07777));
}

Fault copy_file(int from_dir, int to_dir, const char* name, const FileStatus& status) {
  const long from = open_at(from_dir, name, kOpenRead | kOpenNofollow | kOpenNonblock | kOpenNoctty);
  CHILD_TRY(fail(from));
  const long to = open_at(to_dir, name, kOpenWrite | kOpenCreate | kOpenExclusive | kOpenNofollow, 0600);
  CHILD_TRY(fail(to));
  long got = 0;
  do {
    got = call(__NR_sendfile, to, from, 0, 1L << 30);
  } while (got > 0 || got == -EINTR);
  close_fd(static_cast<int>(from));
  CHILD_TRY(fail(got));
  const Fault fault = copy_metadata(static_cast<int>(to), status);
  close_fd(static_cast<int>(to));
  if (fault) return fault;
  return fail(set_times(to_dir, name, status, kSymlinkNofollow));
}

Fault copy_link(int from_dir, int to_dir, const char* name, const FileStatus& status) {
  char target[4096];
  const long length = call(__NR_readlinkat, from_dir, arg(name), arg(target), sizeof target - 1);
  CHILD_TRY(fail(length));
  target[length] = 0;
  CHILD_TRY(fail(call(__NR_symlinkat, arg(target), to_dir, arg(name))));
  return fail(call(__NR_fchownat, to_dir, arg(name), status.uid, status.gid, kSymlinkNofollow));
}

Fault copy_tree(int from_fd, int to_fd, unsigned depth);

Fault copy_directory(int from_dir, int to_dir, const char* name, unsigned depth) {
  if (depth >= kDeepest) return fail(-ELOOP);
  CHILD_TRY(fail(call(__NR_mkdirat, to_dir, arg(name), 0700)));
  const long from = open_at(from_dir, name, kOpenRead | kOpenDirectory | kOpenNofollow);
  CHILD_TRY(fail(from));
  const long to = open_at(to_dir, name, kOpenRead | kOpenDirectory | kOpenNofollow);
  CHILD_TRY(fail(to));
  const Fault fault = copy_tree(static_cast<int>(from), static_cast<int>(to), depth + 1);
  close_fd(static_cast<int>(from));
  close_fd(static_cast<int>(to));
  return fault;
}

Fault copy_entry(int from_fd, int to_fd, const char* name, unsigned depth) {
  FileStatus status;
  CHILD_TRY(fail(stat_at(from_fd, name, status)));
  switch (status.mode & kFileTypeMask) {
    case kDirectory: return copy_directory(from_fd, to_fd, name, depth);
    case kRegular: return copy_file(from_fd, to_fd, name, status);
    case kSymlink: return copy_link(from_fd, to_fd, name, status);
    default: return {};  // devices, FIFOs and sockets of an image have no use here
  }
}

Fault copy_tree(int from_fd, int to_fd, unsigned depth) {
  alignas(8) char buffer[2048];
  for (;;) {
    const long got = call(__NR_getdents64, from_fd, arg(buffer), sizeof buffer);
    CHILD_TRY(fail(got));
    if (got == 0) break;
    for (long at = 0; at < got;) {
      const auto* entry = reinterpret_cast<const DirEntry*>(buffer + at);
      const char* name = buffer + at + kNameOffset;
      at += entry->length;
      if (same(name, ".") || same(name, "..")) continue;
      CHILD_TRY(copy_entry(from_fd, to_fd, name, depth));
    }
  }
  if (depth == 0) return {};  // the top's metadata is the caller's
  FileStatus status;
  CHILD_TRY(fail(stat_fd(from_fd, status)));
  CHILD_TRY(copy_metadata(to_fd, status));
  return fail(set_times(to_fd, ".", status, 0));
}

}  // namespace

Fault copy_up(int from_fd, int to_fd, bool keep_mode) {
  // The tmpfs's mount descriptor is O_PATH; its root is opened through it.
  const long to = open_at(to_fd, ".", kOpenRead | kOpenDirectory);
  CHILD_TRY(fail(to));
  Fault fault = copy_tree(from_fd, static_cast<int>(to), 0);
  FileStatus status;
  if (!fault) fault = fail(stat_fd(from_fd, status));
  if (!fault) fault = fail(call(__NR_fchown, to, status.uid, status.gid));
  if (!fault && !keep_mode) fault = fail(call(__NR_fchmod, to, status.mode & 07777));
  close_fd(static_cast<int>(to));
  return fault;
}

}  // namespace skink::child
