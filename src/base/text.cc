// SPDX-License-Identifier: Apache-2.0
#include "base/text.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>

namespace skink {

std::vector<std::string_view> split(std::string_view text, char separator) {
  std::vector<std::string_view> pieces;
  pieces.reserve(static_cast<std::size_t>(std::ranges::count(text, separator)) + 1);
  for (;;) {
    const auto at = text.find(separator);
    pieces.push_back(text.substr(0, at));
    if (at == std::string_view::npos) return pieces;
    text.remove_prefix(at + 1);
  }
}

std::optional<std::pair<std::string_view, std::string_view>> split_once(std::string_view text, char separator) {
  const auto at = text.find(separator);
  if (at == std::string_view::npos) return std::nullopt;
  return std::pair{text.substr(0, at), text.substr(at + 1)};
}

namespace {

struct CodePoint {
  char32_t value;
  std::size_t length;  // 0: the bytes are not UTF-8
};

// Unicode 15, table 3-7: well-formed byte sequences.
CodePoint decode(std::string_view text) {
  const auto byte = [&](std::size_t i) { return static_cast<unsigned char>(text[i]); };
  const unsigned char lead = byte(0);
  if (lead < 0x80) return {lead, 1};
  const std::size_t length = lead >= 0xf0 ? 4 : lead >= 0xe0 ? 3 : 2;
  if (lead < 0xc2 || lead > 0xf4 || text.size() < length) return {0, 0};
  char32_t value = lead & (0xffU >> (length + 1));
  for (std::size_t i = 1; i < length; ++i) {
    if ((byte(i) & 0xc0U) != 0x80) return {0, 0};
    value = (value << 6) | (byte(i) & 0x3fU);
  }
  constexpr std::array<char32_t, 5> kLeast{0, 0, 0x80, 0x800, 0x10000};
  const bool surrogate = value >= 0xd800 && value <= 0xdfff;
  if (value < kLeast.at(length) || value > 0x10ffff || surrogate) return {0, 0};
  return {value, length};
}

bool steers_terminal(char32_t c) {
  const bool control = c < 0x20 || (c >= 0x7f && c < 0xa0);
  const bool separator = c == 0x2028 || c == 0x2029;
  const bool bidi =
      c == 0x061c || c == 0x200e || c == 0x200f || (c >= 0x202a && c <= 0x202e) || (c >= 0x2066 && c <= 0x2069);
  return control || separator || bidi || c == 0xfeff;
}

void append_escape(std::string& out, char32_t c, bool is_byte) {
  constexpr std::string_view kDigits = "0123456789abcdef";
  if (is_byte) {
    out += "\\x";
    out += kDigits[(c >> 4) & 15];
    out += kDigits[c & 15];
    return;
  }
  std::array<char, 8> digits{};
  const auto end = std::to_chars(digits.data(), digits.data() + digits.size(), static_cast<std::uint32_t>(c), 16).ptr;
  out += "\\u{";
  out.append(digits.data(), end);
  out += '}';
}

}  // namespace

std::string printable(std::string_view text) {
  const auto is_plain = [](char c) { return c >= 0x20 && c < 0x7f; };
  if (std::all_of(text.begin(), text.end(), is_plain)) return std::string(text);
  std::string out;
  out.reserve(text.size());
  while (!text.empty()) {
    const CodePoint point = decode(text);
    if (point.length == 0) {
      append_escape(out, static_cast<unsigned char>(text[0]), true);
      text.remove_prefix(1);
      continue;
    }
    if (steers_terminal(point.value)) append_escape(out, point.value, point.value < 0x80);
    else out += text.substr(0, point.length);
    text.remove_prefix(point.length);
  }
  return out;
}

std::string quoted(std::string_view text) { return str('"', printable(text), '"'); }

bool is_utf8(std::string_view text) {
  while (!text.empty()) {
    const CodePoint point = decode(text);
    if (point.length == 0) return false;
    text.remove_prefix(point.length);
  }
  return true;
}

Result<std::int64_t> parse_size(std::string_view text) {
  const auto bad = [&] {
    return Error::make(Code::invalid_config, quoted(text),
                       " is not a size; use bytes or a number with b, k, m, g or t, as in 64m");
  };
  if (text == "-1") return std::int64_t{-1};
  std::string_view digits = text;
  std::int64_t unit = 1;
  if (!digits.empty() && (digits.back() == 'b' || digits.back() == 'B')) digits.remove_suffix(1);
  if (!digits.empty()) {
    constexpr std::string_view kUnits = "kmgtKMGT";
    const auto at = kUnits.find(digits.back());
    if (at != std::string_view::npos) {
      unit = std::int64_t{1} << (10 * (at % 4 + 1));
      digits.remove_suffix(1);
    }
  }
  const auto value = parse_int<std::int64_t>(digits);
  if (!value || *value < 0 || *value > std::numeric_limits<std::int64_t>::max() / unit) return bad();
  return *value * unit;
}

Result<std::int64_t> parse_duration_ns(std::string_view text) {
  const auto bad = [&] {
    return Error::make(Code::invalid_config, quoted(text),
                       " is not a duration; use seconds or a form such as 1m30s or 100ms");
  };
  constexpr double kMost = 9.2e18;
  if (const auto seconds = parse_int<std::int64_t>(text)) {
    if (*seconds < 0 || static_cast<double>(*seconds) * 1e9 > kMost) return bad();
    return *seconds * 1'000'000'000;
  }
  struct Unit {
    std::string_view name;
    double ns;
  };
  constexpr std::array<Unit, 6> kUnits{{{"ns", 1}, {"us", 1e3}, {"ms", 1e6}, {"s", 1e9}, {"m", 60e9}, {"h", 3600e9}}};
  if (text.empty()) return bad();
  double total = 0;
  std::string_view rest = text;
  while (!rest.empty()) {
    const auto digits = rest.find_first_not_of("0123456789.");
    if (digits == 0 || digits == std::string_view::npos) return bad();
    double value = 0;
    const auto [end, ec] = std::from_chars(rest.data(), rest.data() + digits, value);
    if (ec != std::errc{} || end != rest.data() + digits) return bad();
    rest.remove_prefix(digits);
    const auto letters = std::min(rest.find_first_of("0123456789."), rest.size());
    const std::string_view name = rest.substr(0, letters);
    rest.remove_prefix(letters);
    double ns = 0;
    for (const auto& unit : kUnits)
      if (unit.name == name) ns = unit.ns;
    total += value * ns;
    if (ns == 0 || total > kMost) return bad();
  }
  return static_cast<std::int64_t>(std::llround(total));
}

std::string duration_text(std::int64_t ns) {
  struct Unit {
    std::string_view name;
    std::int64_t ns;
  };
  constexpr std::array<Unit, 6> kUnits{{{"h", 3'600'000'000'000},
                                        {"m", 60'000'000'000},
                                        {"s", 1'000'000'000},
                                        {"ms", 1'000'000},
                                        {"us", 1'000},
                                        {"ns", 1}}};
  std::string text;
  int left = 2;
  for (const auto& unit : kUnits) {
    if (!text.empty()) --left;
    if (left > 0 && ns >= unit.ns) text += str(ns / unit.ns, unit.name);
    ns %= unit.ns;
  }
  return text.empty() ? "0s" : text;
}

std::string to_hex(const std::uint8_t* bytes, std::size_t count) {
  constexpr std::string_view kDigits = "0123456789abcdef";
  std::string out;
  out.reserve(count * 2);
  for (std::size_t i = 0; i < count; ++i) {
    out += kDigits[bytes[i] >> 4];
    out += kDigits[bytes[i] & 15];
  }
  return out;
}

}  // namespace skink
