// SPDX-License-Identifier: Apache-2.0
// Controllers of the unified hierarchy: what a group has, and switching them on for it from the top down.
#pragma once

#include <string>

#include "base/result.h"
#include "cgroup/cgroup.h"

namespace skink::cgroup {

/// Switches every controller that the mount point offers on for `place`, as far as that goes: a group that holds
/// processes, for one, refuses. What is missing is an error only when a limit needs it.
void enable_all(const Place& place, int dir_fd);

/// Makes sure that the group `dir_fd` at `place` has `controller`. False: this hierarchy has not got it at all.
/// An error: it has, but some group on the way refuses (no internal processes, threaded, real-time tasks).
Result<bool> enable(const Place& place, int dir_fd, const std::string& controller);

}  // namespace skink::cgroup
