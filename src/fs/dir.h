// SPDX-License-Identifier: Apache-2.0
// Directories: listing, atomic replacement, removal by descriptor, locks, and making paths below a root.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "base/unique_fd.h"
#include "sys/file.h"

namespace skink::fs {

/// Whether data must survive a power cut (fsync of file and directory) or only a crash of ours.
enum class Durability { volatile_state, durable };

struct Entry {
  std::string name;
  unsigned char type = 0;  ///< DT_*; resolved by fstatat where the file system does not tell
};

/// Names in a directory, without "." and "..", in the order of the file system.
Result<std::vector<Entry>> list(int dir_fd);

/// Reads the regular file `name` below `dir_fd` (O_NOFOLLOW, O_NONBLOCK; anything else is an error), at most `most`
/// bytes.
Result<std::string> read_file(int dir_fd, const char* name, std::size_t most);
/// The same for a file in a directory below, by a path in which nothing may be a link (openat2, RESOLVE_BENEATH).
Result<std::string> read_file_beneath(int dir_fd, const char* path, std::size_t most);

/// The same of a file that nobody but us can have written: it and the directory are private (attack A36).
Result<std::string> read_private_file(int dir_fd, const char* name, std::size_t most);

/// fsync of each file and directory, side by side, by threads that have ended when it returns: what waits for the disk
/// then waits for the same commit of the file system's journal, and the same flush, instead of one after the other.
Result<void> sync_all(const std::vector<int>& fds);

/// Replaces `name` whole: a temporary file with a random name in the same directory, then rename. A reader sees the old
/// or the new text, never a part. On failure the temporary file is gone.
Result<void> write_file_atomic(int dir_fd, const char* name, std::string_view text, mode_t mode,
                               Durability durability = Durability::volatile_state);

/// Makes every missing component of an absolute host path, 0700 or `mode`, and opens the last as a directory.
/// For our own directories, never for a path inside a container.
Result<UniqueFd> make_dirs(const std::string& path, mode_t mode = 0700);

/// A directory of ours: owned by the effective user, not writable by others (attack A36).
Result<void> check_private(int dir_fd, std::string_view path);

/// Makes and opens such a directory, which nobody but us and root can put another in the place of: the directories
/// above it, by name and as they are, and the links of its name are ours or root's and not for others to write, except
/// sticky ones (attack A36).
Result<UniqueFd> open_private(const std::string& path);

/// Opens (O_PATH) an administrator's directory by a path in which nothing is a link, and nothing, the directory itself
/// included, is for anybody but us and root to write, except sticky ones. What is put in the place of one of them later
/// is not what the descriptor leads to (attack A96).
Result<UniqueFd> open_trusted(const std::string& path);

/// Removes `name` below `dir_fd` with everything in it, without recursion on the stack, never following a link and
/// never crossing into another mount: a directory on which something is mounted is an error of kind busy (attack A15).
/// Nothing there is success.
Result<void> remove_tree(int dir_fd, const char* name);

/// Makes directory `path` below `root_fd` as mkdir -p would inside a chroot (openat2 in-root at each step), and opens
/// it with O_PATH | O_DIRECTORY. Existing components are left as they are.
Result<UniqueFd> make_dir_in_root(int root_fd, const std::string& path, mode_t mode);

/// An exclusive or shared flock(2) on a file or directory, held until the object dies.
class Lock {
 public:
  enum class Mode { shared, exclusive };
  /// Blocks until it has the lock. The descriptor is taken over.
  static Result<Lock> take(UniqueFd fd, Mode mode, std::string_view what);
  /// As take; nothing (busy) when another holds it.
  static Result<Lock> try_take(UniqueFd fd, Mode mode, std::string_view what);
  /// As take; busy when another still holds it after that time.
  static Result<Lock> take_within(std::int64_t patience_ns, UniqueFd fd, Mode mode, std::string_view what);
  [[nodiscard]] int fd() const { return fd_.get(); }
  [[nodiscard]] UniqueFd release() && { return std::move(fd_); }

 private:
  explicit Lock(UniqueFd fd) : fd_(std::move(fd)) {}
  UniqueFd fd_;
};

/// Who has such a lock on the file, as /proc/locks tells it: nobody where the device has another number there than
/// stat(2) tells (btrfs, overlay). The number of the file alone is not enough, as that of every file system begins with
/// 1.
std::vector<pid_t> lock_holders(const struct stat& file);

/// `count` random bytes in hex from getrandom(2).
std::string random_hex(std::size_t count);

/// The current time as RFC 3339 with nanoseconds in UTC ("2026-11-23T03:34:23.097755213Z"), or of a given time.
std::string rfc3339_now();
std::string rfc3339(std::int64_t unix_ns);
/// Unix nanoseconds of an RFC 3339 text; nothing when it is none.
std::optional<std::int64_t> parse_rfc3339(std::string_view text);
std::int64_t now_ns();        ///< CLOCK_REALTIME
std::int64_t monotonic_ns();  ///< CLOCK_BOOTTIME, for deadlines

}  // namespace skink::fs
