// SPDX-License-Identifier: Apache-2.0
// OomWatch: whether a process that is being started fell to the kernel's OOM killer, and to which limit.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "cgroup/cgroup.h"

namespace skink::launch {

class OomWatch {
 public:
  /// Without control groups: nothing is known.
  OomWatch() = default;
  /// Counts what was killed in these groups before.
  explicit OomWatch(cgroup::Location location);

  /// Whether the OOM killer has ended a process of the groups since. The kernel counts before it kills.
  [[nodiscard]] bool has_killed() const;
  /// Whether process `pid`, of which we have seen the end of its socket, ended so before it executed its program.
  [[nodiscard]] bool has_killed_init(pid_t pid) const;
  /// What a has_killed() stands on: the limit that was hit, how often, and the way out.
  [[nodiscard]] std::string words() const;
  /// The limit that was hit, or else that of the groups themselves; empty when there is none.
  [[nodiscard]] std::string limit() const;

 private:
  std::optional<cgroup::Location> location_;
  std::uint64_t before_ = 0;
};

}  // namespace skink::launch
