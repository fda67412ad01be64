// SPDX-License-Identifier: Apache-2.0
// FdPark: descriptors that must survive their supervisor (terminal, stdin pipe, pidfds, notify socket), kept in flight
// in the queue of a socket pair that the guard holds open. The last message in the queue is the truth; a new supervisor
// looks at it with MSG_PEEK, so that dying in the middle loses nothing.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "base/result.h"
#include "base/unique_fd.h"

namespace skink::supervise {

struct Parked {
  enum class Kind : std::uint32_t { init_pidfd = 1, terminal, stdin_read, stdin_write, exec_pidfd, notify } kind;
  std::uint32_t pid = 0;  ///< of the process, where it is a pidfd
  int fd = -1;            ///< borrowed
};

struct Unparked {
  Parked::Kind kind;
  std::uint32_t pid = 0;
  UniqueFd fd;
};

/// At most this many descriptors (the kernel's SCM_MAX_FD is 253).
inline constexpr std::size_t kMostParked = 250;

/// Makes `parked` the set: the new message goes in before older ones are taken out.
Result<void> park(int in_fd, int out_fd, std::span<const Parked> parked);
/// Copies of what is parked. The queue stays as it is.
Result<std::vector<Unparked>> look_parked(int out_fd);

}  // namespace skink::supervise
