// SPDX-License-Identifier: Apache-2.0
#include "cgroup/wait.h"

#include <fcntl.h>
#include <poll.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>

#include "base/error.h"
#include "base/text.h"
#include "cgroup/control_file.h"

namespace skink::cgroup {
namespace {

constexpr std::chrono::nanoseconds kLongest = std::chrono::milliseconds(20);

timespec spec(std::chrono::nanoseconds time) {
  return {static_cast<time_t>(time.count() / 1'000'000'000), static_cast<long>(time.count() % 1'000'000'000)};
}

}  // namespace

Deadline::Deadline(std::chrono::milliseconds from_now)
    // A year stands for "for ever", so that the sum cannot overflow.
    : end_(std::chrono::steady_clock::now() + std::min(from_now, std::chrono::milliseconds(std::chrono::hours(8760)))) {
}

bool Deadline::passed() const { return left().count() == 0; }

std::chrono::nanoseconds Deadline::left() const {
  const std::chrono::nanoseconds rest = end_ - std::chrono::steady_clock::now();
  return std::max(rest, std::chrono::nanoseconds(0));
}

void Pause::sleep(const Deadline& deadline) {
  const timespec time = spec(std::min(next_, deadline.left()));
  (void)::clock_nanosleep(CLOCK_MONOTONIC, 0, &time, nullptr);
  next_ = std::min(next_ * 2, kLongest);
}

EventFile::EventFile(int dir_fd, const char* name) : fd_(::openat(dir_fd, name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW)) {}

EventFile::~EventFile() {
  if (fd_ >= 0) ::close(fd_);
}

std::string EventFile::read() {
  char text[512];
  const ssize_t count = fd_ < 0 ? -1 : ::pread(fd_, text, sizeof text, 0);
  return count <= 0 ? std::string{} : std::string(text, static_cast<std::size_t>(count));
}

void EventFile::wait(const Deadline& deadline) {
  const timespec time = spec(std::min(next_, deadline.left()));
  pollfd entry{fd_, POLLPRI, 0};
  (void)::ppoll(&entry, 1, &time, nullptr);
  next_ = std::min(next_ * 2, kLongest);
}

std::string describe_processes(const std::vector<pid_t>& pids) {
  constexpr std::size_t kMost = 8;
  std::string out = pids.size() == 1 ? "process " : "processes ";
  for (std::size_t i = 0; i < std::min(pids.size(), kMost); ++i) {
    std::string stat;
    out += str(i == 0 ? "" : ", ", pids[i]);
    if (read_control(AT_FDCWD, str("/proc/", pids[i], "/stat").c_str(), stat) != 0) continue;
    // "12 (name) S ...": the name can hold anything, so its end is the last parenthesis.
    const std::size_t open = stat.find('('), close = stat.rfind(')');
    if (open == std::string::npos || close == std::string::npos || close + 2 >= stat.size()) continue;
    out += str(" (", printable(stat.substr(open + 1, close - open - 1)), ", ", stat[close + 2], ")");
  }
  if (pids.size() > kMost) out += str(" and ", pids.size() - kMost, " more");
  return out;
}

}  // namespace skink::cgroup
