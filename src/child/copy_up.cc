// SPDX-License-Identifier: Apache-2.0
// Copying what an image has at the target of a tmpfs into it ("tmpcopyup"): files of every type with their owners,
// modes, times, extended attributes and hard links, by descriptor and without following anything.
#include "child/copy_up.h"

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

// One copy: where it goes, the path below that which is being copied, and the files of several names.
struct Copy {
  int top_fd;
  char path[4096];
  Size length;
  LinkTable links;
};

// Order: last of all, since what is done to a file changes them.
long set_times(int dir_fd, const char* path, const FileStatus& status, int flags) {
  const Times times[2] = {{status.atime_seconds, static_cast<long>(status.atime_nanoseconds)},
                          {status.mtime_seconds, static_cast<long>(status.mtime_nanoseconds)}};
  return call(__NR_utimensat, dir_fd, arg(path), arg(times), flags);
}

// The mode's group bits are the mask of an access ACL: where it is left out, they are nobody's rights.
constexpr long kAclLeftOut = 1;
constexpr unsigned kWithoutAcl = 07700;

// What a tmpfs of this kernel, or root of a user namespace, cannot have is left out: user.* before Linux 6.6, trusted.*
// and ACLs of ids that the namespace has not.
long copy_attribute(int from_fd, int to_fd, const char* name) {
  char value[65536];  // XATTR_SIZE_MAX
  const long size = call(__NR_fgetxattr, from_fd, arg(name), arg(value), sizeof value);
  if (size == -ENODATA) return 0;
  if (size < 0) return size;
  const long rc = call(__NR_fsetxattr, to_fd, arg(name), arg(value), size, 0);
  const bool out = rc == -EOPNOTSUPP || rc == -EPERM || (rc == -EINVAL && starts_with(name, "system.posix_acl_"));
  if (!out) return rc;
  return same(name, "system.posix_acl_access") ? kAclLeftOut : 0;
}

// kAclLeftOut, 0 or an error.
long copy_attributes(int from_fd, int to_fd) {
  char names[65536];  // XATTR_LIST_MAX
  const long size = call(__NR_flistxattr, from_fd, arg(names), sizeof names);
  if (size == -EOPNOTSUPP) return 0;
  if (size < 0) return size;
  long answer = 0;
  for (long at = 0; at < size; at += static_cast<long>(length_of(names + at)) + 1) {
    const long rc = copy_attribute(from_fd, to_fd, names + at);
    if (rc < 0) return rc;
    if (rc == kAclLeftOut) answer = rc;
  }
  return answer;
}

// Order: owner before mode, since chown clears the set-id bits, and before the attributes, of which it clears the
// capabilities.
Fault copy_metadata(int from_fd, int to_fd, const FileStatus& status) {
  CHILD_TRY(fail(call(__NR_fchown, to_fd, status.uid, status.gid)));
  CHILD_TRY(fail(call(__NR_fchmod, to_fd, status.mode & 07777)));
  const long rc = copy_attributes(from_fd, to_fd);
  if (rc != kAclLeftOut) return fail(rc);
  return fail(call(__NR_fchmod, to_fd, status.mode & kWithoutAcl));
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
  Fault fault = fail(got);
  if (!fault) fault = copy_metadata(static_cast<int>(from), static_cast<int>(to), status);
  close_fd(static_cast<int>(from));
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
  CHILD_TRY(fail(call(__NR_fchownat, to_dir, arg(name), status.uid, status.gid, kSymlinkNofollow)));
  return fail(set_times(to_dir, name, status, kSymlinkNofollow));
}

// A device, FIFO or socket. In a user namespace no device can be made, and so none is there.
Fault copy_node(int to_dir, const char* name, const FileStatus& status) {
  const __u64 dev = device_number(status.rdev_major, status.rdev_minor);
  const long made = call(__NR_mknodat, to_dir, arg(name), status.mode, static_cast<long>(dev));
  if (made == -EPERM) return {};
  CHILD_TRY(fail(made));
  CHILD_TRY(fail(call(__NR_fchownat, to_dir, arg(name), status.uid, status.gid, kSymlinkNofollow)));
  CHILD_TRY(fail(call(__NR_fchmodat, to_dir, arg(name), status.mode & 07777)));
  return fail(set_times(to_dir, name, status, kSymlinkNofollow));
}

Fault copy_tree(Copy& copy, int from_fd, int to_fd, unsigned depth);

Fault copy_directory(Copy& copy, int from_dir, int to_dir, const char* name, unsigned depth) {
  if (depth >= kDeepest) return fail(-ELOOP);
  CHILD_TRY(fail(call(__NR_mkdirat, to_dir, arg(name), 0700)));
  const long from = open_at(from_dir, name, kOpenRead | kOpenDirectory | kOpenNofollow);
  CHILD_TRY(fail(from));
  const long to = open_at(to_dir, name, kOpenRead | kOpenDirectory | kOpenNofollow);
  CHILD_TRY(fail(to));
  const Fault fault = copy_tree(copy, static_cast<int>(from), static_cast<int>(to), depth + 1);
  close_fd(static_cast<int>(from));
  close_fd(static_cast<int>(to));
  return fault;
}

Fault copy_new(Copy& copy, int from_fd, int to_fd, const char* name, const FileStatus& status, unsigned depth) {
  switch (status.mode & kFileTypeMask) {
    case kDirectory: return copy_directory(copy, from_fd, to_fd, name, depth);
    case kRegular: return copy_file(from_fd, to_fd, name, status);
    case kSymlink: return copy_link(from_fd, to_fd, name, status);
    default: return copy_node(to_fd, name, status);
  }
}

// copy.path is that of the entry.
Fault copy_entry(Copy& copy, int from_fd, int to_fd, const char* name, unsigned depth) {
  FileStatus status;
  CHILD_TRY(fail(stat_at(from_fd, name, status)));
  const bool several = status.links > 1 && (status.mode & kFileTypeMask) != kDirectory;
  if (!several) return copy_new(copy, from_fd, to_fd, name, status, depth);
  const char* first = copy.links.find(status);
  if (first != nullptr) {
    const long rc = call(__NR_linkat, copy.top_fd, arg(first), to_fd, arg(name), 0);
    if (rc != -ENOENT) return fail(rc);  // a device that could not be made
  }
  CHILD_TRY(copy_new(copy, from_fd, to_fd, name, status, depth));
  return fail(copy.links.add(status, copy.path, copy.length));
}

// With the entry's name at the end of the path for as long as it is copied.
Fault copy_named(Copy& copy, int from_fd, int to_fd, const char* name, unsigned depth) {
  const Size before = copy.length, added = length_of(name);
  if (before + added + 2 > sizeof copy.path) return fail(-ENAMETOOLONG);
  if (before > 0) copy.path[copy.length++] = '/';
  for (Size i = 0; i <= added; ++i) copy.path[copy.length + i] = name[i];
  copy.length += added;
  const Fault fault = copy_entry(copy, from_fd, to_fd, name, depth);
  copy.length = before;
  copy.path[before] = 0;
  return fault;
}

Fault copy_tree(Copy& copy, int from_fd, int to_fd, unsigned depth) {
  FileStatus status;
  CHILD_TRY(fail(stat_fd(from_fd, status)));
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
      CHILD_TRY(copy_named(copy, from_fd, to_fd, name, depth));
    }
  }
  if (depth == 0) return {};  // the top's metadata is the caller's
  CHILD_TRY(copy_metadata(from_fd, to_fd, status));
  return fail(set_times(to_fd, ".", status, 0));
}

// The top has what the directory has that it covers, but what the options of the tmpfs name.
Fault copy_top(int from_fd, int to_fd, const FileStatus& status, const KeptOptions& kept) {
  const unsigned uid = kept.uid ? ~0U : status.uid, gid = kept.gid ? ~0U : status.gid;
  FileStatus own;
  CHILD_TRY(fail(stat_fd(to_fd, own)));
  CHILD_TRY(fail(call(__NR_fchown, to_fd, uid, gid)));
  // Order: mode after attributes, as an ACL sets the mode.
  const long rc = copy_attributes(from_fd, to_fd);
  CHILD_TRY(fail(rc));
  const unsigned mode = kept.mode ? own.mode & 07777 : status.mode & (rc == kAclLeftOut ? kWithoutAcl : 07777);
  CHILD_TRY(fail(call(__NR_fchmod, to_fd, mode)));
  return fail(set_times(to_fd, ".", status, 0));
}

}  // namespace

Fault copy_up(int from_fd, int to_fd, const KeptOptions& kept) {
  FileStatus status;
  CHILD_TRY(fail(stat_fd(from_fd, status)));
  // The tmpfs's mount descriptor is O_PATH; its root is opened through it.
  const long to = open_at(to_fd, ".", kOpenRead | kOpenDirectory);
  CHILD_TRY(fail(to));
  // Ours is whatever the launcher's was.
  call(__NR_umask, 0);
  Copy copy{static_cast<int>(to), {}, 0, {}};
  Fault fault = copy_tree(copy, from_fd, static_cast<int>(to), 0);
  if (!fault) fault = copy_top(from_fd, static_cast<int>(to), status, kept);
  close_fd(static_cast<int>(to));
  return fault;
}

}  // namespace skink::child
