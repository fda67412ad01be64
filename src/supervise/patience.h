// SPDX-License-Identifier: Apache-2.0
// Patience: how long a command waits for a container's guard and supervisor (fault F24). On a machine that is short of
// CPU everything takes long, so it is not the time that counts but whether they get anywhere.
#pragma once

#include <cstdint>
#include <limits>
#include <optional>
#include <string>
#include <utility>

#include "base/result.h"
#include "supervise/control.h"
#include "supervise/records.h"
#include "supervise/status.h"

namespace skink::supervise {

class Patience {
 public:
  struct Limits {
    std::int64_t quiet_ns = 120'000'000'000;   ///< neither guard nor supervisor has used CPU time or waited for any
    std::int64_t launch_ns = 120'000'000'000;  ///< the same while it launches, when hooks and mounts may hold it up
    std::int64_t stopped_ns = 10'000'000'000;  ///< one of them is stopped (SIGSTOP)
    /// Of who wants the container to start: a launch takes as long as it takes.
    static Limits of_start() { return {.launch_ns = std::numeric_limits<std::int64_t>::max()}; }
  };
  /// `roots` is borrowed.
  Patience(const Roots& roots, std::string id, Limits limits);
  Patience(const Roots& roots, std::string id) : Patience(roots, std::move(id), Limits{}) {}

  /// Asked again and again while waiting; looks at the processes at most twice a second. Success: there is hope. busy,
  /// with the reason and the way out, when a limit was reached or each supervisor fails as soon as it starts.
  Result<void> check();
  /// Notes by which supervisor a message of the control socket was sent.
  void heard(const oci::Json& message);
  /// Whether it is gone and another command has started the container since: its end is not what is to be waited for.
  [[nodiscard]] bool is_next_life() const;
  /// What a supervisor has said that ended by itself since this was made, as an error with the way out.
  [[nodiscard]] std::optional<Error> complaint() const;

 private:
  struct Look {
    std::string text;    // changes when either of them has run, and at each step
    pid_t stopped = 0;   // a process that SIGSTOP or a terminal holds
    bool moves = false;  // one is running or waits for a CPU
    bool supervised = false;
  };
  [[nodiscard]] Look look() const;
  Result<void> check_complaints();

  const Roots& roots_;
  std::string id_;
  Limits limits_;
  std::optional<std::pair<pid_t, std::uint64_t>> speaker_;  // number and start time
  Status status_;  // the last that was there: at its end a supervisor removes it
  Look last_;
  std::int64_t next_look_ns_ = 0, moved_at_ns_ = 0;
  std::int64_t complained_before_ = 0, complained_ = 0;  // bytes in the supervisors' log
  int failures_ = 0;                                     // looks at which it had grown and no supervisor lived
};

/// Waits for one message. Errors as receive_message, and busy when patience is at its end.
Result<Message> await_answer(int socket_fd, Patience& patience);

/// Blocks until no guard and no supervisor of the container lives, or of the life that was heard of (Patience::heard);
/// busy when patience is at its end. `alive_fd` is an open STORE/containers/ID/alive: it works when the container's
/// files are gone already.
Result<void> await_no_supervisor(int alive_fd, Patience& patience);

}  // namespace skink::supervise
