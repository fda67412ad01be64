// SPDX-License-Identifier: Apache-2.0
// state.json: a container's record as text, and back.
#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "state/state.h"

namespace skink::state {

inline constexpr const char* kRecordFile = "state.json";
inline constexpr std::size_t kRecordLimit = 1U << 24;  // the annotations of a config.json

std::string dump_record(const Record& record);

/// The record of container `id`. Errors: one of another container, or not what dump_record() writes.
Result<Record> parse_record(std::string text, const std::string& id);

/// The same without its groups, which are left as the text that cgroup::is_frozen() takes; nothing for what
/// parse_record() should look at. `text` is changed and has to outlive the answer.
struct Glimpse {
  Record record;
  std::string_view groups;
};
std::optional<Glimpse> glimpse_record(std::string& text, const std::string& id);

/// As sys::open_identified(), without a descriptor that nobody would signal through: the letter of its state, nothing
/// when it is gone.
std::optional<char> alive_state(const sys::ProcessIdentity& identity);

}  // namespace skink::state
