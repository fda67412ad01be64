// SPDX-License-Identifier: Apache-2.0
// Points in time as people give them to --since and --until.
#pragma once

#include <cstdint>
#include <string_view>

#include "base/result.h"

namespace skink::cli {

/// Unix nanoseconds of "10m" (that long before `now_ns`), RFC 3339, a date ("2026-11-23", UTC) or Unix seconds
/// ("1764000000.5").
Result<std::int64_t> parse_time(std::string_view text, std::int64_t now_ns);

}  // namespace skink::cli
