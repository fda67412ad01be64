// SPDX-License-Identifier: Apache-2.0
#include "supervise/overlay.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <cerrno>
#include <string>

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

Result<void> set_options(sys::FsContext& overlay, int upper_fd, int work_fd) {
  // An image can carry overlay's own attributes; none of them may redirect a lookup (attack A61).
  TRY(overlay.set("redirect_dir", "nofollow"));
  TRY(overlay.set("metacopy", "off"));
  TRY(overlay.set("index", "off"));
  if (upper_fd < 0) return {};
  TRY(overlay.set("upperdir", own_fd_path(upper_fd)));
  TRY(overlay.set("workdir", own_fd_path(work_fd)));
  // The upper layer never outlives its incarnation, so nothing of it needs to reach the disk.
  return overlay.set_flag("volatile");
}

Result<UniqueFd> try_overlay(const std::vector<int>& lowers, int upper_fd, int work_fd, bool joined) {
  auto overlay = TRY(sys::FsContext::open("overlay"));
  TRY(overlay.set("source", "skink"));
  TRY(joined ? join_lowers(overlay, lowers) : append_lowers(overlay, lowers));
  TRY(set_options(overlay, upper_fd, work_fd));
  TRY(overlay.create());
  return overlay.mount();
}

}  // namespace

Result<UniqueFd> mount_overlay(const std::vector<int>& lowers, int upper_fd, int work_fd) {
  auto made = try_overlay(lowers, upper_fd, work_fd, false);
  if (made || !(not_known(made.error()) || old_way_only(made.error()))) return made;
  const UniqueFd here = TRY(sys::open_at(AT_FDCWD, ".", O_PATH | O_DIRECTORY));
  if (::chdir("/proc/self/fd") != 0) return Error::from_errno(errno, "chdir /proc/self/fd");
  auto joined = try_overlay(lowers, upper_fd, work_fd, true);
  if (::fchdir(here.get()) != 0) return Error::from_errno(errno, "fchdir back");
  // The first error is about the way that this kernel should have: keep its words.
  if (!joined && joined.error().code() != Code::unsupported && !old_way_only(made.error())) return made;
  return joined;
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
