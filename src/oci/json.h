// SPDX-License-Identifier: Apache-2.0
// Strict JSON (attack A68): one document, UTF-8, no duplicate keys, bounded depth and size, no NaN; built on nlohmann's
// SAX parser. Only oci/, state/, supervise/, image/ and cli/ .cc files include this header; nlohmann throws nowhere
// outside.
#pragma once

#include <cassert>

// nlohmann's checks of itself, at each value's every move, are a tenth of what a list of containers takes. The builds
// with sanitizers have them (meson.build).
#ifndef JSON_ASSERT
#define JSON_ASSERT(condition) static_cast<void>(0)
#endif
#include <nlohmann/json.hpp>
#include <string_view>

#include "base/result.h"

namespace skink::oci {

using Json = nlohmann::ordered_json;

inline constexpr std::size_t kConfigLimit = 16U << 20;   ///< bytes of a config.json
inline constexpr std::size_t kDocumentLimit = 4U << 20;  ///< bytes of any other document

/// The document, or an error that says what is wrong and at which byte. Depth is at most 64.
Result<Json> parse_json(std::string_view text, std::size_t most = kDocumentLimit);

/// Compact text of a document; strings that are not UTF-8 are replaced, never thrown about.
std::string dump_json(const Json& json, bool pretty = false);

/// Member lookup that never throws: nullptr when `json` is no object or has no such member.
const Json* find(const Json& json, std::string_view key);
/// Typed members with a default, for documents of our own (state files); a member of another type gives the default.
std::string get_string(const Json& json, std::string_view key, std::string_view otherwise = {});
std::int64_t get_int(const Json& json, std::string_view key, std::int64_t otherwise = 0);
bool get_bool(const Json& json, std::string_view key, bool otherwise = false);

/// Adds a member to the object, but for one that a reader with the same default takes for granted: what is read once
/// for each container of a list should be short.
template <typename Value, typename Default = Value>
void put(Json& json, const char* key, const Value& value, const Default& otherwise = Default{}) {
  if (!(value == otherwise)) json[key] = value;
}

}  // namespace skink::oci
