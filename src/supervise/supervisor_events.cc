// SPDX-License-Identifier: Apache-2.0
// What a supervisor tells the event log. It tells before it writes the step down: killed in between, its successor
// takes the same step again and tells it again, with the same run, so that nothing is lost and who reads sees it once.
#include <algorithm>
#include <utility>

#include "fs/dir.h"
#include "launch/launch.h"
#include "supervise/event_log.h"
#include "supervise/supervisor.h"
#include "sys/process.h"

namespace skink::supervise {

using oci::Json;

void Supervisor::tell_event(std::string_view action, const Json& attributes) {
  tell_untold();
  append_event(kFdRunRoot, event_of(container_, action, attributes));
}

Event Supervisor::event_of_run(std::string_view action, const Json& attributes) const {
  Event event = event_of(container_, action, attributes);
  event.run = str(status_.order, '.', status_.incarnation);
  return event;
}

void Supervisor::tell_run(std::string_view action, const Json& attributes) {
  tell_untold();
  append_event(kFdRunRoot, event_of_run(action, attributes));
}

// Order: before anything that comes after it is told or written down.
void Supervisor::tell_untold() {
  if (auto event = std::exchange(died_untold_, std::nullopt)) append_event(kFdRunRoot, *std::move(event));
}

void Supervisor::tell_launched() {
  if (status_.incarnation > 1) {
    Json attributes{{"number", status_.restarts}};
    if (relaunch_delay_ns_ >= 0) attributes["delay_ns"] = relaunch_delay_ns_;
    tell_run("restart", attributes);
  }
  tell_run("start", {{"pid", status_.init.pid}});
}

void Supervisor::tell_failed(const Error& error) {
  tell_run("fail", {{"exit_code", launch::exit_status_of(error)}, {"error", error.text()}});
}

void Supervisor::tell_died(const LastExit& last) {
  if (std::exchange(oom_untold_, false)) tell_run("oom");
  if (!standby_pidfd_) {
    tell_run("die", exit_attributes(last));
    return;
  }
  // The next incarnation waits for one message, which takes less time than this.
  died_untold_ = event_of_run("die", exit_attributes(last));
  died_untold_->time_ns = fs::now_ns();
}

void Supervisor::tell_waiting(std::int64_t delay_ns) {
  relaunch_delay_ns_ = delay_ns;
  if (delay_ns > 0)
    tell_run("waiting", {{"number", status_.restarts}, {"delay_ns", delay_ns}, {"next_try_ns", status_.next_try_ns}});
}

// `waited`: for a relaunch, which is not going to be; that is told whatever the policy is now.
void Supervisor::tell_given_up(const LastExit& last, bool waited) {
  using Kind = RestartPolicy::Kind;
  if (status_.stop_wanted) {
    tell_run("stop");
    return;
  }
  if (container_.restart.kind == Kind::no && !waited) return;
  const bool success = last.known && last.error.empty() && last.status == 0;
  Json attributes{{"policy", to_text(container_.restart)}, {"restarts", status_.restarts}};
  if (!wants_running(kFdStoreDir)) attributes["reason"] = "stopped";
  else if (container_.restart.kind == Kind::no) attributes["reason"] = "policy";
  else if (success) attributes["reason"] = "success";
  else attributes["reason"] = "retries";
  // In the words of `skink why`: a budget, a status that is final.
  if (!history_.empty()) attributes["outcome"] = history_.back().outcome;
  tell_run("give_up", attributes);
}

void Supervisor::tell_signalled(int signal) {
  tell_event("kill", {{"signal", signal}, {"signal_name", sys::signal_name(signal)}});
}

void Supervisor::tell_exec(std::string_view action, const oci::Process& process, pid_t pid) {
  constexpr std::size_t kMost = 256;
  std::string command;
  for (const auto& arg : process.args) {
    command += str(command.empty() ? "" : " ", arg);
    if (command.size() > kMost) break;
  }
  command.resize(std::min(command.size(), kMost));
  Json attributes{{"command", command}};
  if (pid != 0) attributes["pid"] = pid;
  tell_event(action, attributes);
}

void Supervisor::tell_exec_died(pid_t pid, const LastExit& last) {
  Json attributes{{"pid", pid}};
  attributes.update(exit_attributes(last));
  tell_run("exec_die", attributes);
}

void Supervisor::tell_replaced(const Status& before) {
  const auto same = [](const sys::ProcessIdentity& a, const sys::ProcessIdentity& b) {
    return a.pid == b.pid && a.start_time == b.start_time;
  };
  if (!same(before.guard, status_.guard))
    tell_event("guard_replaced", {{"pid", status_.guard.pid}, {"before", before.guard.pid}});
  tell_event("supervisor_replaced", {{"pid", status_.supervisor.pid}, {"before", before.supervisor.pid}});
}

}  // namespace skink::supervise
