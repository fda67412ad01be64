// SPDX-License-Identifier: Apache-2.0
// Files: each system call on files and descriptors once. Every descriptor made here is close-on-exec
// (CVE-2024-21626); EINTR is retried where that is safe; errors name the call and the path.
#pragma once

#include <sys/stat.h>
#include <sys/types.h>

#include <cstdint>
#include <string>
#include <string_view>

#include "base/result.h"
#include "base/unique_fd.h"

namespace skink::sys {

/// openat(2), O_CLOEXEC added. `dir_fd` may be AT_FDCWD.
Result<UniqueFd> open_at(int dir_fd, const char* path, int flags, mode_t mode = 0);

/// openat2(2) as a process chrooted at `root_fd` would resolve `path`: "..", absolute symlinks and /proc magic links
/// cannot lead outside (RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS). Nothing below a root that an image or a container
/// chose is opened in any other way. EAGAIN is retried a bounded number of times.
Result<UniqueFd> open_in_root(int root_fd, const char* path, int flags, mode_t mode = 0);

/// openat2(2) that refuses to leave `dir_fd`, to follow any symlink or to cross a mount
/// (RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_XDEV | RESOLVE_NO_MAGICLINKS).
Result<UniqueFd> open_beneath(int dir_fd, const char* path, int flags, mode_t mode = 0);

Result<void> mkdir_at(int dir_fd, const char* path, mode_t mode);
Result<void> unlink_at(int dir_fd, const char* path, int flags = 0);
/// renameat2(2).
Result<void> rename_at(int from_fd, const char* from, int to_fd, const char* to, unsigned flags = 0);
Result<void> symlink_at(const char* target, int dir_fd, const char* path);
/// readlinkat(2), whole or an error.
Result<std::string> readlink_at(int dir_fd, const char* path);
/// fstat(2); `what` names the file in the error.
Result<struct stat> stat_fd(int fd, std::string_view what);
/// fstatat(2); flags such as AT_SYMLINK_NOFOLLOW.
Result<struct stat> stat_at(int dir_fd, const char* path, int flags);
/// Whether `name` exists, links not followed. What the kernel will not tell may: then it is for the next step to fail.
bool is_there(int dir_fd, const char* name);

/// Reads until the end of the file or `most` bytes; a longer file is an error of kind invalid_config. `what` names it.
Result<std::string> read_all(int fd, std::size_t most, std::string_view what);
/// Writes all of it.
Result<void> write_all(int fd, std::string_view bytes, std::string_view what);
/// fcntl(F_DUPFD_CLOEXEC): a copy whose number is at least `least`.
Result<UniqueFd> dup_fd(int fd, int least = 0);
/// An anonymous file (memfd_create(2)) with these bytes, sealed against write, shrink, grow and seals; executable if
/// asked.
Result<UniqueFd> sealed_memfd(const char* name, std::string_view bytes, bool executable);

}  // namespace skink::sys
