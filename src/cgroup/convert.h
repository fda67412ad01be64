// SPDX-License-Identifier: Apache-2.0
// Conversions from the values of the runtime-spec (cgroup v1 units) to those of cgroup v2; pure.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "base/result.h"

namespace skink::cgroup {

/// cpu.shares (2 to 262144, default 1024) as cpu.weight (1 to 10000, default 100): the curve that meets both ends and
/// both defaults. 0 stays 0 (not set).
[[nodiscard]] std::uint64_t weight_of_shares(std::uint64_t shares);

/// blkio weight (10 to 1000) as io.weight (1 to 10000), linear. 0 stays 0.
[[nodiscard]] std::uint64_t io_weight_of_blkio(std::uint64_t weight);

/// v1 counts memory and swap together, v2 swap alone: memory.swap.max for `swap` beside `limit` (bytes, -1 no limit).
Result<std::int64_t> swap_max(std::int64_t swap, std::int64_t limit);

/// A number, or "max" for -1, as v2 writes no limit.
[[nodiscard]] std::string or_max(std::int64_t value);

/// One file name: not empty, "." or "..", without "/", control bytes and at most 255 bytes (attack A81). `what` is the
/// JSON path for the error.
Result<void> check_component(std::string_view name, std::string_view what);

/// True when every number of the list `some` ("0-3,8") is in the list `all`. Neither need be in order.
[[nodiscard]] bool list_within(std::string_view some, std::string_view all);

}  // namespace skink::cgroup
