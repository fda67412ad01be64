// SPDX-License-Identifier: Apache-2.0
// Watch: hearing from the kernel that a group ran out of memory, or is short of it.
#pragma once

#include <poll.h>

#include <cstdint>
#include <span>
#include <string_view>
#include <vector>

#include "cgroup/cgroup.h"

namespace skink::cgroup {

/// What happened since the last look.
struct Happening {
  enum class Kind { out_of_memory, memory_pressure } kind{};
  /// Of pressure: "low", "medium" or "critical" as cgroup v1 says it; "some" or "full" as cgroup v2 does.
  std::string_view level = {};
};

/// Watches one group: poll(2) what sources() lists, then take() tells what it was.
class Watch {
 public:
  /// Whatever of it this host can tell. Memory pressure on cgroup v2 is that within 2 s some (or all) tasks waited for
  /// memory for 300 (200) ms.
  enum class What { all, out_of_memory };
  static Result<Watch> open(const Group& group, What what = What::all);

  struct Source {
    UniqueFd fd;
    short events = 0;  ///< for poll(2)
    Happening happening;
  };
  [[nodiscard]] const std::vector<Source>& sources() const { return sources_; }
  /// `polled` is what poll(2) said of each source, in their order. An out of memory is told as often as it happened.
  std::vector<Happening> take(std::span<const pollfd> polled);

 private:
  Watch() = default;
  void add_v1(int dir_fd, What what);
  void add_unified(int dir_fd, What what);
  std::size_t take_notices(const Source& source) const;
  std::size_t take_kills(const Source& source);

  std::vector<Source> sources_;
  std::vector<UniqueFd> kept_;  ///< what v1 notices are about has to stay open
  std::uint64_t kills_ = 0;
};

}  // namespace skink::cgroup
