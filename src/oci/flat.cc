// SPDX-License-Identifier: Apache-2.0
#include "oci/flat.h"

#include <algorithm>
#include <cstring>

#include "oci/scanner.h"

namespace skink::oci {

/// Reads from one end to the other; whatever it does not know makes it give up.
class FlatParser {
 public:
  explicit FlatParser(std::string& text) : scanner_(text.data(), text.size()) {}

  bool parse(FlatObject& object) {
    out_ = &object;
    return read_object(false) && scanner_.is_at_end();
  }

 private:
  using Kind = FlatObject::Kind;

  bool read_string(std::string_view& string) {
    if (!scanner_.take('"')) return false;
    char* const start = scanner_.at();
    char* put = start + scanner_.take_plain().size();
    while (scanner_.take_next('\\')) {
      *put = scanner_.take_escaped();
      if (*put++ == '\0') return false;
      const std::string_view plain = scanner_.take_plain();
      std::memmove(put, plain.data(), plain.size());
      put += plain.size();
    }
    string = {start, static_cast<std::size_t>(put - start)};
    return scanner_.take_next('"');
  }

  bool read_value(FlatObject::Member& member) {
    const char first = scanner_.peek();
    if (first == '"') return read_string(member.text);
    if (member.nested) return false;
    member.kind = first == '{' ? Kind::object : first == 't' || first == 'f' ? Kind::truth : Kind::number;
    if (member.kind == Kind::object) return true;
    if (member.kind == Kind::number) return scanner_.take_number(member.number);
    member.number = first == 't' ? 1 : 0;
    return scanner_.take_word(first == 't' ? "true" : "false");
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
    if (!scanner_.take('{')) return false;
    if (scanner_.take('}')) return true;
    do {
      FlatObject::Member member;
      member.nested = nested;
      if (!read_string(member.key) || !scanner_.take(':') || !read_value(member)) return false;
      if (!add(member, first)) return false;
      if (member.kind == Kind::object && !read_object(true)) return false;
    } while (scanner_.take(','));
    return scanner_.take('}');
  }

  Scanner<char> scanner_;
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
