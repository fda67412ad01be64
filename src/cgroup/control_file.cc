// SPDX-License-Identifier: Apache-2.0
#include "cgroup/control_file.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>

#include "base/text.h"
#include "base/unique_fd.h"
#include "sys/file.h"
#include "sys/interrupt.h"

namespace skink::cgroup {

int write_control(int dir_fd, const char* name, std::string_view value) {
  const UniqueFd fd{::openat(dir_fd, name, O_WRONLY | O_CLOEXEC | O_NOFOLLOW | O_NOCTTY)};
  if (!fd) return errno;
  ssize_t written = -1;
  do {
    written = ::write(fd.get(), value.data(), value.size());
  } while (written < 0 && sys::must_retry());
  if (written < 0) return errno;
  return static_cast<std::size_t>(written) == value.size() ? 0 : EIO;
}

int read_control(int dir_fd, const char* name, std::string& text) {
  text.clear();
  const UniqueFd fd{::openat(dir_fd, name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NOCTTY)};
  if (!fd) return errno;
  char piece[4096];
  for (;;) {
    const ssize_t count = ::read(fd.get(), piece, sizeof piece);
    if (count < 0 && sys::must_retry()) continue;
    if (count < 0) return errno;
    if (count == 0) return 0;
    text.append(piece, static_cast<std::size_t>(count));
  }
}

std::string text_of(int dir_fd, const char* name) {
  std::string text;
  if (read_control(dir_fd, name, text) != 0) text.clear();
  return text;
}

std::optional<std::uint64_t> read_number(int dir_fd, const char* name) {
  std::string text;
  if (read_control(dir_fd, name, text) != 0) return std::nullopt;
  return number_in(text);
}

bool has_control(int dir_fd, const char* name) { return sys::stat_at(dir_fd, name, AT_SYMLINK_NOFOLLOW).has_value(); }

std::string_view chomp(std::string_view text) {
  while (!text.empty() && (text.back() == '\n' || text.back() == ' ')) text.remove_suffix(1);
  return text;
}

std::optional<std::uint64_t> number_in(std::string_view text) { return parse_int<std::uint64_t>(chomp(text)); }

std::optional<std::uint64_t> below_no_limit(std::optional<std::uint64_t> limit) {
  constexpr std::uint64_t kInfinity = 0x7fff'ffff'0000'0000;
  return limit && *limit >= kInfinity ? std::nullopt : limit;
}

bool has_word(std::string_view text, std::string_view word) {
  while (!text.empty()) {
    const std::size_t end = text.find_first_of(" ,\n");
    if (text.substr(0, end) == word) return true;
    if (end == std::string_view::npos) return false;
    text.remove_prefix(end + 1);
  }
  return false;
}

std::string_view keyed(std::string_view text, std::string_view key) {
  while (!text.empty()) {
    const std::size_t end = text.find('\n');
    const std::string_view line = text.substr(0, end);
    if (line.size() > key.size() && line.starts_with(key) && line[key.size()] == ' ')
      return line.substr(key.size() + 1);
    if (end == std::string_view::npos) break;
    text.remove_prefix(end + 1);
  }
  return {};
}

}  // namespace skink::cgroup
