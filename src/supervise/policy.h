// SPDX-License-Identifier: Apache-2.0
// Policy: whether and when a container that ended is relaunched. Pure.
#pragma once

#include <cstdint>

#include "skink/engine.h"

namespace skink::supervise {

struct Decision {
  bool relaunch = false;
  std::int64_t delay_ns = 0;
};

/// How the run that ended went.
struct RunResult {
  bool success = false;  ///< exit status 0, and known
  std::int64_t ran_ns = 0;
  bool stop_wanted = false;  ///< the user asked for the end
};

/// What to do now. `failures_in_row` counts relaunches since the last stable run and is updated: the first relaunch
/// after a stable run is at once, then the delays grow.
Decision decide(const RestartPolicy& policy, const RunResult& run, std::uint64_t& failures_in_row);

}  // namespace skink::supervise
