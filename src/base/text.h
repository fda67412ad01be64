// SPDX-License-Identifier: Apache-2.0
// Text: numbers out of text (all of it or an error), splitting, and bytes made safe to print.
#pragma once

#include <charconv>
#include <concepts>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"

namespace skink {

/// The whole of `text` as a number in `base`, or nothing: no sign but '-', no spaces, no rest (CVE-2026-30892).
template <std::integral T>
[[nodiscard]] std::optional<T> parse_int(std::string_view text, int base = 10) {
  T value{};
  const auto [end, ec] = std::from_chars(text.data(), text.data() + text.size(), value, base);
  if (ec != std::errc{} || end != text.data() + text.size()) return std::nullopt;
  return value;
}

/// Pieces between separators; "a::b" has an empty one in the middle, "" is one empty piece.
[[nodiscard]] std::vector<std::string_view> split(std::string_view text, char separator);

/// Before and after the first `separator`; nothing when there is none.
[[nodiscard]] std::optional<std::pair<std::string_view, std::string_view>> split_once(std::string_view text,
                                                                                      char separator);

/// `text` for a terminal: control bytes, DEL, invalid UTF-8 and bidirectional controls as \xNN or \u{N}, the rest as it
/// is. Everything that came from an image or a document passes here before it is printed (attack A78).
[[nodiscard]] std::string printable(std::string_view text);

/// `text` between double quotes, made printable.
[[nodiscard]] std::string quoted(std::string_view text);
// Exact matches, since argument-dependent lookup finds the templates of std::quoted where <iomanip> is included.
[[nodiscard]] inline std::string quoted(const std::string& text) { return quoted(std::string_view(text)); }
[[nodiscard]] inline std::string quoted(std::string& text) { return quoted(std::string_view(text)); }
[[nodiscard]] inline std::string quoted(const char* text) { return quoted(std::string_view(text)); }

/// Bytes with an optional unit b, k, m, g, t (powers of 1024, either case), as docker's -m takes. "-1" is -1.
[[nodiscard]] Result<std::int64_t> parse_size(std::string_view text);

/// A duration in nanoseconds: Go's form ("1m30s", "100ms", "1.5h") or plain seconds ("10"). Not negative.
[[nodiscard]] Result<std::int64_t> parse_duration_ns(std::string_view text);

/// The same the other way round, to the two largest units that say something: "1h5m", "12s", "1s500ms", "400ms".
[[nodiscard]] std::string duration_text(std::int64_t ns);

/// Lower-case hexadecimal of bytes.
[[nodiscard]] std::string to_hex(const std::uint8_t* bytes, std::size_t count);

/// True when `text` is valid UTF-8 (no surrogates, no overlong forms).
[[nodiscard]] bool is_utf8(std::string_view text);

}  // namespace skink
