// SPDX-License-Identifier: Apache-2.0
// The kernel's OOM killer in the container: told when it strikes, and blamed for an end only where it was that.
#include <sys/epoll.h>

#include <csignal>
#include <vector>

#include "base/durations.h"
#include "fs/dir.h"
#include "supervise/supervisor.h"

namespace skink::supervise {
namespace {

constexpr int kSigkilled = 128 + SIGKILL;
// v1 tells of a shortage before somebody is killed for it, v2 of each time that the limit is reached as well.
constexpr std::int64_t kKillTakesNs = 50 * kMillisecond;
// A program that lives at its limit reaches it all the time: it is not listened to more often than this.
constexpr std::int64_t kDeafNs = kSecond;

}  // namespace

// Of a run that has begun: its program need not wait for this.
void Supervisor::watch_memory() {
  oom_told_ = false;
  memory_again_ns_ = 0;
  if (!memory_watch_ && group_)
    if (auto opened = cgroup::Watch::open(*group_, cgroup::Watch::What::out_of_memory))
      memory_watch_ = *std::move(opened);
  if (!memory_watch_armed_) arm_memory_watch();
}

// Order: what was told is taken before it is listened to again, and the count looked at after that.
void Supervisor::arm_memory_watch() {
  if (!memory_watch_) return;
  disarm_memory_watch();
  for (const auto& source : memory_watch_->sources())
    (void)watch(source.fd.get(), Source::memory, source.events == POLLIN ? EPOLLIN : EPOLLPRI);
  memory_watch_armed_ = true;
  if (group_ && group_->oom_kills() > status_.oom_base) memory_ran_out();
}

void Supervisor::disarm_memory_watch() {
  if (!memory_watch_) return;
  std::vector<pollfd> told;
  for (const auto& source : memory_watch_->sources()) {
    watches_.forget(source.fd.get());
    told.push_back({.fd = source.fd.get(), .events = source.events, .revents = source.events});
  }
  (void)memory_watch_->take(told);
  memory_watch_armed_ = false;
}

// With its group.
void Supervisor::forget_memory_watch() {
  disarm_memory_watch();
  memory_watch_.reset();
  memory_again_ns_ = 0;
}

void Supervisor::memory_ran_out() {
  disarm_memory_watch();
  memory_looks_ = 0;
  look_for_oom_kills();
}

// Once in a run is enough: the event tells that it has struck, `stats` how often.
void Supervisor::look_for_oom_kills() {
  memory_again_ns_ = 0;
  if (status_.step != Step::running || !group_ || oom_told_) return;
  if (group_->oom_kills() > status_.oom_base) {
    oom_told_ = true;
    tell_run("oom");
    return;
  }
  switch (memory_looks_++) {
    case 0: memory_again_ns_ = fs::monotonic_ns() + kKillTakesNs; break;
    case 1: memory_again_ns_ = fs::monotonic_ns() + kDeafNs; break;
    default: arm_memory_watch();
  }
}

// Who was killed was perhaps another process, long before: an end is the OOM killer's only if it is a SIGKILL, its own
// or (a shell's) that of what it has waited for, and none of ours.
void Supervisor::judge_oom(LastExit& last) {
  if (!group_) return;
  const std::uint64_t kills = group_->oom_kills();
  const bool has_struck = kills > std::exchange(status_.oom_base, kills);
  last.oom = has_struck && last.known && last.status == kSigkilled && status_.sent_signal != SIGKILL;
  oom_untold_ = has_struck && !oom_told_;
}

}  // namespace skink::supervise
