// SPDX-License-Identifier: Apache-2.0
// Status: what a container is doing right now, as its supervisor writes it to RUN at each step. A successor adopts the
// container from it; everybody else reads it. It carries the boot id: after a reboot it means nothing.
#pragma once

#include <array>
#include <csignal>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "cgroup/cgroup.h"
#include "skink/engine.h"
#include "supervise/policy.h"
#include "sys/process.h"

namespace skink::supervise {

/// Where the supervisor stands with the present incarnation.
enum class Step {
  starting,   ///< nothing of the incarnation exists
  launching,  ///< it is being made: processes and mounts may exist, its program does not run
  running,
  waiting,  ///< for the next try
  stopped,  ///< for good; being cleaned up
};

/// A process that exec started.
struct ExecProcess {
  sys::ProcessIdentity identity;
  std::int64_t exits_from = 0;  ///< offset in `exits` from where its record can be
  bool of_probe = false;        ///< a probe has started it, not a client
  bool half_made = false;       ///< its program may not run yet: a successor ends it
  std::string token;            ///< by which a client that has got no answer names it
};

/// What a probe has found in a row. Kept when there are failures, so that a successor counts on.
struct ProbeTally {
  std::uint32_t failures = 0, successes = 0;
  std::int64_t next_ns = 0;  ///< CLOCK_BOOTTIME: when it is asked again
  bool operator==(const ProbeTally&) const = default;
};

/// What the program of a run has said by sd_notify(3).
struct Said {
  bool ready = false, stopping = false;
  bool watched = false;  ///< it is ready or has said WATCHDOG=1: from now on it is missed
  bool missed = false;   ///< it has not said WATCHDOG=1 in time, or has said WATCHDOG=trigger
  std::string status;
  std::optional<std::int64_t> watchdog_ns;  ///< instead of the container's; 0: none
  bool operator==(const Said&) const = default;
};

struct Status {
  std::string boot_id;
  Step step = Step::starting;
  bool paused = false;
  bool orphaned = false;        ///< the container's parent was a guard that has died: no record of its end will come
  bool stop_wanted = false;     ///< stop was asked for: the stop signal was sent
  std::int64_t kill_at_ns = 0;  ///< CLOCK_BOOTTIME: when a stop turns into SIGKILL; 0 for never
  sys::ProcessIdentity init;    ///< the container's first process
  sys::ProcessIdentity supervisor, guard;
  std::uint64_t order = 0;        ///< which order to start this is, see Wish
  std::string wish_before;        ///< what `desired` said before it
  bool by_heal = false;           ///< brought back: a first launch that fails is the policy's, as later ones are
  std::uint64_t incarnation = 0;  ///< 1 is the first
  std::uint64_t restarts = 0;
  Streak streak;                     ///< of what the policy counts
  std::int64_t started_ns = 0;       ///< Unix time of the present (last) run's start
  std::int64_t started_mono_ns = 0;  ///< the same by CLOCK_BOOTTIME
  std::int64_t finished_ns = 0;
  std::int64_t next_try_ns = 0;  ///< Unix time, while waiting
  std::int64_t next_try_mono_ns = 0;
  std::int64_t exits_from = 0;                          ///< offset in `exits` from where the record of init can be
  std::uint64_t oom_base = 0;                           ///< OOM kills that the group had counted when this run began
  std::vector<cgroup::Group::MemoryLimit> limits_base;  ///< and the memory limits that had been hit by then
  std::string health;         ///< of this run: "" without probes, "starting", "healthy", "unhealthy"
  std::string probe_health;   ///< what of that the probes say, without the watchdog
  std::optional<bool> ready;  ///< with a readiness probe or a NOTIFY_SOCKET
  bool probe_ready = false;   ///< what of that the probe says
  Said said;
  bool startup_passed = false;              ///< the startup probe has succeeded in this run
  std::int64_t probes_from_ns = 0;          ///< CLOCK_BOOTTIME: from when the delays of the present probes count
  std::array<ProbeTally, 3> probe_tallies;  ///< startup, liveness, readiness
  std::string probe_failure;                ///< why a probe has ended this run
  std::string sender;                       ///< which of ours has sent the program a signal last, and that
  int sent_signal = 0;
  sys::ProcessIdentity standby;       ///< the next incarnation's first process, which waits; pid 0: none
  std::uint64_t standby_sources = 0;  ///< what stood at the host's paths when it was made, as one number
  std::optional<LastExit> last_exit;
  std::vector<ExecProcess> execs;

  /// The program is to end within a time, or was killed; not so when it was only sent a signal that asks for it.
  [[nodiscard]] bool is_being_stopped() const { return stop_wanted && (kill_at_ns != 0 || sent_signal == SIGKILL); }
};

/// A time of this boot by the clock as it is set now, so that how long ago it was, or how long it will be, is right
/// when the clock was set meanwhile (fault F25). As it was written down where the two differ by less than anybody sees.
std::int64_t by_present_clock(std::int64_t unix_ns, std::int64_t boottime_ns);

std::string dump(const Status& status);
/// corrupt when it is damaged.
Result<Status> parse_status(std::string_view json);

/// Writes status.json. On a disk that is full it goes into the blocks that the file before has (fault F13), which is
/// not atomic: a reader that finds a mixture looks again.
Result<void> write_status(int run_dir_fd, const Status& status);
/// status.json below RUN/containers/ID: not_found when there is none or it is of another boot.
Result<Status> read_status(int run_dir_fd);

}  // namespace skink::supervise
