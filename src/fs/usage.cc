// SPDX-License-Identifier: Apache-2.0
#include "fs/usage.h"

#include <fcntl.h>
#include <sys/stat.h>

#include <cerrno>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "fs/dir.h"
#include "sys/descriptors.h"
#include "sys/file.h"

namespace skink::fs {
namespace {

constexpr std::int64_t kStatBlock = 512;  // the unit of st_blocks, whatever the file system's

class Sum {
 public:
  // Whether it is a directory to look into.
  bool add(const struct stat& status) {
    if (device_ == 0) device_ = status.st_dev;
    if (status.st_dev != device_) return false;
    if (status.st_nlink > 1 && !S_ISDIR(status.st_mode) && !seen_.insert(status.st_ino).second) return false;
    bytes_ += std::int64_t{status.st_blocks} * kStatBlock;
    return S_ISDIR(status.st_mode);
  }
  [[nodiscard]] std::int64_t bytes() const { return bytes_; }

 private:
  dev_t device_ = 0;
  std::set<ino_t> seen_;  // of several names
  std::int64_t bytes_ = 0;
};

bool is_gone(const Error& error) { return error.errnum() == ENOENT || error.errnum() == ENOTDIR; }

// A directory on the way down, and what is left to look at of it.
struct Descent {
  UniqueFd dir;
  std::vector<Entry> left;
};

Result<void> enter(std::vector<Descent>& levels, int dir_fd, const char* name) {
  auto opened = sys::open_at(dir_fd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW);
  // A container may nest deeper than we may have files open: it is counted as far down as that.
  if (!opened && (is_gone(opened.error()) || sys::is_want_of_descriptors(opened.error()))) return {};
  Descent level{.dir = TRY(std::move(opened)), .left = {}};
  auto left = list(level.dir.get());
  if (!left && sys::is_want_of_descriptors(left.error())) return {};
  level.left = TRY(std::move(left));
  levels.push_back(std::move(level));
  return {};
}

}  // namespace

Result<std::int64_t> disk_usage(int dir_fd, const char* name) {
  Sum sum;
  std::vector<Descent> levels;
  const auto look = [&](int at, const char* what) -> Result<void> {
    const auto status = sys::stat_at(at, what, AT_SYMLINK_NOFOLLOW);
    if (!status) return is_gone(status.error()) ? Result<void>() : status.error();
    return sum.add(*status) ? enter(levels, at, what) : Result<void>();
  };
  TRY(look(dir_fd, name));
  while (!levels.empty()) {
    if (levels.back().left.empty()) {
      levels.pop_back();
      continue;
    }
    const Entry entry = std::move(levels.back().left.back());
    levels.back().left.pop_back();
    TRY(look(levels.back().dir.get(), entry.name.c_str()));
  }
  return sum.bytes();
}

}  // namespace skink::fs
