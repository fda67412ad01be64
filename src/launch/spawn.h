// SPDX-License-Identifier: Apache-2.0
// Spawn: the one place where a container process is cloned. The child shares this process's memory until it has
// executed the sealed skink-init (as vfork does), so it only moves descriptors and calls execveat.
#pragma once

#include <sys/types.h>

#include <string>
#include <vector>

#include "base/result.h"
#include "base/unique_fd.h"

namespace skink::launch {

struct SpawnRequest {
  std::uint64_t clone_flags = 0;  ///< new namespaces
  int cgroup_fd = -1;             ///< for CLONE_INTO_CGROUP
  bool as_sibling = false;        ///< CLONE_PARENT
  int stdio[3] = {0, 1, 2};
  std::vector<int> keep;  ///< descriptors that lose close-on-exec
  /// 3 .. 3+preserve-1 are not used for anything of ours; those that the caller passed to us have no close-on-exec, and
  /// those that it did not are to stay closed.
  unsigned preserve = 0;
  int plan_fd = -1;
};

struct Spawned {
  pid_t pid = 0;
  UniqueFd pidfd;
};

/// Clones and executes skink-init. This process must have one thread.
Result<Spawned> spawn(const SpawnRequest& request);

}  // namespace skink::launch
