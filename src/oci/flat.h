// SPDX-License-Identifier: Apache-2.0
// A quick look at a small JSON object of our own, without building a tree: a list of containers reads one for each.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace skink::oci {

/// An object whose members are strings, whole numbers, true, false, or objects of strings. It refers to the text.
class FlatObject {
 public:
  /// Nothing for any other document, also for one that is faulty, holds anything but ASCII or escapes characters by
  /// number: parse_json() takes those and has the words for an error. Strings are unescaped in place, so that `text` is
  /// changed; it has to live as long as the object.
  static std::optional<FlatObject> parse(std::string& text);

  // A member that is not there or of another type is empty, 0 or false, as with get_string() of oci/json.h.
  [[nodiscard]] std::string_view get_string(std::string_view key) const;
  [[nodiscard]] std::int64_t get_int(std::string_view key) const;
  [[nodiscard]] bool get_bool(std::string_view key) const;
  /// The members of an object.
  [[nodiscard]] std::vector<std::pair<std::string_view, std::string_view>> get_strings(std::string_view key) const;

 private:
  friend class FlatParser;
  enum class Kind { text, number, truth, object };
  struct Member {
    std::string_view key, text;
    Kind kind = Kind::text;
    std::int64_t number = 0;
    bool nested = false;  // of the object before it
  };
  [[nodiscard]] const Member* find(std::string_view key, Kind kind) const;
  std::vector<Member> members_;
  mutable std::size_t next_ = 0;  ///< where the next one asked for stands, if they are asked for in their order
};

}  // namespace skink::oci
