// SPDX-License-Identifier: Apache-2.0
// Reading the event log, and following it: no event is left out when the file is put aside meanwhile, a damaged line
// hides no other, and what a killed supervisor and its successor have both told comes once.
#pragma once

#include <sys/types.h>

#include <array>
#include <cstdint>
#include <functional>
#include <map>
#include <set>
#include <string>

#include "base/result.h"
#include "base/unique_fd.h"
#include "supervise/event_log.h"

namespace skink::supervise {

class EventReader {
 public:
  using Sink = std::function<void(const Event&)>;

  /// `run` is the path of RUN. Reads from the oldest event that there is. A host that grants no inotify instance is
  /// no error: then wait() looks every now and then.
  static Result<EventReader> open(const std::string& run);

  /// Gives each event since the last call to `sink`, in the order in which they were written.
  void read(const Sink& sink);

  /// Waits until there may be more to read. False: `deadline_ns` (Unix time; 0 for never) has come, or `output_fd`
  /// has lost its reader. Error: not_found when RUN is gone.
  Result<bool> wait(std::int64_t deadline_ns, int output_fd);

 private:
  // One generation, and how far it was read.
  struct Tail {
    UniqueFd fd;
    ino_t inode = 0;
    off_t at = 0;
    std::string rest;  // the beginning of a line that is not whole yet
  };
  Tail open_tail(const char* name) const;
  void drain(Tail& tail, const Sink& sink);
  void take(const std::string& line, const Sink& sink);
  bool told_before(const Event& event);

  UniqueFd run_, inotify_;
  Tail old_, now_;
  struct Told {
    std::string run;
    std::set<std::string> keys;
  };
  std::map<std::string, std::array<Told, 2>> told_;  // by container: of its last run and the one before
};

}  // namespace skink::supervise
