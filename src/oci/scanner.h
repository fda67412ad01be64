// SPDX-License-Identifier: Apache-2.0
// The pieces of JSON that the quick readers (flat.cc, json.cc) take at a glance: ASCII that stands for itself, whole
// numbers that surely fit, the words. Whatever else there is makes them give up; parse_json() has the words for it.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <string_view>

namespace skink::oci {

/// Reads from one end to the other. `Char` is char where strings are unescaped in place, else const char.
template <typename Char>
class Scanner {
 public:
  Scanner(Char* text, std::size_t size) : at_(text), end_(text + size) {}

  /// The next character that is no space, which stays; NUL at the end.
  char peek() {
    skip_space();
    return at_ == end_ ? '\0' : *at_;
  }
  bool take(char c) {
    if (peek() != c || at_ == end_) return false;
    ++at_;
    return true;
  }
  bool take_word(std::string_view word) {
    if (!std::string_view(at_, static_cast<std::size_t>(end_ - at_)).starts_with(word)) return false;
    at_ += word.size();
    return true;
  }
  bool is_at_end() {
    skip_space();
    return at_ == end_;
  }

  /// A string's characters up to the next that does not stand for itself: its end, or what begins an escape.
  std::string_view take_plain() {
    Char* const start = at_;
    while (at_ != end_ && kPlain[static_cast<unsigned char>(*at_)]) ++at_;
    return {start, static_cast<std::size_t>(at_ - start)};
  }
  /// After a backslash: what the next character means; NUL for an escape by number, and for none.
  char take_escaped() {
    if (at_ == end_) return '\0';
    constexpr std::string_view kFrom = "\"\\/bfnrt", kTo = "\"\\/\b\f\n\r\t";
    const auto index = kFrom.find(*at_++);
    return index == std::string_view::npos ? '\0' : kTo[index];
  }
  bool take_next(char c) {
    if (at_ == end_ || *at_ != c) return false;
    ++at_;
    return true;
  }

  /// JSON's whole numbers: no leading zero, no plus, and none of those that do not fit.
  bool take_number(std::int64_t& number) {
    Char* const start = at_;
    if (at_ != end_ && *at_ == '-') ++at_;
    Char* const digits = at_;
    number = 0;
    for (; at_ != end_ && is_digit(*at_); ++at_) {
      if (__builtin_mul_overflow(number, 10, &number) || __builtin_add_overflow(number, *at_ - '0', &number))
        return false;
    }
    const auto count = at_ - digits;
    if (count == 0 || (count > 1 && *digits == '0')) return false;
    if (digits != start) number = -number;
    return at_ == end_ || (*at_ != '.' && *at_ != 'e' && *at_ != 'E');
  }

  [[nodiscard]] Char* at() const { return at_; }

 private:
  static bool is_digit(char c) { return c >= '0' && c <= '9'; }
  static constexpr std::array<bool, 256> make_plain() {
    std::array<bool, 256> plain{};
    for (std::size_t c = 0x20; c < 0x7f; ++c) plain[c] = c != '"' && c != '\\';
    return plain;
  }
  static constexpr std::array<bool, 256> kPlain = make_plain();

  void skip_space() {
    while (at_ != end_ && (*at_ == ' ' || *at_ == '\n' || *at_ == '\t' || *at_ == '\r')) ++at_;
  }

  Char* at_;
  Char* end_;
};

}  // namespace skink::oci
