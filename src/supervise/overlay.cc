// SPDX-License-Identifier: Apache-2.0
#include "supervise/overlay.h"

#include <fcntl.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <string>

#include "supervise/control.h"
#include "sys/file.h"
#include "sys/mount.h"
#include "sys/mount_namespace.h"

namespace skink::supervise {
namespace {

// Descriptors as paths, relative to /proc/self/fd, where mount_here() goes: the namespace of layers has no /proc.
std::string own_fd_path(int fd) { return str(fd); }

bool not_known(const Error& error) { return error.errnum() == EINVAL || error.errnum() == EBADF; }

// Before 6.5 overlay has no such options at all: the kernel collects strings for its old way to mount, and takes no
// descriptor for it.
bool old_way_only(const Error& error) { return error.errnum() == EOPNOTSUPP; }

// How the kernel takes layers: one by one by descriptor (6.13 and newer), one by one by path (6.7 and newer), or all in
// one string.
enum class Way { descriptors, paths, joined };

Result<void> append_lowers(sys::FsContext& overlay, const std::vector<int>& lowers, Way way) {
  for (const int fd : lowers) {
    if (way == Way::descriptors) TRY(overlay.set_fd("lowerdir+", fd));
    else TRY(overlay.set("lowerdir+", own_fd_path(fd)));
  }
  return {};
}

// Before 6.7 all layers are one string of at most 255 bytes: names relative to /proc/self/fd keep it short.
Result<void> join_lowers(sys::FsContext& overlay, const std::vector<int>& lowers) {
  std::string names;
  for (const int fd : lowers) names += str(names.empty() ? "" : ":", fd);
  if (names.size() > 255)
    return Error::make(Code::unsupported, "overlay of ", lowers.size(),
                       " layers: this kernel takes fewer at once; Linux 6.7 or newer has no such limit");
  return overlay.set("lowerdir", names);
}

Result<void> set_options(sys::FsContext& overlay, const OverlayLayers& layers) {
  // An image can carry overlay's own attributes; none of them may redirect a lookup (attack A61).
  TRY(overlay.set("redirect_dir", "nofollow"));
  TRY(overlay.set("metacopy", "off"));
  TRY(overlay.set("index", "off"));
  // Layers that are file systems of their own must not show as such: find -xdev and du -x would stop at them.
  if (layers.space_fd >= 0 || layers.detached_fd >= 0) TRY(overlay.set("xino", "on"));
  const int upper_parent_fd = layers.upper_parent_fd;
  if (upper_parent_fd < 0) return {};
  TRY(overlay.set("upperdir", own_fd_path(upper_parent_fd) + "/upper"));
  TRY(overlay.set("workdir", own_fd_path(upper_parent_fd) + "/work"));
  // The upper layer never outlives its incarnation, so nothing of it needs to reach the disk.
  return overlay.set_flag("volatile");
}

Result<UniqueFd> try_overlay(const OverlayLayers& layers, Way way) {
  auto overlay = TRY(sys::FsContext::open("overlay"));
  TRY(overlay.set("source", "skink"));
  TRY(way == Way::joined ? join_lowers(overlay, layers.lowers) : append_lowers(overlay, layers.lowers, way));
  TRY(set_options(overlay, layers));
  TRY(overlay.create());
  return overlay.mount();
}

bool is_unknown_way(const Error& error) { return not_known(error) || old_way_only(error); }

}  // namespace

bool takes_lowers(int dir_fd, LowersBy by) {
  auto overlay = sys::FsContext::open("overlay");
  if (!overlay) return false;
  const auto known = [](const Result<void>& taken) { return taken || !is_unknown_way(taken.error()); };
  const auto taken = overlay->set_fd("lowerdir+", dir_fd);
  // Before 6.5 any string is taken, and not looked at until the mount is made.
  if (by == LowersBy::descriptor || (!taken && old_way_only(taken.error()))) return known(taken);
  return known(overlay->set("lowerdir+", str("/proc/self/fd/", dir_fd)));
}

namespace {

// In /proc/self/fd.
Result<UniqueFd> mount_by_paths(const OverlayLayers& layers) {
  auto first = try_overlay(layers, Way::descriptors);
  if (first || !is_unknown_way(first.error())) return first;
  auto made = try_overlay(layers, Way::paths);
  if (made || !is_unknown_way(made.error())) return made;
  made = try_overlay(layers, Way::joined);
  if (made || made.error().code() == Code::unsupported || old_way_only(first.error())) return made;
  // The first error is about the way that this kernel should have: keep its words.
  return first;
}

// `proc_fd` is /proc, which need not be among the mounts here.
Result<UniqueFd> mount_here(const OverlayLayers& layers, int proc_fd) {
  if (layers.upper_parent_fd < 0) {
    auto made = try_overlay(layers, Way::descriptors);
    if (made || !is_unknown_way(made.error())) return made;
  }
  const UniqueFd here = TRY(sys::open_at(AT_FDCWD, ".", O_PATH | O_DIRECTORY));
  const UniqueFd fds = TRY(sys::open_at(proc_fd, "self/fd", O_PATH | O_DIRECTORY));
  if (::fchdir(fds.get()) != 0) return Error::from_errno(errno, "chdir /proc/self/fd");
  auto made = mount_by_paths(layers);
  if (::fchdir(here.get()) != 0) return Error::from_errno(errno, "fchdir back");
  return made;
}

Result<UniqueFd> open_proc() { return sys::open_at(AT_FDCWD, "/proc", O_PATH | O_DIRECTORY); }

// The kernel that clones a detached mount takes layers from it too; older ones know both only of mounts that are
// attached in the caller's namespace, and write into the kernel's log when they are asked in vain.
bool takes_detached(int mount_fd) {
  return sys::open_tree(mount_fd, "", OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | AT_EMPTY_PATH, "layer").has_value();
}

// A mount of the directory `fd` that can be attached: a new one, or the detached one whose top it is.
Result<UniqueFd> attachable(int fd) {
  auto copy = sys::open_tree(fd, "", OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | AT_EMPTY_PATH, "layer");
  if (copy || copy.error().errnum() != EINVAL) return copy;
  UniqueFd same(::fcntl(fd, F_DUPFD_CLOEXEC, 3));
  if (!same) return Error::from_errno(errno, "dup of a layer");
  return same;
}

// Order: the copies are made in the old namespace, the only one in which the layers are attached. All are put on "/",
// one over the other: nobody looks them up by a path.
Result<UniqueFd> mount_in_own_namespace(const OverlayLayers& layers, int proc_fd) {
  std::vector<UniqueFd> mounts;
  OverlayLayers attached{.space_fd = layers.space_fd};
  attached.detached_fd = layers.detached_fd;
  for (const int fd : layers.lowers) attached.lowers.push_back(mounts.emplace_back(TRY(attachable(fd))).get());
  if (layers.upper_parent_fd >= 0)
    attached.upper_parent_fd = mounts.emplace_back(TRY(attachable(layers.upper_parent_fd))).get();
  if (::unshare(CLONE_NEWNS) != 0) return Error::from_errno(errno, "unshare of the mount namespace");
  TRY(sys::old_mount(nullptr, "/", nullptr, MS_REC | MS_PRIVATE, nullptr));
  for (const UniqueFd& mount : mounts) {
    // A copy of a shared mount is shared too: what is put on it would appear on the host.
    TRY(sys::change_mount(mount.get(), {.propagation = MS_PRIVATE}, "layer"));
    const UniqueFd top = TRY(sys::open_at(AT_FDCWD, "/", O_PATH | O_DIRECTORY));
    TRY(sys::attach_mount(mount.get(), top.get(), "layer"));
  }
  return mount_here(attached, proc_fd);
}

[[noreturn]] void serve_apart(const OverlayLayers& layers, int socket_fd, int proc_fd) {
  const auto made = mount_in_own_namespace(layers, proc_fd);
  const int fds[] = {made ? made->get() : -1};
  if (made) (void)send_message(socket_fd, oci::Json::object(), fds);
  else (void)send_message(socket_fd, error_json(made.error()));
  ::_exit(0);
}

}  // namespace

namespace {

// In a process of its own with a mount namespace of its own.
Result<UniqueFd> mount_by_child(const OverlayLayers& layers, int proc_fd) {
  int ends[2] = {-1, -1};
  if (::socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) != 0) return Error::from_errno(errno, "socketpair");
  const UniqueFd ours(ends[0]);
  UniqueFd theirs(ends[1]);
  const pid_t pid = ::fork();
  if (pid < 0) return Error::from_errno(errno, "fork");
  if (pid == 0) serve_apart(layers, theirs.get(), proc_fd);
  theirs.reset();
  auto answer = await_message(ours.get(), 0);
  while (::waitpid(pid, nullptr, 0) < 0 && errno == EINTR) continue;
  if (!answer) return std::move(answer).error().context("overlay in a namespace apart");
  if (answer->fds.size() == 1) return std::move(answer->fds.front());
  return error_of(answer->json);
}

// What is attached in the caller's namespace the kernel takes from another only as a detached copy: `clones`, each for
// one overlay, since a mount in a namespace apart uses it up.
Result<void> bring_along(OverlayLayers& layers, std::vector<UniqueFd>& clones) {
  const auto clone = [&](int& fd, std::string_view what) -> Result<void> {
    clones.push_back(TRY(sys::open_tree(fd, "", OPEN_TREE_CLONE | AT_EMPTY_PATH, what)));
    fd = layers.detached_fd = clones.back().get();
    return {};
  };
  const bool bring_upper = layers.upper_parent_fd >= 0 && layers.upper_parent_fd != layers.detached_fd;
  for (int& fd : layers.lowers)
    if (std::find(layers.outside.begin(), layers.outside.end(), fd) != layers.outside.end()) TRY(clone(fd, "layer"));
  return bring_upper ? clone(layers.upper_parent_fd, "upper layer") : Result<void>{};
}

}  // namespace

Result<UniqueFd> mount_overlay(const OverlayLayers& given) {
  const UniqueFd proc = TRY(open_proc());
  OverlayLayers layers = given;
  std::vector<UniqueFd> clones;
  if (layers.space_fd >= 0) TRY(bring_along(layers, clones));
  // Asked here: a copy of the caller's mounts can be copied again only in the caller's namespace.
  const bool apart = layers.detached_fd >= 0 && !takes_detached(layers.detached_fd);
  const auto mount = [&] { return apart ? mount_by_child(layers, proc.get()) : mount_here(layers, proc.get()); };
  return layers.space_fd >= 0 ? sys::in_mount_namespace(layers.space_fd, mount) : mount();
}

Result<UniqueFd> mount_overlay_apart(const OverlayLayers& layers) {
  return mount_by_child(layers, TRY(open_proc()).get());
}

namespace {

bool is_whiteout(const struct stat& status) { return S_ISCHR(status.st_mode) && status.st_rdev == 0; }

bool is_opaque(int dir_fd) {
  char value = 0;
  return ::fgetxattr(dir_fd, "trusted.overlay.opaque", &value, sizeof value) == 1 && value == 'y';
}

}  // namespace

Result<UniqueFd> find_in_layers(const std::vector<int>& lowers, const char* dir, const char* name) {
  const auto unclear = [&] { return Error::make(Code::unsupported, "the layers alone do not tell of ", dir); };
  for (const int layer : lowers) {
    const auto at = sys::open_at(layer, dir, O_RDONLY | O_DIRECTORY | O_NOFOLLOW);
    if (!at && at.error().errnum() == ENOENT) continue;
    if (!at) return unclear();
    auto file = sys::open_at(at->get(), name, O_PATH | O_NOFOLLOW);
    if (file) {
      const auto status = TRY(sys::stat_fd(file->get(), name));
      if (is_whiteout(status)) return UniqueFd{};
      if (!S_ISREG(status.st_mode)) return unclear();
      return file;
    }
    if (file.error().errnum() != ENOENT) return unclear();
    if (is_opaque(at->get())) break;
  }
  return UniqueFd{};
}

namespace {

Result<UniqueFd> mount_tmpfs(const char* source, const std::string& size) {
  auto tmpfs = TRY(sys::FsContext::open("tmpfs"));
  TRY(tmpfs.set("source", source));
  TRY(tmpfs.set("size", size));
  TRY(tmpfs.set("mode", "0755"));
  TRY(tmpfs.create());
  return tmpfs.mount();
}

}  // namespace

Result<UniqueFd> mount_scaffold_tmpfs() { return mount_tmpfs("skink-scaffold", "1m"); }
Result<UniqueFd> mount_sized_tmpfs(std::int64_t bytes) { return mount_tmpfs("skink-upper", str(bytes)); }

}  // namespace skink::supervise
