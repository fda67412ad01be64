// SPDX-License-Identifier: Apache-2.0
#include "oci/reader.h"

#include <algorithm>

#include "base/text.h"
#include "oci/spec.h"

namespace skink::oci {
namespace {

/// What was found, short enough for one line.
std::string shown(const Json& json) {
  if (json.is_object()) return "an object";
  if (json.is_array()) return "a list";
  const auto* text = json.get_ptr<const Json::string_t*>();
  return text == nullptr ? dump_json(json) : brief(*text);
}

std::string limit_text(const Limit& limit) {
  return limit.negative ? str(static_cast<std::int64_t>(limit.bits)) : str(limit.bits);
}

bool below(const Limit& a, const Limit& b) {
  if (a.negative != b.negative) return a.negative;
  return a.bits < b.bits;
}

template <typename Names, typename NameOf>
std::string one_of(const Names& names, NameOf name_of) {
  std::string out = names.size() > 1 ? "one of " : "";
  std::string_view comma;
  for (const auto& name : names) {
    if (std::string_view(name_of(name)).empty()) continue;
    out += comma;
    out += name_of(name);
    comma = ", ";
  }
  return out;
}

std::string one_of(std::span<const NamedNumber> names) {
  return one_of(names, [](const NamedNumber& named) -> std::string_view { return named.name; });
}

const NamedNumber* find_name(std::span<const NamedNumber> names, std::string_view name) {
  const auto at = std::find_if(names.begin(), names.end(), [&](const NamedNumber& n) { return n.name == name; });
  return at == names.end() ? nullptr : &*at;
}

}  // namespace

std::string brief(std::string_view text) {
  constexpr std::size_t kMost = 80;
  if (text.size() <= kMost) return quoted(text);
  return str(quoted(text.substr(0, kMost)), "... (", text.size(), " bytes)");
}

std::string path_text(const Step* step) {
  if (step == nullptr) return {};
  std::string path = path_text(step->up);
  if (step->kind == Step::Kind::element) return str(path, '[', step->index, ']');
  if (step->kind == Step::Kind::map_key) return str(path, '[', brief(step->key), ']');
  return path.empty() ? std::string(step->key) : str(path, '.', step->key);
}

void Reader::fail(std::string_view words) {
  if (failed()) return;
  const std::string path = path_text(step_);
  if (path.empty()) error_ = Error::make(Code::invalid_config, "the document ", words);
  else error_ = Error::make(Code::invalid_config, path, ": ", words);
}

void Reader::fail_at(std::string_view key, std::string_view words) {
  const Step step{step_, key};
  Reader(json_, &step, error_).fail(words);
}

void Reader::fail(Error&& error) {
  if (!failed()) error_ = std::move(error).context(path_text(step_));
}

bool Reader::expect(bool holds, std::string_view expected) {
  if (failed()) return false;
  if (holds) return true;
  const std::string found = shown(json_);
  // The document itself has no path: "the document is a list, not an object".
  fail(step_ == nullptr ? str("is ", found, ", not ", expected) : str(found, " is not ", expected));
  return false;
}

void Reader::read(bool& out) {
  if (expect(json_.is_boolean(), "true or false")) out = json_.get<bool>();
}

void Reader::read(std::string& out) {
  if (!expect(json_.is_string(), "a string")) return;
  const auto& text = json_.get_ref<const Json::string_t&>();
  // Each of these strings becomes a C string somewhere, and would end early there (attack A77).
  if (text.find('\0') != std::string::npos) return fail("the string has a NUL byte in it");
  out = text;
}

void Reader::read(std::string& out, const Words& words) {
  const auto* text = json_.get_ptr<const Json::string_t*>();
  const bool known = text != nullptr && std::find(words.words.begin(), words.words.end(), *text) != words.words.end();
  if (known) out = *text;
  else expect(false, one_of(words.words, [](std::string_view word) { return word; }));
}

void Reader::read(std::uint32_t& out, const ModeBits&) {
  read(out);
  out &= 07777U;
}

void Reader::read(char& out, const Letters& letters) {
  const auto* text = json_.get_ptr<const Json::string_t*>();
  const bool known = text != nullptr && text->size() == 1 && letters.letters.find((*text)[0]) != std::string::npos;
  if (known) out = (*text)[0];
  else expect(false, one_of(letters.letters, [](const char& letter) { return std::string_view(&letter, 1); }));
}

void Reader::read_named(int& out, const NamedNumbers& names) {
  const auto* text = json_.get_ptr<const Json::string_t*>();
  const NamedNumber* named = text == nullptr ? nullptr : find_name(names.names, *text);
  if (named != nullptr) out = named->number;
  else expect(false, one_of(names.names));
}

void Reader::read(std::uint64_t& mask, const NamedBits& names) {
  std::vector<std::string> list;
  read(list);
  for (std::size_t i = 0; i < list.size() && !failed(); ++i) {
    const NamedNumber* named = find_name(names.names, list[i]);
    const Step step{step_, {}, i, Step::Kind::element};
    if (named != nullptr) mask |= static_cast<std::uint64_t>(named->number);
    else Reader(json_[i], &step, error_).expect(false, one_of(names.names));
  }
}

void Reader::read(std::uint64_t& mask, const CapabilityNames&) {
  std::vector<std::string> list;
  read(list);
  for (std::size_t i = 0; i < list.size() && !failed(); ++i) {
    const int number = capability_number(list[i]);
    // Not an error: "SHOULD NOT fail if the container configuration requests capabilities that cannot be granted"
    // (config.md "Linux Process").
    mask |= number >= 0 ? std::uint64_t{1} << number : kUnknownCapability;
  }
}

void Reader::read(int& out, const RlimitNames&) {
  const auto* text = json_.get_ptr<const Json::string_t*>();
  const int number = text == nullptr ? -1 : rlimit_number(*text);
  if (number >= 0) out = number;
  else expect(false, "a resource limit, such as RLIMIT_NOFILE");
}

void Reader::read(std::optional<std::int64_t>& out, const Wildcard&) {
  std::int64_t number = 0;
  read(number, Range<std::int64_t>{-1, 4294967295});
  if (number >= 0) out = number;
}

void Reader::read(std::map<std::string, std::string>& out, const MemberOfEach& member) {
  if (!expect(json_.is_object(), "an object")) return;
  for (const auto& [key, value] : json_.get_ref<const Json::object_t&>()) {
    const Step step{step_, key, 0, Step::Kind::map_key};
    Reader entry(value, &step, error_);
    if (key.find('\0') != std::string::npos) entry.fail("the key has a NUL byte in it");
    if (entry.expect(value.is_object() || value.is_null(), "an object")) entry.may(member.key, out[key]);
    if (failed()) return;
  }
}

void Reader::read(std::vector<std::string>& out, const KeysOf&) {
  if (!expect(json_.is_object(), "an object")) return;
  for (const auto& [key, value] : json_.get_ref<const Json::object_t&>()) {
    if (key.find('\0') != std::string::npos) return fail("the string has a NUL byte in it");
    out.push_back(key);
  }
}

void Reader::read(Digest& out) {
  const auto* text = json_.get_ptr<const Json::string_t*>();
  if (!expect(text != nullptr, "a digest")) return;
  auto digest = Digest::parse(*text);
  if (digest) out = *std::move(digest);
  else fail(std::move(digest).error());
}

void Reader::none_in(std::string_view outer, std::string_view inner) {
  std::vector<std::string> list;
  may_in(outer, inner, list);
  if (list.empty() || failed()) return;
  const Step object{step_, outer};
  const Step step{&object, inner};
  Reader(json_, &step, error_).fail(str(brief(list.front()), " is not a word that the specification knows"));
}

std::uint64_t Reader::read_integer(const Wide& range) {
  const bool integer = json_.is_number_integer();
  const Limit number = !integer                     ? Limit(0)
                       : json_.is_number_unsigned() ? Limit(json_.get<std::uint64_t>())
                                                    : Limit(json_.get<std::int64_t>());
  if (integer && !below(number, range.least) && !below(range.most, number)) return number.bits;
  const std::string_view kind = json_.is_number_float() ? "a whole number" : "a number";
  expect(false, str(kind, " from ", limit_text(range.least), " to ", limit_text(range.most)));
  // Some value of the range: the caller narrows it before anybody looks at the error.
  return range.most.bits;
}

}  // namespace skink::oci
