// SPDX-License-Identifier: Apache-2.0
// Exits: the records of how processes ended: of the guard of its children, and of a supervisor what it had to find out.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <optional>

#include "base/result.h"
#include "skink/engine.h"
#include "supervise/guard/protocol.h"
#include "sys/process.h"

namespace skink::supervise {

/// The first record of `pid` at or after the offset `from` (beyond the end: from the start).
Result<std::optional<ExitRecord>> find_exit(int exits_fd, pid_t pid, std::int64_t from);
/// Where the next record will be.
Result<std::int64_t> exits_end(int exits_fd);

/// Adds one that the guard could not write, as it was killed first; best effort.
void add_exit(int exits_fd, const ExitRecord& record);

/// How a process ended, in the words of LastExit.
LastExit last_exit_of(const ExitRecord& record);
/// An end that nobody saw.
LastExit unknown_exit();
/// The exit status of a process that is not our child, by a pidfd that was opened while it lived
/// (PIDFD_GET_INFO, 6.15); nothing when the kernel does not tell.
std::optional<ExitRecord> ask_kernel(int pidfd, pid_t pid);
/// Whether the kernel is one whose /proc/PID/stat has the status of a whole thread group, as wait(2) tells it, also
/// when the first thread went before the others: 5.17. Asked is PIDFD_GET_INFO, 6.13.
bool shows_group_status(int pidfd);
/// How a process ended that its parent has not reaped yet, out of /proc. The kernel shows the status to whom
/// ptrace(2) would allow to read the process, and 0 to others: `is_shown` says that this is not such a 0.
struct Zombie {
  ExitRecord record;
  bool is_shown = false;
};
std::optional<Zombie> read_zombie(const sys::ProcessIdentity& identity);

}  // namespace skink::supervise
