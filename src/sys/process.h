// SPDX-License-Identifier: Apache-2.0
// Processes: pidfds, clone3, waiting, and what identifies a process for good.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <string>

#include "base/result.h"
#include "base/unique_fd.h"

namespace skink::sys {

/// How a process ended. `code` is CLD_EXITED, CLD_KILLED or CLD_DUMPED; `status` the exit status or signal (man
/// waitid).
struct ExitStatus {
  int code = 0;
  int status = 0;
  /// As a shell counts: the exit status, or 128 + the signal.
  [[nodiscard]] int shell_status() const;
};

/// pidfd_open(2). A process that is gone is not_found.
Result<UniqueFd> open_pidfd(pid_t pid);
/// pidfd_send_signal(2). A process that is gone is not_found (ESRCH).
Result<void> signal_pidfd(int pidfd, int signal);
/// waitid(P_PIDFD) without blocking: nothing while it runs. Reaps.
Result<bool> wait_pidfd(int pidfd, ExitStatus& status, bool block);
/// Fields of /proc/PID/stat (man proc_pid_stat). A process that is gone, or a zombie, is not_found.
struct ProcessStat {
  char state = 0;
  pid_t parent = 0;
  std::uint64_t start_time = 0;  ///< clock ticks since boot
  std::uint64_t cpu_ticks = 0;   ///< clock ticks used, by the process itself
  bool exiting = false;          ///< PF_EXITING of field 9: it is on its way out
};
Result<ProcessStat> process_stat(pid_t pid);
/// Field 2 of it, the name that the process has had last, while it or its zombie is there.
struct LastName {
  std::string name;
  bool ended = false;  ///< it is a zombie or on its way out
};
Result<LastName> last_name(pid_t pid);
/// Field 22 of /proc/PID/stat: start time in clock ticks since boot. A process that is gone, or a zombie, is not_found.
Result<std::uint64_t> start_time(pid_t pid);
/// /proc/sys/kernel/random/boot_id without the newline.
Result<std::string> boot_id();
/// Whether we are in another user namespace than the host's first: root there is a plain user to the host.
bool in_user_namespace();
/// How many threads this process has.
Result<int> thread_count();

/// What tells one process from any other that has had its number, for ever (fault F10).
struct ProcessIdentity {
  pid_t pid = 0;
  std::uint64_t start_time = 0;  ///< clock ticks since boot
  std::string boot_id;
};

/// The identity of a living process.
Result<ProcessIdentity> identify(pid_t pid);
/// A pidfd of the process that `identity` names: not_found when it is gone, a zombie, or the number has another owner.
Result<UniqueFd> open_identified(const ProcessIdentity& identity);

/// What a process that `identity` names is doing: field 3 of /proc/PID/stat, and fields 14 and 15 together (clock
/// ticks). not_found as with open_identified.
struct Activity {
  char state = 0;  ///< R runs or waits for a CPU, S and D sleep, T is stopped (man proc_pid_stat)
  std::uint64_t cpu_ticks = 0;
  bool exiting = false;  ///< it is on its way out: PF_EXITING of field 9
};
Result<Activity> activity(const ProcessIdentity& identity);

/// A signal's number from "9", "KILL", "SIGKILL", "RTMIN+1", in any case; nothing for anything else, 0 or beyond 64.
[[nodiscard]] int parse_signal(std::string_view text);  // -1 when it is none
/// "SIGKILL" for 9; the number in decimal where it has no name.
[[nodiscard]] std::string signal_name(int signal);

}  // namespace skink::sys
