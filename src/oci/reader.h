// SPDX-License-Identifier: Apache-2.0
// Reader: takes typed values out of a JSON document and keeps the first error, with the JSON path it happened at.
// Internal to oci/.
#pragma once

#include <limits>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

#include "oci/image.h"
#include "oci/json.h"
#include "oci/rules.h"

namespace skink::oci {

/// One step of a JSON path. Steps live on the stack of the reading functions and become text only in an error.
struct Step {
  const Step* up = nullptr;
  std::string_view key = {};
  std::size_t index = 0;
  enum class Kind { member, map_key, element } kind = Kind::member;
};

std::string path_text(const Step* step);

/// Reads the value it stands on. `may` and `must` read members of an object by the type of their target; a rule
/// after the target narrows what is allowed (rules.h). After the first error nothing more is read. A member that is
/// null counts as absent, as it does for the Go programs that write these documents.
class Reader {
 public:
  /// describe() functions take Ref<T>: filled here, only looked at by Writer.
  template <typename T>
  using Ref = T&;

  Reader(const Json& json, const Step* step, std::optional<Error>& error) : json_(json), step_(step), error_(error) {}

  template <typename T, typename... Rule>
  void may(std::string_view key, T& out, const Rule&... rule) {
    read_member(key, false, out, rule...);
  }
  template <typename T, typename... Rule>
  void must(std::string_view key, T& out, const Rule&... rule) {
    read_member(key, true, out, rule...);
  }
  /// As may(); a Writer writes it even when it is zero or empty.
  template <typename T, typename... Rule>
  void keep(std::string_view key, T& out, const Rule&... rule) {
    read_member(key, false, out, rule...);
  }
  /// A member `inner` of the object that is the member `outer`.
  template <typename T, typename... Rule>
  void may_in(std::string_view outer, std::string_view inner, T& out, const Rule&... rule) {
    if (failed() || !has(outer)) return;
    const Step step{step_, outer};
    Reader object(*find(json_, outer), &step, error_);
    if (object.expect(object.json_.is_object(), "an object")) object.may(inner, out, rule...);
  }
  /// A list for which no words are defined yet: only an empty one is taken.
  void none_in(std::string_view outer, std::string_view inner);

  void read(bool& out);
  void read(std::string& out);
  void read(std::string& out, const Words& words);
  void read(std::uint32_t& out, const ModeBits&);
  void read(char& out, const Letters& letters);
  void read(std::uint64_t& mask, const CapabilityNames&);
  void read(std::uint64_t& mask, const NamedBits& names);
  void read(int& out, const RlimitNames&);
  template <typename E>
  requires(std::is_enum_v<E> || std::is_same_v<E, int>) void read(E& out, const NamedNumbers& names) {
    int number = 0;
    read_named(number, names);
    out = static_cast<E>(number);
  }

  template <Number T>
  void read(T& out, const Range<T>& range = {}) {
    out = static_cast<T>(read_integer({range.least, range.most}));
  }
  void read(std::optional<std::int64_t>& out, const Wildcard&);
  void read(std::map<std::string, std::string>& out, const MemberOfEach& member);
  void read(std::vector<std::string>& out, const KeysOf&);
  void read(Digest& out);
  template <typename T, typename... Rule>
  void read(std::optional<T>& out, const Rule&... rule) {
    out.emplace();
    read(*out, rule...);
  }
  template <typename T, typename... Rule>
  void read(std::vector<T>& out, const Rule&... rule);
  template <typename T, typename... Rule>
  void read(std::map<std::string, T>& out, const Rule&... rule);
  template <Described T>
  void read(T& out) {
    if (!expect(json_.is_object(), "an object")) return;
    describe(*this, out);
  }

  [[nodiscard]] bool failed() const { return error_.has_value(); }
  [[nodiscard]] const Json& json() const { return json_; }
  [[nodiscard]] bool has(std::string_view key) const {
    const Json* value = find(json_, key);
    return value != nullptr && !value->is_null();
  }
  /// "<path>: <value found> is not <expected>" unless `holds`.
  bool expect(bool holds, std::string_view expected);
  /// "<path>: <words>".
  void fail(std::string_view words);
  void fail_at(std::string_view key, std::string_view words);
  /// Another error, with the path before it.
  void fail(Error&& error);

 private:
  template <typename T, typename... Rule>
  void read_member(std::string_view key, bool required, T& out, const Rule&... rule) {
    if (failed()) return;
    const Json* value = find(json_, key);
    const bool absent = value == nullptr || value->is_null();
    if (absent && !required) return;
    const Step step{step_, key};
    Reader member(absent ? json_ : *value, &step, error_);
    if (absent) return member.fail("is missing");
    member.read(out, rule...);
  }

  /// Signed and unsigned 64-bit limits together: -2^63 to 2^64-1.
  struct Wide {
    Limit least, most;
  };
  /// The number in 64 bits (two's complement), checked before anybody narrows it (attack A30).
  std::uint64_t read_integer(const Wide& range);
  void read_named(int& out, const NamedNumbers& names);

  const Json& json_;
  const Step* step_;
  std::optional<Error>& error_;
};

template <typename T, typename... Rule>
void Reader::read(std::vector<T>& out, const Rule&... rule) {
  if (!expect(json_.is_array(), "a list")) return;
  out.reserve(json_.size());
  for (const Json& element : json_.get_ref<const Json::array_t&>()) {
    const Step step{step_, {}, out.size(), Step::Kind::element};
    Reader(element, &step, error_).read(out.emplace_back(), rule...);
    if (failed()) return;
  }
}

template <typename T, typename... Rule>
void Reader::read(std::map<std::string, T>& out, const Rule&... rule) {
  if (!expect(json_.is_object(), "an object")) return;
  for (const auto& [key, value] : json_.get_ref<const Json::object_t&>()) {
    const Step step{step_, key, 0, Step::Kind::map_key};
    Reader member(value, &step, error_);
    if (key.find('\0') != std::string::npos) member.fail("the key has a NUL byte in it");
    if (!failed()) member.read(out[key], rule...);
    if (failed()) return;
  }
}

/// A whole document of type T. `name` begins the paths in its errors; without one it is "the document".
template <typename T>
Result<T> read_document(std::string_view text, std::size_t most, std::string_view name = {}) {
  const Json json = TRY(parse_json(text, most));
  T out{};
  std::optional<Error> error;
  const Step root{nullptr, name};
  Reader(json, name.empty() ? nullptr : &root, error).read(out);
  if (error) return std::move(*error);
  return out;
}

}  // namespace skink::oci
