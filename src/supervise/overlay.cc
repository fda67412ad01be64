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

#include <cerrno>
#include <string>

#include "supervise/control.h"
#include "sys/file.h"
#include "sys/mount.h"

namespace skink::supervise {
namespace {

std::string own_fd_path(int fd) { return str("/proc/self/fd/", fd); }

bool not_known(const Error& error) { return error.errnum() == EINVAL || error.errnum() == EBADF; }

// Before 6.5 overlay has no such options at all: the kernel collects strings for its old way to mount, and takes no
// descriptor for it.
bool old_way_only(const Error& error) { return error.errnum() == EOPNOTSUPP; }

// Layer by layer, by descriptor (6.13 and newer), else by the descriptor's path (6.7 and newer).
Result<void> append_lowers(sys::FsContext& overlay, const std::vector<int>& lowers) {
  bool by_fd = true;
  for (const int fd : lowers) {
    if (by_fd) {
      auto done = overlay.set_fd("lowerdir+", fd);
      if (done) continue;
      if (!not_known(done.error())) return done;
      by_fd = false;
    }
    TRY(overlay.set("lowerdir+", own_fd_path(fd)));
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

Result<void> set_options(sys::FsContext& overlay, int upper_parent_fd) {
  // An image can carry overlay's own attributes; none of them may redirect a lookup (attack A61).
  TRY(overlay.set("redirect_dir", "nofollow"));
  TRY(overlay.set("metacopy", "off"));
  TRY(overlay.set("index", "off"));
  if (upper_parent_fd < 0) return {};
  TRY(overlay.set("upperdir", own_fd_path(upper_parent_fd) + "/upper"));
  TRY(overlay.set("workdir", own_fd_path(upper_parent_fd) + "/work"));
  // The upper layer never outlives its incarnation, so nothing of it needs to reach the disk.
  return overlay.set_flag("volatile");
}

Result<UniqueFd> try_overlay(const OverlayLayers& layers, bool joined) {
  auto overlay = TRY(sys::FsContext::open("overlay"));
  TRY(overlay.set("source", "skink"));
  TRY(joined ? join_lowers(overlay, layers.lowers) : append_lowers(overlay, layers.lowers));
  TRY(set_options(overlay, layers.upper_parent_fd));
  TRY(overlay.create());
  return overlay.mount();
}

Result<UniqueFd> mount_here(const OverlayLayers& layers) {
  auto made = try_overlay(layers, false);
  if (made || !(not_known(made.error()) || old_way_only(made.error()))) return made;
  const UniqueFd here = TRY(sys::open_at(AT_FDCWD, ".", O_PATH | O_DIRECTORY));
  if (::chdir("/proc/self/fd") != 0) return Error::from_errno(errno, "chdir /proc/self/fd");
  auto joined = try_overlay(layers, true);
  if (::fchdir(here.get()) != 0) return Error::from_errno(errno, "fchdir back");
  // The first error is about the way that this kernel should have: keep its words.
  if (!joined && joined.error().code() != Code::unsupported && !old_way_only(made.error())) return made;
  return joined;
}

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
Result<UniqueFd> mount_in_own_namespace(const OverlayLayers& layers) {
  std::vector<UniqueFd> mounts;
  OverlayLayers attached;
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
  return mount_here(attached);
}

[[noreturn]] void serve_apart(const OverlayLayers& layers, int socket_fd) {
  const auto made = mount_in_own_namespace(layers);
  const int fds[] = {made ? made->get() : -1};
  if (made) (void)send_message(socket_fd, oci::Json::object(), fds);
  else (void)send_message(socket_fd, error_json(made.error()));
  ::_exit(0);
}

}  // namespace

Result<UniqueFd> mount_overlay(const OverlayLayers& layers) {
  if (layers.detached_fd >= 0 && !takes_detached(layers.detached_fd)) return mount_overlay_apart(layers);
  return mount_here(layers);
}

Result<UniqueFd> mount_overlay_apart(const OverlayLayers& layers) {
  int ends[2] = {-1, -1};
  if (::socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) != 0) return Error::from_errno(errno, "socketpair");
  const UniqueFd ours(ends[0]);
  UniqueFd theirs(ends[1]);
  const pid_t pid = ::fork();
  if (pid < 0) return Error::from_errno(errno, "fork");
  if (pid == 0) serve_apart(layers, theirs.get());
  theirs.reset();
  auto answer = await_message(ours.get(), 0);
  while (::waitpid(pid, nullptr, 0) < 0 && errno == EINTR) continue;
  if (!answer) return std::move(answer).error().context("overlay in a namespace apart");
  if (answer->fds.size() == 1) return std::move(answer->fds.front());
  return error_of(answer->json);
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
