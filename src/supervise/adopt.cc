// SPDX-License-Identifier: Apache-2.0
// Adoption: what a supervisor does first, when another one was killed before it; and what it does when its guard dies.
#include <sys/epoll.h>
#include <unistd.h>

#include <algorithm>
#include <csignal>

#include "fs/dir.h"
#include "supervise/exits.h"
#include "supervise/fd_park.h"
#include "supervise/guard_start.h"
#include "supervise/supervisor.h"

namespace skink::supervise {

Result<void> Supervisor::adopt(const Status& before) {
  if (status_.step == Step::starting) return begin();
  start_heard_ = true;  // a successor: who started the container is not waiting for this process
  // Under a new guard the container is nobody's child of ours: no record of its end will come.
  status_.orphaned =
      before.orphaned || before.guard.pid != status_.guard.pid || before.guard.start_time != status_.guard.start_time;
  tell_replaced(before);
  take_parked();
  adopt_execs();
  adopt_standby(!status_.orphaned);
  switch (before.step) {
    case Step::starting: return begin();
    case Step::launching:
      // Half made: its program was not reported to run. The same incarnation is made again.
      if (auto process = sys::open_identified(status_.init)) (void)sys::signal_pidfd(process->get(), SIGKILL);
      open_group();
      clear_group();
      remember_last_run();
      --status_.incarnation;
      return begin();
    case Step::running: return adopt_running();
    case Step::waiting:
      open_group();
      save();
      return {};
    case Step::stopped: give_up(status_.last_exit.value_or(unknown_exit())); return {};
  }
  return {};
}

// Numbers begin anew with each order to start, so the time of the last start is looked at as well.
bool Supervisor::is_in_history(std::uint64_t incarnation) const {
  return std::ranges::any_of(history_, [&](const PastRun& run) {
    return run.incarnation == incarnation && run.started_ns == status_.started_ns;
  });
}

// Who was killed while it relaunched at once had not written the run before down yet, see relaunch_or_give_up().
void Supervisor::remember_last_run() {
  if (status_.incarnation < 2 || !status_.last_exit || !status_.last_exit->error.empty()) return;
  const std::uint64_t before = status_.incarnation - 1;
  if (is_in_history(before)) return;
  add_past_run(history_, {before, status_.started_ns, *status_.last_exit, "relaunched at once"});
  status_.restarts++;
  relaunched_after_ = status_.last_exit;
}

void Supervisor::take_parked() {
  auto parked = look_parked(kFdParkOut);
  if (!parked) return;  // what is missing is then looked for by its identity
  for (auto& one : *parked) {
    switch (one.kind) {
      // A standby that has gone on is parked a moment before it is on record as the run.
      case Parked::Kind::init_pidfd:
        if (static_cast<pid_t>(one.pid) == status_.init.pid) init_pidfd_ = std::move(one.fd);
        break;
      case Parked::Kind::terminal: terminal_ = std::move(one.fd); break;
      case Parked::Kind::stdin_read: stdin_read_ = std::move(one.fd); break;
      case Parked::Kind::stdin_write: stdin_write_ = std::move(one.fd); break;
      case Parked::Kind::notify: notify_ = std::move(one.fd); break;
      case Parked::Kind::exec_pidfd: execs_[static_cast<pid_t>(one.pid)].pidfd = std::move(one.fd); break;
    }
  }
}

void Supervisor::adopt_execs() {
  end_all_half_made();
  auto parked = std::move(execs_);
  execs_.clear();
  for (const auto& process : status_.execs) {
    Exec exec{.process = process, .pidfd = {}};
    if (auto found = parked.find(process.identity.pid); found != parked.end())
      exec.pidfd = std::move(found->second.pidfd);
    if (!exec.pidfd)
      if (auto opened = sys::open_identified(process.identity)) exec.pidfd = std::move(*opened);
    if (!exec.pidfd) {  // it is over; its record stays for who asks
      const auto record = find_record(process.identity.pid, process.exits_from);
      if (!process.of_probe && !process.half_made)
        tell_exec_died(process.identity.pid, record && *record ? last_exit_of(**record) : unknown_exit());
      continue;
    }
    // Nobody waits for what a probe of a predecessor says, and nobody heard of what was only half made.
    if (process.of_probe || process.half_made) end_exec(exec);
    if (watch(exec.pidfd.get(), Source::exec, EPOLLIN)) execs_.emplace(process.identity.pid, std::move(exec));
  }
  std::erase_if(status_.execs, [this](const ExecProcess& process) { return !execs_.contains(process.identity.pid); });
}

// One that is gone with its scope is made anew when it is needed.
void Supervisor::open_group() {
  if (auto group = cgroup::Group::open(location_); group && !group->location().places.empty())
    group_ = std::move(*group);
}

Result<void> Supervisor::adopt_running() {
  open_group();
  // Not as it is on record: who was killed when it froze or thawed it had not come to write that down.
  if (group_) status_.paused = group_->is_told_to_freeze();
  if (!init_pidfd_)
    if (auto opened = sys::open_identified(status_.init)) init_pidfd_ = std::move(*opened);
  if (terminal_) TRY(watch(terminal_.get(), Source::terminal, EPOLLIN));
  if (init_pidfd_) TRY(watch(init_pidfd_.get(), Source::init, EPOLLIN));
  if (!init_pidfd_ || init_is_over(0)) {
    // It ended while nobody looked: what is known of that is known now, and it is not said to run until then.
    init_gone_ = true;
    init_gone_ns_ = fs::monotonic_ns();
    check_init();
  }
  if (auto opened = open_notify(); !opened) complain(opened.error());
  if (status_.step == Step::running) begin_said();
  if (status_.step == Step::running) begin_probes();
  if (status_.step == Step::running) hold_namespaces();
  if (status_.step == Step::running) watch_memory();
  // Order: once the health is known. Who was killed before it could end the run leaves that to us.
  if (status_.step == Step::running && status_.said.missed && !is_ending())
    fail_run("its watchdog: missed under an earlier supervisor");
  if (status_.step == Step::running) plan_standby();
  if (status_.step == Step::running) save();
  return {};
}

void Supervisor::park_all() {
  std::vector<Parked> parked;
  const auto add = [&](Parked::Kind kind, const UniqueFd& fd, pid_t pid = 0) {
    if (fd && parked.size() < kMostParked) parked.push_back({kind, static_cast<std::uint32_t>(pid), fd.get()});
  };
  add(Parked::Kind::init_pidfd, init_pidfd_, status_.init.pid);
  add(Parked::Kind::terminal, terminal_);
  add(Parked::Kind::stdin_read, stdin_read_);
  add(Parked::Kind::stdin_write, stdin_write_);
  add(Parked::Kind::notify, notify_);
  for (const auto& [pid, exec] : execs_) add(Parked::Kind::exec_pidfd, exec.pidfd, pid);
  (void)park(kFdParkIn, kFdParkOut, parked);
}

// Order: not by its pidfd, which tells that after its children have died with it.
bool Supervisor::guard_is_gone() const { return guard_pidfd_ && ::getppid() != status_.guard.pid; }

// Everything that matters is in files and parked descriptors, so the shortest way to a whole pair again is a new guard,
// whose new supervisor adopts the container from us. We leave without touching anything.
void Supervisor::guard_died() {
  if (exit_code_ >= 0) return;
  if (auto replaced = replace_guard(container_.name); replaced) {
    exit_code_ = kSupervisorDone;
    return;
  }
  // No memory or no processes: carry on alone. The kernel tells how the container ends (ask_kernel).
  status_.orphaned = true;
  close_watched(guard_pidfd_);
  // Its end would not be told to us.
  drop_standby();
  if (status_.step == Step::running) plan_standby();
}

}  // namespace skink::supervise
