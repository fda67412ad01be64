// SPDX-License-Identifier: Apache-2.0
#include "sys/file.h"

#include <fcntl.h>
#include <linux/memfd.h>
#include <linux/openat2.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>

#include "sys/interrupt.h"

#ifndef MFD_EXEC
#define MFD_EXEC 0x0010U
#endif
#ifndef MFD_NOEXEC_SEAL
#define MFD_NOEXEC_SEAL 0x0008U
#endif

namespace skink::sys {
namespace {

Result<UniqueFd> open_how_at(int dir_fd, const char* path, int flags, mode_t mode, std::uint64_t resolve) {
  constexpr int kTries = 64;
  open_how how{};
  how.flags = static_cast<std::uint64_t>(static_cast<unsigned>(flags) | O_CLOEXEC);
  how.mode = mode;
  how.resolve = resolve;
  long fd = -1;
  // The kernel answers EAGAIN when a rename raced with "..", and asks for another try; a path that never settles
  // is an attack, so we stop asking.
  for (int i = 0; i < kTries; ++i) {
    fd = ::syscall(SYS_openat2, dir_fd, path, &how, sizeof how);
    if (fd >= 0 || (errno != EAGAIN && !must_retry())) break;
  }
  if (fd < 0) return Error::from_errno(errno, "openat2 ", path);
  return UniqueFd{static_cast<int>(fd)};
}

}  // namespace

Result<UniqueFd> open_at(int dir_fd, const char* path, int flags, mode_t mode) {
  int fd = -1;
  do {
    fd = ::openat(dir_fd, path, flags | O_CLOEXEC, mode);
  } while (fd < 0 && must_retry());
  if (fd < 0) return Error::from_errno(errno, "open ", path);
  return UniqueFd{fd};
}

Result<UniqueFd> open_in_root(int root_fd, const char* path, int flags, mode_t mode) {
  return open_how_at(root_fd, path, flags, mode, RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS);
}

Result<UniqueFd> open_beneath(int dir_fd, const char* path, int flags, mode_t mode) {
  return open_how_at(dir_fd, path, flags, mode,
                     RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_XDEV | RESOLVE_NO_MAGICLINKS);
}

Result<void> mkdir_at(int dir_fd, const char* path, mode_t mode) {
  if (::mkdirat(dir_fd, path, mode) != 0) return Error::from_errno(errno, "mkdir ", path);
  return {};
}

Result<void> unlink_at(int dir_fd, const char* path, int flags) {
  if (::unlinkat(dir_fd, path, flags) != 0)
    return Error::from_errno(errno, (flags & AT_REMOVEDIR) != 0 ? "rmdir " : "unlink ", path);
  return {};
}

Result<void> rename_at(int from_fd, const char* from, int to_fd, const char* to, unsigned flags) {
  if (::syscall(SYS_renameat2, from_fd, from, to_fd, to, flags) != 0)
    return Error::from_errno(errno, "rename ", from, " to ", to);
  return {};
}

Result<void> symlink_at(const char* target, int dir_fd, const char* path) {
  if (::symlinkat(target, dir_fd, path) != 0) return Error::from_errno(errno, "symlink ", path);
  return {};
}

Result<std::string> readlink_at(int dir_fd, const char* path) {
  std::string target(4096, '\0');
  const ssize_t length = ::readlinkat(dir_fd, path, target.data(), target.size());
  if (length < 0) return Error::from_errno(errno, "readlink ", path);
  if (static_cast<std::size_t>(length) == target.size()) return Error::from_errno(ENAMETOOLONG, "readlink ", path);
  target.resize(static_cast<std::size_t>(length));
  return target;
}

Result<struct stat> stat_fd(int fd, std::string_view what) {
  struct stat status {};
  if (::fstat(fd, &status) != 0) return Error::from_errno(errno, "stat ", what);
  return status;
}

bool is_there(int dir_fd, const char* name) {
  // Not faccessat(3): with flags it is a call that filters of older container engines refuse.
  const auto found = stat_at(dir_fd, name, AT_SYMLINK_NOFOLLOW);
  return found || (found.error().errnum() != ENOENT && found.error().errnum() != ENOTDIR);
}

Result<struct stat> stat_at(int dir_fd, const char* path, int flags) {
  struct stat status {};
  if (::fstatat(dir_fd, path, &status, flags) != 0) return Error::from_errno(errno, "stat ", path);
  return status;
}

Result<std::string> read_all(int fd, std::size_t most, std::string_view what) {
  std::string bytes;
  std::size_t used = 0;
  bytes.resize(4096);
  for (;;) {
    if (used == bytes.size()) {
      if (used > most) break;
      bytes.resize(std::min(bytes.size() * 4, most + 1));
    }
    const ssize_t got = ::read(fd, bytes.data() + used, bytes.size() - used);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return Error::from_errno(errno, "read ", what);
    if (got == 0) break;
    used += static_cast<std::size_t>(got);
  }
  if (used > most) return Error::make(Code::invalid_config, what, ": larger than the ", most, " bytes allowed");
  bytes.resize(used);
  return bytes;
}

Result<void> write_all(int fd, std::string_view bytes, std::string_view what) {
  while (!bytes.empty()) {
    const ssize_t put = ::write(fd, bytes.data(), bytes.size());
    if (put < 0 && errno == EINTR) continue;
    if (put < 0) return Error::from_errno(errno, "write ", what);
    bytes.remove_prefix(static_cast<std::size_t>(put));
  }
  return {};
}

Result<UniqueFd> dup_fd(int fd, int least) {
  const int copy = ::fcntl(fd, F_DUPFD_CLOEXEC, least);
  if (copy < 0) return Error::from_errno(errno, "dup of descriptor ", fd);
  return UniqueFd{copy};
}

namespace {

// sysctl/vm.rst, memfd_noexec: 2 refuses every memory file that can be executed.
Error no_memfd(int errnum, const char* name) {
  Error error = Error::from_errno(errnum, "memfd_create ", name);
  constexpr const char* kFile = "/proc/sys/vm/memfd_noexec";
  const auto file = errnum == EACCES ? open_at(AT_FDCWD, kFile, O_RDONLY) : Result<UniqueFd>(Error(error));
  const auto text = file ? read_all(file->get(), 64, kFile) : Result<std::string>(file.error());
  if (!text || *text != "2\n") return error;
  return Error::make(error.code(), error.text(),
                     ": vm.memfd_noexec is 2, which refuses every program in memory; sysctl ", "vm.memfd_noexec=1");
}

}  // namespace

Result<UniqueFd> sealed_memfd(const char* name, std::string_view bytes, bool executable) {
  const unsigned flags = MFD_CLOEXEC | MFD_ALLOW_SEALING;
  int fd = ::memfd_create(name, flags | (executable ? MFD_EXEC : MFD_NOEXEC_SEAL));
  // Kernels before 6.3 do not know the exec flags and make every memfd executable.
  if (fd < 0 && errno == EINVAL) fd = ::memfd_create(name, flags);
  if (fd < 0) return no_memfd(errno, name);
  UniqueFd file(fd);
  TRY(write_all(file.get(), bytes, name));
  if (::fcntl(file.get(), F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE | F_SEAL_SEAL) != 0)
    return Error::from_errno(errno, "seal ", name);
  return file;
}

}  // namespace skink::sys
