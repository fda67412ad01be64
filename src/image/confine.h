// SPDX-License-Identifier: Apache-2.0
// Confinement of a process that reads what an attacker may have made: it keeps a few descriptors and the calls to read
// and write them, and nothing else.
#pragma once

#include <cstdint>
#include <vector>

#include "base/result.h"

namespace skink::image {

// The sanitizers of test builds take terabytes of address space and make calls of their own.
#ifdef __SANITIZE_ADDRESS__
inline constexpr bool kIsWatched = true;
#else
inline constexpr bool kIsWatched = false;
#endif

struct ConfineLimits {
  static constexpr std::uint64_t kUnlimited = ~std::uint64_t{0};
  std::uint64_t memory = kUnlimited;     ///< bytes of private memory that can be written
  std::uint64_t mapped = kUnlimited;     ///< bytes of address space
  std::uint64_t seconds = kUnlimited;    ///< of a processor; then SIGXCPU ends it
  std::uint64_t file_size = kUnlimited;  ///< bytes of a file that it writes; more is EFBIG, or SIGXFSZ ends it
};

/// Leaves the calling process, which must have one thread, with the descriptors `keep`, no capability, another user,
/// these limits (or lower ones that it has already), no other files or processes, and a seccomp filter under which any
/// call but reading, writing and memory kills it. It dies with its parent. For good.
Result<void> confine(std::vector<int> keep, const ConfineLimits& limits);

}  // namespace skink::image
