// SPDX-License-Identifier: Apache-2.0
#include "oci/flat.h"

#include <algorithm>
#include <array>
#include <cstring>

#include "base/text.h"

namespace skink::oci {

namespace {

constexpr std::array<bool, 256> make_plain() {
  std::array<bool, 256> plain{};
  for (std::size_t c = 0x20; c < 0x7f; ++c) plain[c] = c != '"' && c != '\\';
  return plain;
}
constexpr std::array<bool, 256> kPlain = make_plain();

}  // namespace

/// Reads from one end to the other; whatever it does not know makes it give up.
class FlatParser {
 public:
  explicit FlatParser(std::string& text) : at_(text.data()), end_(text.data() + text.size()) {}

  bool parse(FlatObject& object) {
    out_ = &object;
    if (!read_object(false)) return false;
    skip_space();
    return at_ == end_;
  }

 private:
  using Kind = FlatObject::Kind;

  void skip_space() {
    while (at_ != end_ && (*at_ == ' ' || *at_ == '\n' || *at_ == '\t' || *at_ == '\r')) ++at_;
  }
  bool take(char c) {
    skip_space();
    if (at_ == end_ || *at_ != c) return false;
    ++at_;
    return true;
  }
  bool take_word(std::string_view word) {
    if (!std::string_view(at_, static_cast<std::size_t>(end_ - at_)).starts_with(word)) return false;
    at_ += word.size();
    return true;
  }

  static char unescaped(char c) {
    constexpr std::string_view kFrom = "\"\\/bfnrt", kTo = "\"\\/\b\f\n\r\t";
    const auto index = kFrom.find(c);
    return index == std::string_view::npos ? '\0' : kTo[index];
  }

  // What stands for itself: most of a text, so it is passed over quickly.
  void skip_plain() {
    while (at_ != end_ && kPlain[static_cast<unsigned char>(*at_)]) ++at_;
  }

  bool read_string(std::string_view& string) {
    if (!take('"')) return false;
    char* const start = at_;
    skip_plain();
    char* put = at_;
    while (at_ != end_ && *at_ == '\\') {
      if (++at_ == end_) return false;
      *put = unescaped(*at_++);
      if (*put++ == '\0') return false;
      const char* const from = at_;
      skip_plain();
      std::memmove(put, from, static_cast<std::size_t>(at_ - from));
      put += at_ - from;
    }
    string = {start, static_cast<std::size_t>(put - start)};
    return at_ != end_ && *at_++ == '"';
  }

  // JSON's whole numbers: no leading zero, no plus, and never so long that they do not fit.
  bool read_number(std::int64_t& number) {
    const char* const start = at_;
    constexpr std::ptrdiff_t kLongest = 18;
    if (at_ != end_ && *at_ == '-') ++at_;
    const char* const digits = at_;
    while (at_ != end_ && *at_ >= '0' && *at_ <= '9') ++at_;
    const auto count = at_ - digits;
    if (count == 0 || count > kLongest || (count > 1 && *digits == '0')) return false;
    if (at_ != end_ && (*at_ == '.' || *at_ == 'e' || *at_ == 'E')) return false;
    number = parse_int<std::int64_t>({start, static_cast<std::size_t>(at_ - start)}).value_or(0);
    return true;
  }

  bool read_value(FlatObject::Member& member) {
    skip_space();
    if (at_ == end_) return false;
    if (*at_ == '"') return read_string(member.text);
    if (member.nested) return false;
    member.kind = *at_ == '{' ? Kind::object : *at_ == 't' || *at_ == 'f' ? Kind::truth : Kind::number;
    if (member.kind == Kind::object) return true;
    if (member.kind == Kind::number) return read_number(member.number);
    member.number = *at_ == 't' ? 1 : 0;
    return take_word(*at_ == 't' ? "true" : "false");
  }

  bool add(FlatObject::Member member, std::size_t first) {
    auto& members = out_->members_;
    const auto same = [&](const auto& other) { return other.key == member.key && other.nested == member.nested; };
    if (std::any_of(members.begin() + static_cast<std::ptrdiff_t>(first), members.end(), same)) return false;
    members.push_back(member);
    return true;
  }

  bool read_object(bool nested) {
    const std::size_t first = out_->members_.size();
    if (!take('{')) return false;
    if (take('}')) return true;
    do {
      FlatObject::Member member;
      member.nested = nested;
      if (!read_string(member.key) || !take(':') || !read_value(member)) return false;
      if (!add(member, first)) return false;
      if (member.kind == Kind::object && !read_object(true)) return false;
    } while (take(','));
    return take('}');
  }

  char* at_;
  char* end_;
  FlatObject* out_ = nullptr;
};

std::optional<FlatObject> FlatObject::parse(std::string& text) {
  constexpr std::size_t kUsual = 24;
  FlatObject object;
  object.members_.reserve(kUsual);
  if (!FlatParser(text).parse(object)) return std::nullopt;
  return object;
}

const FlatObject::Member* FlatObject::find(std::string_view key, Kind kind) const {
  for (std::size_t i = 0; i < members_.size(); ++i) {
    const std::size_t at = next_ + i < members_.size() ? next_ + i : next_ + i - members_.size();
    const Member& member = members_[at];
    if (member.nested || member.key != key) continue;
    next_ = at + 1;
    return member.kind == kind ? &member : nullptr;
  }
  return nullptr;
}

std::string_view FlatObject::get_string(std::string_view key) const {
  const Member* const member = find(key, Kind::text);
  return member == nullptr ? std::string_view{} : member->text;
}

std::int64_t FlatObject::get_int(std::string_view key) const {
  const Member* const member = find(key, Kind::number);
  return member == nullptr ? 0 : member->number;
}

bool FlatObject::get_bool(std::string_view key) const {
  const Member* const member = find(key, Kind::truth);
  return member != nullptr && member->number == 1;
}

std::vector<std::pair<std::string_view, std::string_view>> FlatObject::get_strings(std::string_view key) const {
  std::vector<std::pair<std::string_view, std::string_view>> strings;
  const Member* member = find(key, Kind::object);
  if (member == nullptr) return strings;
  const Member* const end = members_.data() + members_.size();
  for (++member; member != end && member->nested; ++member) strings.emplace_back(member->key, member->text);
  return strings;
}

}  // namespace skink::oci
