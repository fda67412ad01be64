// SPDX-License-Identifier: Apache-2.0
// Control files: one open, one read or write, one close on a file of a group, without allocation for writes.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace skink::cgroup {

/// Writes `value` in one write(2), as control files want it. 0, or the kernel's error number.
[[nodiscard]] int write_control(int dir_fd, const char* name, std::string_view value);
/// The whole file into `text` (replaced). 0, or the kernel's error number.
[[nodiscard]] int read_control(int dir_fd, const char* name, std::string& text);
/// The whole file; empty where it cannot be read.
[[nodiscard]] std::string text_of(int dir_fd, const char* name);
/// The number that the file holds; nothing when there is no such file, or something else in it ("max").
[[nodiscard]] std::optional<std::uint64_t> read_number(int dir_fd, const char* name);
/// True when the group has the file.
[[nodiscard]] bool has_control(int dir_fd, const char* name);

/// The text without a newline at its end.
[[nodiscard]] std::string_view chomp(std::string_view text);
/// The number that `text` is, a newline at its end aside.
[[nodiscard]] std::optional<std::uint64_t> number_in(std::string_view text);
/// `limit`, or nothing where it is how v1 says "no limit": the largest number of whole pages.
[[nodiscard]] std::optional<std::uint64_t> below_no_limit(std::optional<std::uint64_t> limit);
/// True when `word` is one of the words of `text` that spaces, commas or newlines separate.
[[nodiscard]] bool has_word(std::string_view text, std::string_view word);
/// The value of the line "key value" in a flat keyed file such as cgroup.events; empty when there is none.
[[nodiscard]] std::string_view keyed(std::string_view text, std::string_view key);

}  // namespace skink::cgroup
