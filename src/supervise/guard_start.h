// SPDX-License-Identifier: Apache-2.0
// GuardStart: makes the guard of a container, from a command or from a supervisor whose guard has died.
#pragma once

#include <string>

#include "base/result.h"
#include "base/unique_fd.h"

namespace skink::supervise {

/// What a guard is given, borrowed; see guard/protocol.h. The rest is made here.
struct GuardStart {
  int listener = -1, run_dir = -1, store_dir = -1, run_root = -1, store_root = -1;
  int group = -1;          ///< the control group that it is made in; -1: at the top, out of its starter's
  std::string name;        ///< the container's, for its own and its supervisor's command line
  bool terminal = false;   ///< no output pipes
  int out = -1, err = -1;  ///< the container's, instead of output pipes
  bool revive = false;     ///< the container may be running still: its records of exits are kept
};

/// Takes the lock on `alive`, makes pipes and queue, and starts the guard, which starts the supervisor. busy when the
/// container already has one.
Result<void> start_guard(const GuardStart& start);

/// A new guard with the descriptors that this process, a supervisor, was itself started with.
Result<void> replace_guard(const std::string& name);

}  // namespace skink::supervise
