// SPDX-License-Identifier: Apache-2.0
// Channel: the launcher's end of the SEQPACKET protocol of plan/child_plan.h.
#pragma once

#include <cerrno>
#include <cstdint>
#include <optional>
#include <vector>

#include "base/result.h"
#include "base/unique_fd.h"
#include "plan/child_plan.h"

namespace skink::launch {

struct Received {
  plan::Message message{};
  UniqueFd fd;
};

/// A connected pair: ours and the child's.
struct SocketPair {
  UniqueFd ours, theirs;
};
Result<SocketPair> make_socket_pair();

/// The number of an error that says that the process was killed before it could say anything: no call of ours gives it.
inline constexpr int kKilledNumber = EOWNERDEAD;

/// Sends one message with `arg`, and with these descriptors beside it. A peer that is gone is an error of kind
/// not_found, with that number.
Result<void> send(int socket_fd, plan::Kind kind, const std::vector<UniqueFd>& files = {}, int arg = 0);

/// Waits until there is something to receive. busy when that is not before `end_ns` (CLOCK_BOOTTIME).
Result<void> await_message(int socket_fd, std::int64_t end_ns);

/// The next message, or nothing at end of file. Blocks.
Result<std::optional<Received>> receive(int socket_fd);

}  // namespace skink::launch
