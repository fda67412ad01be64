// SPDX-License-Identifier: Apache-2.0
#include "cgroup/gvariant.h"

#include <algorithm>
#include <cctype>
#include <charconv>
#include <limits>
#include <utility>

#include "base/text.h"

namespace skink::cgroup {
namespace {

constexpr int kDeepest = 8;  // arrays of arrays; no property has more than two

struct NumberType {
  std::string_view word;
  char code;
  std::int64_t least;
  std::uint64_t most;
};
template <typename T>
constexpr NumberType number_type(std::string_view word, char code) {
  return {word, code, static_cast<std::int64_t>(std::numeric_limits<T>::min()),
          static_cast<std::uint64_t>(std::numeric_limits<T>::max())};
}
constexpr NumberType kNumbers[] = {number_type<std::uint8_t>("byte", 'y'),    number_type<std::int16_t>("int16", 'n'),
                                   number_type<std::uint16_t>("uint16", 'q'), number_type<std::int32_t>("int32", 'i'),
                                   number_type<std::uint32_t>("uint32", 'u'), number_type<std::int64_t>("int64", 'x'),
                                   number_type<std::uint64_t>("uint64", 't')};

class Parser {
 public:
  explicit Parser(std::string_view text) : text_(text) {}
  Result<bus::Value> whole();

 private:
  // `type` is what the value has to be, empty when nothing is known.
  Result<bus::Value> value(std::string_view type, int depth);
  Result<bus::Value> typed(int depth);
  Result<bus::Value> number(std::string_view type);
  [[nodiscard]] Result<bus::Value> digits_of(std::string_view digits, std::string_view type) const;
  Result<bus::Value> quoted_text(std::string_view type);
  Result<bus::Value> items(std::string_view type, char close, int depth);
  Result<std::string> string_between(char quote);
  void skip_spaces() {
    while (at_ < text_.size() && (text_[at_] == ' ' || text_[at_] == '\t')) ++at_;
  }
  [[nodiscard]] char peek() const { return at_ < text_.size() ? text_[at_] : '\0'; }
  std::string_view word() {
    const std::size_t start = at_;
    while (std::isalnum(static_cast<unsigned char>(peek())) != 0 || peek() == '+' || peek() == '-' || peek() == '.')
      ++at_;
    return text_.substr(start, at_ - start);
  }
  [[nodiscard]] Error wrong(std::string_view what) const {
    return Error::make(Code::invalid_config, quoted(text_), " is no GVariant text: ", what, " at byte ", at_);
  }
  std::string_view text_;
  std::size_t at_ = 0;
};

char code_of(std::string_view word) {
  for (const NumberType& named : kNumbers)
    if (named.word == word) return named.code;
  constexpr std::pair<std::string_view, char> kOthers[] = {
      {"boolean", 'b'}, {"double", 'd'}, {"string", 's'}, {"objectpath", 'o'}, {"signature", 'g'}};
  for (const auto& [name, code] : kOthers)
    if (name == word) return code;
  return '\0';
}

bool allows(std::string_view type, char code) { return type.empty() || (type.size() == 1 && type[0] == code); }

bus::Value with_text(char type, std::string text) {
  return {.type = std::string(1, type), .number = 0, .real = 0, .text = std::move(text), .items = {}};
}

// "a" and basic types, with structures of basic types in it: what properties have.
bool is_type(std::string_view type) {
  if (type.starts_with('a')) return is_type(type.substr(1));
  if (type.starts_with('(') && type.ends_with(')') && type.size() > 2) type = type.substr(1, type.size() - 2);
  else if (type.size() != 1) return false;
  return std::ranges::all_of(type,
                             [](char c) { return std::string_view("ybnqiuxtdsog").find(c) != std::string_view::npos; });
}

Result<bus::Value> Parser::whole() {
  bus::Value out = TRY(value({}, 0));
  skip_spaces();
  if (at_ != text_.size()) return wrong("something follows the value");
  return out;
}

Result<bus::Value> Parser::value(std::string_view type, int depth) {
  skip_spaces();
  if (depth > kDeepest) return wrong("too many brackets");
  switch (peek()) {
    case '\'':
    case '"': return quoted_text(type);
    case '[': return items(type, ']', depth);
    case '(': return items(type, ')', depth);
    case '@': return typed(depth);
    case '\0': return wrong("nothing is there");
    default: return number(type);
  }
}

Result<bus::Value> Parser::typed(int depth) {
  const std::size_t start = ++at_;
  while (peek() != ' ' && peek() != '\0') ++at_;
  const std::string_view type = text_.substr(start, at_ - start);
  if (!is_type(type)) return wrong("the type after @ is none that is known here");
  return value(type, depth);
}

Result<bus::Value> Parser::quoted_text(std::string_view type) {
  if (!type.empty() && type != "s" && type != "o" && type != "g") return wrong("a string is not expected");
  const char quote = peek();
  ++at_;
  return with_text(type.empty() ? 's' : type[0], TRY(string_between(quote)));
}

Result<std::string> Parser::string_between(char quote) {
  std::string out;
  while (peek() != quote) {
    if (at_ >= text_.size()) return wrong("a quote is not closed");
    char c = text_[at_++];
    if (c == '\\') {
      c = peek();
      if (std::string_view("\\'\"nt").find(c) == std::string_view::npos || c == '\0') return wrong("an unknown escape");
      ++at_;
      if (c == 'n') c = '\n';
      if (c == 't') c = '\t';
    }
    out += c;
  }
  ++at_;
  return out;
}

Result<bus::Value> Parser::number(std::string_view type) {
  const std::string_view first = word();
  if (first == "true" || first == "false") {
    if (!allows(type, 'b')) return wrong("a boolean is not expected");
    return bus::boolean(first == "true");
  }
  // A type in front, of which there can be one.
  if (const char code = type.empty() ? code_of(first) : '\0'; code != '\0') return value(std::string_view(&code, 1), 1);
  return digits_of(first, type);
}

Result<bus::Value> Parser::digits_of(std::string_view digits, std::string_view type) const {
  const bool real = type == "d" || (type.empty() && digits.find_first_of(".eE") != std::string_view::npos &&
                                    !digits.starts_with("0x"));
  bus::Value out;
  if (real) {
    const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), out.real);
    if (error != std::errc{} || end != digits.data() + digits.size()) return wrong("not a number");
    out.type = "d";
    return out;
  }
  const char code = type.empty() ? 'i' : type[0];
  const auto* const known = std::ranges::find(kNumbers, code, &NumberType::code);
  if (known == std::end(kNumbers) || type.size() > 1) return wrong("a number is not expected");
  const bool hex = digits.starts_with("0x");
  const auto negative = parse_int<std::int64_t>(digits);
  const auto positive = parse_int<std::uint64_t>(hex ? digits.substr(2) : digits, hex ? 16 : 10);
  if (positive ? *positive > known->most : !negative || *negative < known->least)
    return wrong(positive || negative ? "a number too large or too small for its type" : "not a value");
  out.type = std::string(1, code);
  out.number = positive ? *positive : static_cast<std::uint64_t>(*negative);
  return out;
}

Result<bus::Value> Parser::items(std::string_view type, char close, int depth) {
  const bool is_array = close == ']';
  if (!type.empty() && type[0] != (is_array ? 'a' : '(')) return wrong("a bracket is not expected");
  std::string element(is_array && !type.empty() ? type.substr(1) : std::string_view{});
  std::vector<bus::Value> out;
  ++at_;
  for (skip_spaces(); peek() != close; skip_spaces()) {
    const bool known = !is_array && !type.empty();
    if (known && out.size() + 2 >= type.size()) return wrong("more values than its type has");
    out.push_back(TRY(value(known ? type.substr(1 + out.size(), 1) : std::string_view(element), depth + 1)));
    // The first one says what an array is of.
    if (is_array && element.empty()) element = out.front().type;
    skip_spaces();
    if (peek() == ',') ++at_;
    else if (peek() != close) return wrong("a comma is missing");
  }
  ++at_;
  if (is_array && element.empty()) return wrong("an empty array does not tell its type: put one such as @as in front");
  if (is_array) return bus::array(element, std::move(out));
  if (out.empty()) return wrong("an empty tuple is no value of a property");
  return bus::structure(std::move(out));
}

}  // namespace

Result<bus::Value> parse_gvariant(std::string_view text) { return Parser(text).whole(); }

}  // namespace skink::cgroup
