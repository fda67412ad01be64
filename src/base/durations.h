// SPDX-License-Identifier: Apache-2.0
// Durations in nanoseconds, as clock_gettime(2) and the files that we write count them.
#pragma once

#include <cstdint>

namespace skink {

inline constexpr std::int64_t kMillisecond = 1'000'000;
inline constexpr std::int64_t kSecond = 1'000 * kMillisecond;

}  // namespace skink
