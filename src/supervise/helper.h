// SPDX-License-Identifier: Apache-2.0
// Helper: a short-lived child of a supervisor, for what can block or is too large to stay in it. It is in the
// supervisor's control group, not in the container's; it does not hold the lock on `alive`, and dies with its
// supervisor.
#pragma once

#include <functional>
#include <span>

#include "base/result.h"
#include "base/unique_fd.h"

namespace skink::supervise {

/// Forks. The child, called `name` in /proc, keeps the descriptors `keep` (ascending, beyond 2; none: all but the
/// lock), runs `work` and exits with what that returns. Its pidfd; the caller reaps it.
Result<UniqueFd> start_helper(const char* name, std::span<const int> keep, const std::function<int()>& work);

}  // namespace skink::supervise
