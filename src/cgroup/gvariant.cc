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

constexpr int kDeepest = 8;                        // arrays of arrays; no property has more than two
constexpr std::size_t kLongestType = 255;          // D-Bus Specification, "Valid Signatures"
constexpr std::string_view kBasic = "ybnqiuxtds";  // what else there is, object paths and such, no property has

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
  Result<bus::Value> any_value(std::string_view type, int depth);
  Result<bus::Value> typed(int depth);
  Result<bus::Value> quoted_text();
  Result<bus::Value> number(std::string_view type, int depth);
  [[nodiscard]] Result<bus::Value> real(std::string_view digits) const;
  [[nodiscard]] Result<bus::Value> integer(std::string_view digits, char code) const;
  Result<bus::Value> array(std::string_view type, int depth);
  Result<bus::Value> tuple(std::string_view type, int depth);
  Result<bool> goes_on(char close);
  void skip_spaces() {
    while (at_ < text_.size() && std::isspace(static_cast<unsigned char>(text_[at_])) != 0) ++at_;
  }
  [[nodiscard]] char peek() const { return at_ < text_.size() ? text_[at_] : '\0'; }
  std::string_view word() {
    const std::size_t start = at_;
    while (std::isalnum(static_cast<unsigned char>(peek())) != 0 || peek() == '+' || peek() == '-' || peek() == '.')
      ++at_;
    return text_.substr(start, at_ - start);
  }
  [[nodiscard]] Error wrong(std::string_view what) const {
    constexpr std::size_t kShown = 80;
    return Error::make(Code::invalid_config, quoted(text_.substr(0, kShown)), text_.size() > kShown ? "..." : "",
                       " is no GVariant text: ", what, " at byte ", at_);
  }
  std::string_view text_;
  std::size_t at_ = 0;
};

char code_of(std::string_view word) {
  for (const NumberType& named : kNumbers)
    if (named.word == word) return named.code;
  constexpr std::pair<std::string_view, char> kOthers[] = {{"boolean", 'b'}, {"double", 'd'}, {"string", 's'}};
  for (const auto& [name, code] : kOthers)
    if (name == word) return code;
  return '\0';
}

// How much of `type` is its first complete type; 0 when it begins with none that is known here.
std::size_t type_length(std::string_view type, int depth = 0) {
  if (type.empty() || depth > kDeepest) return 0;
  if (type[0] == 'a') {
    const std::size_t element = type_length(type.substr(1), depth + 1);
    return element == 0 ? 0 : element + 1;
  }
  if (type[0] != '(') return kBasic.find(type[0]) == std::string_view::npos ? 0 : 1;
  std::size_t at = 1;
  while (at < type.size() && type[at] != ')') {
    const std::size_t member = type_length(type.substr(at), depth + 1);
    if (member == 0) return 0;
    at += member;
  }
  return at > 1 && at < type.size() ? at + 1 : 0;
}

Result<bus::Value> Parser::whole() {
  bus::Value out = TRY(value({}, 0));
  skip_spaces();
  if (at_ != text_.size()) return wrong("something follows the value");
  return out;
}

Result<bus::Value> Parser::value(std::string_view type, int depth) {
  skip_spaces();
  if (depth > kDeepest) return wrong("too many brackets or types");
  bus::Value out = TRY(any_value(type, depth));
  // Else what is sent has another form than its signature says, and the bus ends the connection.
  if (!type.empty() && out.type != type) return wrong(str("a value of type ", type, " is expected"));
  if (out.type.size() > kLongestType) return wrong("its type is too long");
  return out;
}

Result<bus::Value> Parser::any_value(std::string_view type, int depth) {
  switch (peek()) {
    case '\'':
    case '"': return quoted_text();
    case '[': return array(type, depth);
    case '(': return tuple(type, depth);
    case '@': return typed(depth);
    case '\0': return wrong("nothing is there");
    default: return number(type, depth);
  }
}

Result<bus::Value> Parser::typed(int depth) {
  const std::size_t start = ++at_;
  while (at_ < text_.size() && text_[at_] != ' ') ++at_;
  const std::string_view type = text_.substr(start, at_ - start);
  if (type.empty() || type.size() > kLongestType || type_length(type) != type.size())
    return wrong("the type after @ is none that is known here");
  return value(type, depth + 1);
}

Result<bus::Value> Parser::quoted_text() {
  const char quote = text_[at_++];
  std::string out;
  for (; at_ < text_.size() && text_[at_] != quote; ++at_) {
    char c = text_[at_];
    if (c == '\0') return wrong("a NUL, which no string can have");
    if (c == '\\') {
      ++at_;
      c = peek();
      if (c == '\0' || std::string_view("\\'\"nt").find(c) == std::string_view::npos) return wrong("an unknown escape");
      if (c == 'n') c = '\n';
      if (c == 't') c = '\t';
    }
    out += c;
  }
  if (at_ == text_.size()) return wrong("a quote is not closed");
  ++at_;
  return bus::text(std::move(out));
}

Result<bus::Value> Parser::number(std::string_view type, int depth) {
  const std::string_view first = word();
  if (first == "true" || first == "false") return bus::boolean(first == "true");
  // A type in front, of which there can be one.
  if (const char code = type.empty() ? code_of(first) : '\0'; code != '\0')
    return value(std::string_view(&code, 1), depth + 1);
  const bool looks_real = type.empty() && first.find_first_of(".eE") != std::string_view::npos &&
                          first.find("0x") == std::string_view::npos;
  return type == "d" || looks_real ? real(first) : integer(first, type.empty() ? 'i' : type[0]);
}

Result<bus::Value> Parser::real(std::string_view digits) const {
  bus::Value out;
  const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), out.real);
  if (error != std::errc{} || end != digits.data() + digits.size()) return wrong("not a value");
  out.type = "d";
  return out;
}

// As strtoull(3) reads them: 0x17 is hexadecimal, 017 octal.
Result<bus::Value> Parser::integer(std::string_view digits, char code) const {
  const auto* const known = std::ranges::find(kNumbers, code, &NumberType::code);
  if (known == std::end(kNumbers)) return wrong("a number is not expected");
  const bool minus = digits.starts_with('-');
  if (minus || digits.starts_with('+')) digits.remove_prefix(1);
  const int base = digits.starts_with("0x") ? 16 : digits.size() > 1 && digits[0] == '0' ? 8 : 10;
  if (base != 10) digits.remove_prefix(base == 16 ? 2 : 1);
  const auto number = parse_int<std::uint64_t>(digits, base);
  if (!number) return wrong("not a value");
  if (*number > (minus ? 0 - static_cast<std::uint64_t>(known->least) : known->most))
    return wrong("a number too large or too small for its type");
  bus::Value out;
  out.type = std::string(1, code);
  out.number = minus ? 0 - *number : *number;
  return out;
}

// After a value in brackets: true when another one is to come.
Result<bool> Parser::goes_on(char close) {
  skip_spaces();
  if (peek() == ',') ++at_;
  else if (peek() != close) return wrong("a comma is missing");
  skip_spaces();
  return peek() != close;
}

Result<bus::Value> Parser::array(std::string_view type, int depth) {
  if (!type.empty() && type[0] != 'a') return wrong("an array is not expected");
  std::string element(type.empty() ? type : type.substr(1));
  std::vector<bus::Value> out;
  ++at_;
  skip_spaces();
  for (bool more = peek() != ']'; more; more = TRY(goes_on(']'))) {
    out.push_back(TRY(value(element, depth + 1)));
    // The first one says what an array is of.
    if (element.empty()) element = out.front().type;
  }
  ++at_;
  if (element.empty()) return wrong("an empty array does not tell its type: put one such as @as in front");
  return bus::array(element, std::move(out));
}

Result<bus::Value> Parser::tuple(std::string_view type, int depth) {
  if (!type.empty() && type[0] != '(') return wrong("a tuple is not expected");
  std::string_view rest = type.empty() ? type : type.substr(1);  // the types that are still to come, and ")"
  std::vector<bus::Value> out;
  ++at_;
  skip_spaces();
  for (bool more = peek() != ')'; more; more = TRY(goes_on(')'))) {
    const std::string_view member = rest.substr(0, type_length(rest));
    if (!type.empty() && member.empty()) return wrong("more values than its type has");
    out.push_back(TRY(value(member, depth + 1)));
    rest.remove_prefix(member.size());
  }
  ++at_;
  if (out.empty()) return wrong("an empty tuple is no value of a property");
  return bus::structure(std::move(out));
}

}  // namespace

Result<bus::Value> parse_gvariant(std::string_view text) { return Parser(text).whole(); }

}  // namespace skink::cgroup
