// SPDX-License-Identifier: Apache-2.0
// Policy: whether and when a container that ended is relaunched. Pure.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "skink/engine.h"

namespace skink::supervise {

struct Decision {
  bool relaunch = false;
  std::int64_t delay_ns = 0;
  std::string outcome;  ///< for people: "relaunched after 400ms", or why it is not
};

/// How the run that ended went.
struct RunResult {
  bool success = false;  ///< exit status 0, and known
  std::int64_t ran_ns = 0;
  bool stop_wanted = false;  ///< the user asked for the end
  int status = -1;           ///< -1: not known, or it could not be launched
  std::int64_t now_ns = 0;   ///< CLOCK_BOOTTIME
  double chance = 0.5;       ///< 0 to 1, for the jitter: 0.5 takes the delay as it is
};

/// What the decisions before this one have left.
struct Streak {
  std::uint64_t failures_in_row = 0;  ///< relaunches since the last stable run
  std::vector<std::int64_t> ends_ns;  ///< CLOCK_BOOTTIME of the latest ends, as many as the budget asks for
};

/// What to do now. The first relaunch after a stable run is at once, then the delays grow.
Decision decide(const RestartPolicy& policy, const RunResult& run, Streak& streak);

}  // namespace skink::supervise
