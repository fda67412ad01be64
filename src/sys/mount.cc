// SPDX-License-Identifier: Apache-2.0
#include "sys/mount.h"

#include <fcntl.h>
#include <linux/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/vfs.h>
#include <unistd.h>

#include <array>
#include <cerrno>

#include "base/text.h"

// <sys/mount.h> and <linux/mount.h> of Debian 12 cannot be included together (both define enum fsconfig_command), so
// the two old calls are declared here.
extern "C" int mount(const char* source, const char* target, const char* type, unsigned long flags, const void* data);
extern "C" int umount2(const char* target, int flags);

namespace skink::sys {
namespace {

constexpr int kUnmountNoFollow = 8;  // UMOUNT_NOFOLLOW

long fsconfig(int fd, unsigned command, const char* key, const void* value, int aux) {
  return ::syscall(SYS_fsconfig, fd, command, key, value, aux);
}

Result<void> set_attributes(int dir_fd, const char* path, unsigned at_flags, const MountChange& change,
                            std::string_view what) {
  mount_attr attributes{};
  attributes.attr_set = change.set;
  attributes.attr_clr = change.clear;
  attributes.propagation = change.propagation;
  if (change.userns_fd >= 0) {
    attributes.attr_set |= MOUNT_ATTR_IDMAP;
    attributes.userns_fd = static_cast<unsigned>(change.userns_fd);
  }
  if (change.recursive) at_flags |= AT_RECURSIVE;
  if (::syscall(SYS_mount_setattr, dir_fd, path, at_flags, &attributes, sizeof attributes) != 0)
    return Error::from_errno(errno, "mount_setattr ", what);
  return {};
}

}  // namespace

Result<FsContext> FsContext::open(const char* type) {
  const long fd = ::syscall(SYS_fsopen, type, FSOPEN_CLOEXEC);
  if (fd < 0 && errno == ENODEV)
    return Error::make(Code::unsupported, "fsopen: this kernel has no file system ", std::string_view(type));
  if (fd < 0) return Error::from_errno(errno, "fsopen ", std::string_view(type));
  return FsContext(UniqueFd{static_cast<int>(fd)}, type);
}

Error FsContext::fault(int errnum, std::string_view call, std::string_view key) {
  // Each read gives one message, "e overlay: words"; ENODATA ends them (man 2 fsopen).
  std::string words;
  std::array<char, 512> line{};
  for (int most = 8; most > 0; --most) {
    const ssize_t got = ::read(fd_.get(), line.data(), line.size());
    if (got <= 0) break;
    std::string_view text(line.data(), static_cast<std::size_t>(got));
    if (text.size() > 2 && text[1] == ' ') text.remove_prefix(2);
    while (!text.empty() && text.back() == '\n') text.remove_suffix(1);
    words += str(words.empty() ? "" : "; ", printable(text));
  }
  auto error = Error::from_errno(errnum, type_, ": ", call, key.empty() ? "" : " ", key);
  if (!words.empty()) error.context("the kernel says \"", words, "\"");
  return error;
}

Result<void> FsContext::set(const char* key, const std::string& value) {
  if (fsconfig(fd_.get(), FSCONFIG_SET_STRING, key, value.c_str(), 0) != 0)
    return fault(errno, "fsconfig", str(std::string_view(key), "=", printable(value)));
  return {};
}

Result<void> FsContext::set_flag(const char* key) {
  if (fsconfig(fd_.get(), FSCONFIG_SET_FLAG, key, nullptr, 0) != 0) return fault(errno, "fsconfig", key);
  return {};
}

Result<void> FsContext::set_fd(const char* key, int fd) {
  if (fsconfig(fd_.get(), FSCONFIG_SET_FD, key, nullptr, fd) != 0) return fault(errno, "fsconfig", key);
  return {};
}

Result<void> FsContext::create() {
  if (fsconfig(fd_.get(), FSCONFIG_CMD_CREATE, nullptr, nullptr, 0) != 0) return fault(errno, "create", "");
  return {};
}

Result<UniqueFd> FsContext::mount(std::uint64_t attributes) {
  const long fd = ::syscall(SYS_fsmount, fd_.get(), FSMOUNT_CLOEXEC, attributes);
  if (fd < 0) return fault(errno, "fsmount", "");
  return UniqueFd{static_cast<int>(fd)};
}

Result<UniqueFd> open_tree(int dir_fd, const char* path, unsigned flags, std::string_view what) {
  const long fd = ::syscall(SYS_open_tree, dir_fd, path, flags | OPEN_TREE_CLOEXEC);
  if (fd < 0) return Error::from_errno(errno, "open_tree ", what);
  return UniqueFd{static_cast<int>(fd)};
}

Result<void> attach_mount(int mount_fd, int to_fd, std::string_view what) {
  if (::syscall(SYS_move_mount, mount_fd, "", to_fd, "", MOVE_MOUNT_F_EMPTY_PATH | MOVE_MOUNT_T_EMPTY_PATH) != 0)
    return Error::from_errno(errno, "move_mount ", what);
  return {};
}

Result<void> attach_mount_at(int mount_fd, int to_dir_fd, const char* to, std::string_view what) {
  if (::syscall(SYS_move_mount, mount_fd, "", to_dir_fd, to, MOVE_MOUNT_F_EMPTY_PATH) != 0)
    return Error::from_errno(errno, "move_mount ", what);
  return {};
}

Result<void> change_mount(int mount_fd, const MountChange& change, std::string_view what) {
  return set_attributes(mount_fd, "", AT_EMPTY_PATH, change, what);
}

Result<void> change_mount_at(int dir_fd, const char* path, const MountChange& change) {
  return set_attributes(dir_fd, path, AT_SYMLINK_NOFOLLOW, change, path);
}

Result<void> old_mount(const char* source, const char* target, const char* type, unsigned long flags,
                       const char* data) {
  if (::mount(source, target, type, flags, data) != 0)
    return Error::from_errno(errno, "mount ", std::string_view(target == nullptr ? "" : target));
  return {};
}

Result<void> unmount(const char* path, int flags) {
  if (::umount2(path, flags | kUnmountNoFollow) != 0) return Error::from_errno(errno, "umount ", path);
  return {};
}

Result<std::uint64_t> mount_id(int fd) {
  struct statx status {};
  if (::statx(fd, "", AT_EMPTY_PATH, STATX_MNT_ID, &status) != 0) return Error::from_errno(errno, "statx");
  return status.stx_mnt_id;
}

Result<std::int64_t> fs_magic(int fd) {
  struct statfs status {};
  if (::fstatfs(fd, &status) != 0) return Error::from_errno(errno, "fstatfs");
  return static_cast<std::int64_t>(status.f_type);
}

std::string unescape_mount_field(std::string_view text) {
  std::string out;
  for (std::size_t i = 0; i < text.size(); ++i) {
    const auto code = text[i] == '\\' && i + 3 < text.size() ? parse_int<unsigned>(text.substr(i + 1, 3), 8)
                                                             : std::optional<unsigned>{};
    out += code ? static_cast<char>(*code) : text[i];
    if (code) i += 3;
  }
  return out;
}

}  // namespace skink::sys
