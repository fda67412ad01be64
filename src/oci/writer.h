// SPDX-License-Identifier: Apache-2.0
// Writer: the other direction of Reader, through the same describe() functions. Internal to oci/.
#pragma once

#include <algorithm>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "oci/json.h"
#include "oci/rules.h"
#include "oci/spec.h"

namespace skink::oci {

/// Collects the members of one object. `may` leaves out what is zero, false or empty.
class Writer {
 public:
  template <typename T>
  using Ref = const T&;

  template <typename T, typename... Rule>
  void may(std::string_view key, const T& value, const Rule&... rule) {
    if (is_absent(value)) return;
    Json json = json_of(value, rule...);
    // An object of which nothing was written is no member ("hooks", "linux"); an optional one that is there is.
    if (Described<T> && json.empty()) return;
    add(key, std::move(json));
  }
  template <typename T, typename... Rule>
  void must(std::string_view key, const T& value, const Rule&... rule) {
    add(key, json_of(value, rule...));
  }
  template <typename T, typename... Rule>
  void keep(std::string_view key, const T& value, const Rule&... rule) {
    add(key, json_of(value, rule...));
  }
  template <typename T, typename... Rule>
  void may_in(std::string_view outer, std::string_view inner, const T& value, const Rule&... rule) {
    if (is_absent(value)) return;
    Writer object;
    object.must(inner, value, rule...);
    add(outer, std::move(object).take());
  }
  void none_in(std::string_view, std::string_view) {}

  Json take() &&;

  static Json json_of(bool value) { return value; }
  static Json json_of(const std::string& value) { return value; }
  static Json json_of(const std::string& value, const Words&) { return value; }
  static Json json_of(std::uint32_t value, const ModeBits&) { return value; }
  static Json json_of(char value, const Letters&) { return std::string(1, value); }
  static Json json_of(std::uint64_t mask, const CapabilityNames&);
  static Json json_of(std::uint64_t mask, const NamedBits& names);
  static Json json_of(int resource, const RlimitNames&) { return rlimit_name(resource); }
  static Json json_of(const std::optional<std::int64_t>& value, const Wildcard&) { return *value; }
  static Json json_of(const std::map<std::string, std::string>& value, const MemberOfEach& member);
  template <typename E>
  static Json json_of(const E& value, const NamedNumbers& names) {
    return name_of(static_cast<int>(value), names);
  }
  template <Number T>
  static Json json_of(const T& value, const Range<T>& = {}) {
    return value;
  }
  template <typename T, typename... Rule>
  static Json json_of(const std::optional<T>& value, const Rule&... rule) {
    return json_of(*value, rule...);
  }
  template <typename T, typename... Rule>
  static Json json_of(const std::vector<T>& list, const Rule&... rule);
  template <typename T>
  static Json json_of(const std::map<std::string, T>& map);
  template <Described T>
  static Json json_of(const T& value) {
    Writer object;
    describe(object, value);
    return std::move(object).take();
  }

 private:
  template <typename T>
  static bool is_absent(const T& value) {
    if constexpr (std::is_arithmetic_v<T>) return value == T{};
    else if constexpr (requires { value.has_value(); }) return !value.has_value();
    else if constexpr (kIsStandard<T>) return value.empty();
    else return false;
  }
  static std::string_view name_of(int number, const NamedNumbers& names);
  void add(std::string_view key, Json value) { members_.emplace_back(std::string(key), std::move(value)); }

  std::vector<std::pair<std::string, Json>> members_;
};

template <typename T, typename... Rule>
Json Writer::json_of(const std::vector<T>& list, const Rule&... rule) {
  Json out(Json::value_t::array);
  auto& elements = out.get_ref<Json::array_t&>();
  elements.reserve(list.size());
  for (const T& element : list) elements.push_back(json_of(element, rule...));
  return out;
}

template <typename T>
Json Writer::json_of(const std::map<std::string, T>& map) {
  Writer object;
  for (const auto& [key, value] : map) object.add(key, json_of(value));
  return std::move(object).take();
}

}  // namespace skink::oci
