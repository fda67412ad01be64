// SPDX-License-Identifier: Apache-2.0
// Targets of mounts: opened inside the root, and made where they are missing.
#include "child/context.h"

namespace skink::child {
namespace {

constexpr Size kMaxName = 255;
constexpr Size kMaxPath = 4096;

// One component of a target that does not exist yet: a directory, or an empty file as the last one of a file's target.
long make_component(int parent_fd, const char* name, bool file) {
  long rc = 0;
  // Ours is whatever the launcher's was (a supervisor's is 077); the program's own is set when the mounts are there.
  call(__NR_umask, 022);
  if (file) {
    const long fd = open_at(parent_fd, name, kOpenWrite | kOpenCreate | kOpenExclusive | kOpenNofollow, 0644);
    if (fd >= 0) close_fd(static_cast<int>(fd));
    rc = fd < 0 ? fd : 0;
  } else {
    rc = call(__NR_mkdirat, parent_fd, arg(name), 0755);
  }
  return rc == -EEXIST ? 0 : rc;
}

// The usual case: only the last component is missing. -ENOENT when more is.
long make_last(int root_fd, const char* path, bool file, unsigned long resolve) {
  char prefix[4096];
  Size slash = 0;
  const Size length = length_of(path);
  if (length >= sizeof prefix) return -ENAMETOOLONG;
  for (Size i = 0; i < length; ++i) {
    prefix[i] = path[i];
    if (path[i] == '/') slash = i;
  }
  if (slash + 1 >= length || length - slash - 1 > kMaxName) return -ENOENT;
  prefix[slash] = 0;
  const long parent = open_in_root(root_fd, slash == 0 ? "/" : prefix, kOpenPath | kOpenDirectory, 0, resolve);
  if (parent < 0) return parent;
  const long made = make_component(static_cast<int>(parent), path + slash + 1, file);
  close_fd(static_cast<int>(parent));
  return made < 0 ? made : open_in_root(root_fd, path, kOpenPath | (file ? 0 : kOpenDirectory), 0, resolve);
}

// A path on its way through the root. Dangling symlinks are put into it as it goes.
struct Way {
  int root_fd;
  char* path;  // of kMaxPath bytes
  unsigned long resolve;
  bool follow;  // dangling symlinks
};

// Looks up path[0, end) from the root.
long look_up(const Way& way, Size end, int flags) {
  const char after = way.path[end];
  way.path[end] = 0;
  const long fd = open_in_root(way.root_fd, way.path, flags, 0, way.resolve);
  way.path[end] = after;
  return fd;
}

// Puts what the symlink path[start, end) leads to in its place, so that the rest of the path goes on from there. The
// result is looked up from the root like any other path, so whatever the link says stays inside.
long follow_dangling(int parent_fd, char* path, Size start, Size end) {
  char name[kMaxName + 1];
  char target[kMaxPath];
  for (Size i = start; i < end; ++i) name[i - start] = path[i];
  name[end - start] = 0;
  const long got = call(__NR_readlinkat, parent_fd, arg(name), arg(target), kMaxPath);
  if (got <= 0) return got < 0 ? got : -ENOENT;
  Size length = static_cast<Size>(got);
  const Size rest = length_of(path + end);
  const Size before = target[0] == '/' ? 0 : start;
  if (before + length + rest >= kMaxPath) return -ENAMETOOLONG;
  for (Size i = 0; i <= rest; ++i) target[length + i] = path[end + i];
  length += rest;
  for (Size i = 0; i <= length; ++i) path[before + i] = target[i];
  return 0;
}

// A link was followed: the path is another one now, and the walk has to begin anew. Below all error numbers.
constexpr long kAgain = -4096;

// Makes the one missing component path[start, end) below its parent, or follows it when it is a symlink that leads
// nowhere yet.
long make_one(const Way& way, int parent_fd, Size start, Size end, bool file) {
  if (end - start > kMaxName) return -ENAMETOOLONG;
  const char after = way.path[end];
  way.path[end] = 0;
  long rc = make_component(parent_fd, way.path + start, file);
  way.path[end] = after;
  if (rc >= 0) rc = look_up(way, end, kOpenPath | (file ? 0 : kOpenDirectory));
  if (rc != -ENOENT || !way.follow) return rc;
  rc = follow_dangling(parent_fd, way.path, start, end);
  // It is no link: it was there a moment ago and has gone.
  if (rc == -EINVAL) return -ENOENT;
  return rc < 0 ? rc : kAgain;
}

// One walk along the path.
long make_along(const Way& way, bool file) {
  const char* path = way.path;
  long parent = open_in_root(way.root_fd, "/", kOpenPath | kOpenDirectory);
  for (Size at = 0; parent >= 0;) {
    while (path[at] == '/') ++at;
    const Size start = at;
    while (path[at] != 0 && path[at] != '/') ++at;
    if (at == start) break;
    Size rest = at;
    while (path[rest] == '/') ++rest;
    const bool as_file = path[rest] == 0 && file;
    long next = look_up(way, at, kOpenPath | (as_file ? 0 : kOpenDirectory));
    if (next == -ENOENT) next = make_one(way, static_cast<int>(parent), start, at, as_file);
    close_fd(static_cast<int>(parent));
    parent = next;
  }
  return parent;
}

}  // namespace

// Opens `path` inside the root, making what is missing. Each missing component is made below the descriptor of its
// parent, then looked up again from the root, so that a symlink put there meanwhile is resolved inside
// (CVE-2024-45310). What a dangling symlink leads to is made for mounts, as with runc; that /dev is one is an error.
long make_target(int root_fd, const char* path, bool file, unsigned long resolve, bool follow) {
  const int last_flags = kOpenPath | (file ? 0 : kOpenDirectory);
  long fd = open_in_root(root_fd, path, last_flags, 0, resolve);
  if (fd == -ENOENT) fd = make_last(root_fd, path, file, resolve);
  if (fd != -ENOENT) return fd;
  char copy[kMaxPath];
  const Size length = length_of(path);
  if (length >= sizeof copy) return -ENAMETOOLONG;
  for (Size i = 0; i <= length; ++i) copy[i] = path[i];
  const Way way{root_fd, copy, resolve, follow};
  constexpr int kMostLinks = 40;  // as the kernel has it
  for (int links = 0; links < kMostLinks; ++links) {
    fd = make_along(way, file);
    if (fd != kAgain) return fd;
  }
  return -ELOOP;
}

}  // namespace skink::child
