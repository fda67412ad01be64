// SPDX-License-Identifier: Apache-2.0
// Waiting with a deadline, and words for processes that are waited for.
#pragma once

#include <sys/types.h>

#include <chrono>
#include <string>
#include <vector>

namespace skink::cgroup {

class Deadline {
 public:
  explicit Deadline(std::chrono::milliseconds from_now);
  [[nodiscard]] bool passed() const;
  /// What is left, not negative.
  [[nodiscard]] std::chrono::nanoseconds left() const;

 private:
  std::chrono::steady_clock::time_point end_;
};

/// A back-off: the first sleep is short, each next one twice as long up to 20 ms, none beyond the deadline.
class Pause {
 public:
  void sleep(const Deadline& deadline);

 private:
  std::chrono::nanoseconds next_ = std::chrono::microseconds(50);
};

/// A control file such as cgroup.events that reports its changes (POLLPRI): read, wait, read again.
class EventFile {
 public:
  explicit EventFile(int dir_fd, const char* name);
  EventFile(const EventFile&) = delete;
  EventFile& operator=(const EventFile&) = delete;
  ~EventFile();
  /// The text as it is now, empty when the group is gone; arms the wait.
  std::string read();
  /// Until a change or the deadline, but a little at a time: the kernel reports at most one change of a file in 10 ms,
  /// so whoever comes right after another change looks sooner by looking again.
  void wait(const Deadline& deadline);

 private:
  int fd_;
  std::chrono::nanoseconds next_ = std::chrono::microseconds(50);
};

/// "processes 12 (sleep, D), 14 (cat, S)", at most eight of them.
[[nodiscard]] std::string describe_processes(const std::vector<pid_t>& pids);

}  // namespace skink::cgroup
