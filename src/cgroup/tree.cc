// SPDX-License-Identifier: Apache-2.0
#include "cgroup/tree.h"

#include <dirent.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <linux/openat2.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/vfs.h>
#include <unistd.h>

#include <cerrno>
#include <charconv>
#include <optional>

#include "base/text.h"
#include "cgroup/control_file.h"
#include "fs/dir.h"
#include "sys/file.h"

namespace skink::cgroup {
namespace {

constexpr int kDirFlags = O_PATH | O_DIRECTORY | O_NOFOLLOW;

Result<void> check_hierarchy(int fd, const Hierarchy& hierarchy) {
  struct statfs info {};
  if (::fstatfs(fd, &info) != 0) return Error::from_errno(errno, "statfs ", printable(hierarchy.mount_point));
  const auto wanted = hierarchy.unified ? CGROUP2_SUPER_MAGIC : CGROUP_SUPER_MAGIC;
  if (static_cast<long>(info.f_type) == wanted) return {};
  return Error::make(Code::not_found, printable(hierarchy.mount_point), " is no ",
                     hierarchy.unified ? "cgroup2" : "cgroup", " mount (any more)");
}

// One lookup from the root: this is on the path of every launch. Mount points come from mountinfo, which resolves
// links, so none has to be followed; that the end lies in a hierarchy of the right kind is checked.
Result<UniqueFd> open_whole(const Place& place, const std::string& path) {
  open_how how{};
  how.flags = kDirFlags | O_CLOEXEC;
  how.resolve = RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS;
  const std::string whole = place.hierarchy.mount_point + path;
  UniqueFd fd{static_cast<int>(::syscall(SYS_openat2, AT_FDCWD, whole.c_str(), &how, sizeof how))};
  if (!fd) return Error::from_errno(errno, "openat2 ", printable(whole));
  TRY(check_hierarchy(fd.get(), place.hierarchy));
  return fd;
}

struct Level {
  ino_t inode = 0;
  std::string name;                   ///< in its parent
  std::vector<std::string> children;  ///< not walked yet
};

// Kernfs counts the groups below in st_nlink, so the many leaf groups need no listing.
Result<Level> look_into(int dir_fd, std::string name) {
  const struct stat st = TRY(sys::stat_fd(dir_fd, "control group"));
  Level level{st.st_ino, std::move(name), {}};
  if (st.st_nlink == 2) return level;
  const UniqueFd fd = TRY(sys::open_at(dir_fd, ".", O_RDONLY | O_DIRECTORY));
  for (fs::Entry& entry : TRY(fs::list(fd.get())))
    if (entry.type == DT_DIR) level.children.push_back(std::move(entry.name));
  return level;
}

// ".." of a group cannot lead elsewhere unless somebody moves groups about just now; then the walk ends.
Result<UniqueFd> step_up(int dir_fd, ino_t expected) {
  UniqueFd up = TRY(sys::open_at(dir_fd, "..", kDirFlags));
  if (TRY(sys::stat_fd(up.get(), "control group")).st_ino != expected)
    return Error::make(Code::busy, "a control group was moved while it was walked");
  return up;
}

// cpuset of v1: nothing may join a group whose cpus or mems are empty, and new groups start that way. ENODATA: so is
// the parent.
int copy_cpuset(int parent_fd, int dir_fd, bool fresh) {
  for (const char* name : {"cpuset.cpus", "cpuset.mems"}) {
    std::string text;
    if (const int err = read_control(dir_fd, name, text); err != 0) return err;
    // cgroup.clone_children of the parent copied both.
    if (!chomp(text).empty() && fresh) return 0;
    if (!chomp(text).empty()) continue;
    if (const int err = read_control(parent_fd, name, text); err != 0) return err;
    if (chomp(text).empty()) return ENODATA;
    if (const int err = write_control(dir_fd, name, chomp(text)); err != 0) return err;
  }
  return 0;
}

bool has_cpuset_v1(const Hierarchy& hierarchy) {
  return !hierarchy.unified && has_word(hierarchy.controllers, "cpuset");
}

// One component of the parents. A concurrent remove can take it away again at any moment; the caller then starts anew.
Result<UniqueFd> make_parent(const Place& place, int above_fd, const std::string& name, bool& made) {
  made = ::mkdirat(above_fd, name.c_str(), 0755) == 0;
  if (!made && errno != EEXIST) return Error::from_errno(errno, "mkdir ", printable(name));
  UniqueFd fd = TRY(open_below(above_fd, name));
  if (has_cpuset_v1(place.hierarchy)) {
    if (const int err = copy_cpuset(above_fd, fd.get(), made); err != 0)
      return Error::from_errno(err, "copy cpuset.cpus");
    // Groups below then start with copies and need no reads or writes. Only in our own parent: elsewhere the
    // administrator decides.
    if (made && name == kOwnParent) (void)write_control(fd.get(), "cgroup.clone_children", "1");
  }
  return fd;
}

Result<UniqueFd> make_parents(const Place& place, int mount_fd, const std::string& parent,
                              std::vector<std::string>& made) {
  UniqueFd here;
  std::string sofar;
  for (const std::string_view name : split(parent, '/')) {
    bool made_this = false;
    UniqueFd next = TRY(make_parent(place, here ? here.get() : mount_fd, std::string(name), made_this));
    sofar += sofar.empty() ? "" : "/";
    sofar += name;
    if (made_this) made.push_back(sofar);
    here = std::move(next);
  }
  return here;
}

// The other containers' removals race with us for the shared parent: these answers mean "it has just gone".
bool parent_vanished(int errnum) { return errnum == ENOENT || errnum == ENODEV; }

Result<UniqueFd> make_leaf(const Place& place, int parent_fd, const PathParts& parts, std::vector<std::string>& made) {
  const std::string path = parts.parent.empty() ? parts.name : parts.parent + "/" + parts.name;
  const bool fresh = ::mkdirat(parent_fd, parts.name.c_str(), 0755) == 0;
  if (!fresh && errno != EEXIST) return Error::from_errno(errno, "mkdir ", printable(parts.name));
  if (fresh) made.push_back(path);
  UniqueFd fd = TRY(open_below(parent_fd, parts.name));
  if (has_cpuset_v1(place.hierarchy))
    if (const int err = copy_cpuset(parent_fd, fd.get(), fresh); err != 0)
      return Error::from_errno(err, "copy cpuset.cpus");
  return fd;
}

// The parents and the group itself, once.
Result<UniqueFd> make_once(const Place& place, const PathParts& parts, std::vector<std::string>& made) {
  Result<UniqueFd> parent = open_parent(place);
  if (!parent && parent.error().errnum() == ENOENT) {
    const UniqueFd mount = TRY(open_mount(place.hierarchy));
    parent = make_parents(place, mount.get(), parts.parent, made);
  }
  if (!parent) return std::move(parent).error();
  Result<UniqueFd> leaf = make_leaf(place, parent->get(), parts, made);
  if (leaf || leaf.error().errnum() != ENODATA) return leaf;
  // Another one is making the shared parent, or was killed while it did: made, and still without processors.
  const UniqueFd mount = TRY(open_mount(place.hierarchy));
  parent = TRY(make_parents(place, mount.get(), parts.parent, made));
  return make_leaf(place, parent->get(), parts, made);
}

}  // namespace

PathParts split_path(const std::string& path) {
  const std::size_t slash = path.rfind('/');
  if (slash == std::string::npos) return {"", path};
  return {path.substr(0, slash).substr(path.starts_with('/') && slash > 0 ? 1 : 0), path.substr(slash + 1)};
}

std::string show(const Place& place) { return printable(place.hierarchy.mount_point + place.path); }

Result<UniqueFd> open_mount(const Hierarchy& hierarchy) {
  UniqueFd fd = TRY(sys::open_at(AT_FDCWD, hierarchy.mount_point.c_str(), O_PATH | O_DIRECTORY));
  TRY(check_hierarchy(fd.get(), hierarchy));
  return fd;
}

Result<UniqueFd> open_parent(const Place& place) {
  return open_whole(place, place.path.substr(0, place.path.rfind('/')));
}

Result<UniqueFd> open_below(int from_fd, const std::string& path) {
  return sys::open_beneath(from_fd, path.empty() ? "." : path.c_str(), kDirFlags);
}

Result<UniqueFd> open_place(const Place& place) { return open_whole(place, place.path); }

Result<void> walk_groups(int dir_fd, const Visitor& visitor) {
  UniqueFd here = TRY(sys::open_at(dir_fd, ".", kDirFlags));
  std::vector<Level> levels;
  levels.push_back(TRY(look_into(here.get(), {})));
  if (visitor.enter) visitor.enter(here.get());
  while (true) {
    Level& level = levels.back();
    if (level.children.empty()) {
      if (levels.size() == 1) return {};
      const std::string name = std::move(level.name);
      levels.pop_back();
      here = TRY(step_up(here.get(), levels.back().inode));
      if (visitor.leave) visitor.leave(here.get(), name.c_str());
      continue;
    }
    std::string name = std::move(level.children.back());
    level.children.pop_back();
    UniqueFd child{::openat(here.get(), name.c_str(), kDirFlags | O_CLOEXEC)};
    if (!child) continue;
    Result<Level> below = look_into(child.get(), std::move(name));
    if (!below) continue;
    here = std::move(child);
    levels.push_back(std::move(*below));
    if (visitor.enter) visitor.enter(here.get());
  }
}

int read_members(int dir_fd, std::vector<pid_t>& pids) {
  std::string text;
  int err = read_control(dir_fd, "cgroup.procs", text);
  // A threaded group does not list processes, only threads (fault F29).
  if (err == EOPNOTSUPP) err = read_control(dir_fd, "cgroup.threads", text);
  if (err != 0) return err == ENODEV || err == ENOENT ? 0 : err;
  for (const std::string_view line : split(text, '\n'))
    // 0 stands for a process that this pid namespace cannot see.
    if (const auto pid = parse_int<pid_t>(line); pid && *pid > 0) pids.push_back(*pid);
  return 0;
}

Result<void> read_tree(int dir_fd, std::vector<pid_t>& pids) {
  int failed = 0;
  Visitor visitor;
  visitor.enter = [&](int group_fd) {
    if (const int err = read_members(group_fd, pids); err != 0) failed = err;
  };
  TRY(walk_groups(dir_fd, visitor));
  if (failed != 0) return Error::from_errno(failed, "read cgroup.procs");
  return {};
}

Result<Made> make_place(const Place& place) {
  constexpr int kTries = 200;
  const PathParts parts = split_path(place.path);
  Made made;
  for (int tries = 1;; ++tries) {
    made.paths.clear();
    Result<UniqueFd> fd = make_once(place, parts, made.paths);
    if (fd) {
      made.fd = std::move(*fd);
      return made;
    }
    undo_place(place, made.paths);
    if (!parent_vanished(fd.error().errnum()) || tries == kTries) return std::move(fd).error().context(show(place));
  }
}

// By path: what could not be made for want of descriptors has to go without one, and these names are ours.
void undo_place(const Place& place, const std::vector<std::string>& made) {
  for (auto path = made.rbegin(); path != made.rend(); ++path)
    (void)remove_group(AT_FDCWD, str(place.hierarchy.mount_point, '/', *path).c_str());
}

// A signal is no reason to give this one up (sys/interrupt.h): it takes back, and waits for nothing.
int remove_group(int parent_fd, const char* name) {
  int answer = 0;
  do {
    answer = ::unlinkat(parent_fd, name, AT_REMOVEDIR);
  } while (answer != 0 && errno == EINTR);
  if (answer == 0 || errno == ENOENT) return 0;
  const int err = errno;
  // On a read-only file system the kernel says so before it looks for the name.
  if (err == EROFS && !sys::is_there(parent_fd, name)) return 0;
  return err;
}

}  // namespace skink::cgroup
