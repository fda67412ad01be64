// SPDX-License-Identifier: Apache-2.0
// Confinement of a process that reads what an attacker may have made: it keeps a few descriptors and the calls to read
// and write them, and nothing else.
#pragma once

#include <cstdint>
#include <vector>

#include "base/result.h"

namespace skink::image {

/// Leaves the calling process, which must have one thread, with the descriptors `keep`, no capability, another user,
/// limits on memory (`memory` bytes of address space), files and processes, and a seccomp filter under which any call
/// but reading, writing and memory kills it. It dies with its parent. For good.
Result<void> confine(std::vector<int> keep, std::uint64_t memory);

}  // namespace skink::image
