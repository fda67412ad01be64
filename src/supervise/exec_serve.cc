// SPDX-License-Identifier: Apache-2.0
// exec, the supervisor's side: it starts the process, the guard is its parent, the client only hears of its end.
#include <fcntl.h>
#include <poll.h>
#include <sys/epoll.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <utility>

#include "base/text.h"
#include "fs/dir.h"
#include "launch/launch.h"
#include "supervise/exits.h"
#include "supervise/fd_park.h"
#include "supervise/supervisor.h"
#include "sys/file.h"

namespace skink::supervise {

Result<launch::ExecRequest> Supervisor::request_of(ExecStart& start) {
  packed_calls_.unpack(spec_);
  shed_ = true;
  launch::ExecRequest request;
  request.spec = &spec_;
  request.process = start.process;
  request.target = status_.init;
  // Somebody may have removed one of its groups or moved the program (fault F29), or it gives controllers to groups
  // below.
  start.group = TRY(cgroup::Group::open(TRY(cgroup::beside(group_->location(), status_.init.pid))));
  request.group = &*start.group;
  request.as_sibling = guard_pidfd_.get() >= 0;
  request.seccomp_cache_fd = seccomp_cache_.get();
  request.stdio = start.stdio;
  request.patience_ns = start.patience_ns;
  return request;
}

Result<pid_t> Supervisor::start_process(ExecStart& start) {
  Exec exec;
  exec.process.of_probe = start.of_probe;
  exec.process.token = start.token;
  start.exits_from = exec.process.exits_from = TRY(exits_end(kFdExits));
  launch::ExecRequest request = TRY(request_of(start));
  // Order: on record before its program can run. Who is killed until it is said to run leaves it to a successor, who
  // ends it: there is nobody who knows of it.
  request.record = [&](const sys::ProcessIdentity& identity) -> Result<void> {
    status_.execs.push_back({identity, exec.process.exits_from, start.of_probe, true, start.token});
    save();
    return {};
  };
  auto made = launch::exec_in_container(request);
  // Order: that it died with its guard is no reason that its user could do anything about.
  if (!made && guard_is_gone())
    made = Error::make(Code::busy, "exec: the container's guard was killed while it started the process; try again");
  std::erase_if(status_.execs, [](const ExecProcess& process) { return process.half_made; });
  auto launched = TRY(std::move(made));
  exec.process.identity = launched.identity;
  exec.pidfd = std::move(launched.pidfd);
  start.console = std::move(launched.console);
  TRY(take_exec(std::move(exec)));
  return launched.identity.pid;
}

// From now on it is known, to a successor too.
Result<void> Supervisor::take_exec(Exec exec) {
  const pid_t pid = exec.process.identity.pid;
  if (auto watched = watch(exec.pidfd.get(), Source::exec, EPOLLIN); !watched) {
    // Nobody would ever hear of it.
    end_exec(exec);
    return watched;
  }
  status_.execs.push_back(exec.process);
  execs_.insert_or_assign(pid, std::move(exec));
  park_all();
  save();
  shed_ = true;
  return {};
}

// With what it has started: it is the leader of a session, and its number is nobody else's while it is not reaped.
void Supervisor::end_exec(const Exec& exec) {
  if (!sys::signal_pidfd(exec.pidfd.get(), 0)) return;
  ::kill(-exec.process.identity.pid, SIGKILL);
  (void)sys::signal_pidfd(exec.pidfd.get(), SIGKILL);
}

// A helper that is killed, alone or with its supervisor, leaves the process that it was starting, and who that is.
void Supervisor::end_half_made(const char* name) const {
  const auto text = fs::read_file(kFdRunDir, name, kRecordLimit);
  if (!text) return;
  const std::string_view words = *text;
  const auto space = std::min(words.find(' '), words.size());
  const auto pid = parse_int<pid_t>(words.substr(0, space));
  const auto start = parse_int<std::uint64_t>(words.substr(std::min(space + 1, words.size())));
  Exec exec;
  if (pid && start) exec.process.identity = {*pid, *start, status_.boot_id};
  if (auto process = sys::open_identified(exec.process.identity)) {
    exec.pidfd = std::move(*process);
    end_exec(exec);
  }
  ::unlinkat(kFdRunDir, name, 0);
}

void Supervisor::end_all_half_made() const {
  const auto entries = fs::list(kFdRunDir);
  if (!entries) return;
  for (const auto& entry : *entries)
    if (entry.name.starts_with(kHalfMadePrefix)) end_half_made(entry.name.c_str());
}

// A run has ended and the next one is about to be made, without any pause or after a short one.
bool Supervisor::is_relaunching() const {
  constexpr std::int64_t kSoonNs = 1'000'000'000;  // as ExecSession::running_status
  if (status_.stop_wanted) return false;
  if (status_.step == Step::waiting)
    return relaunched_after_.has_value() || status_.next_try_mono_ns <= fs::monotonic_ns() + kSoonNs;
  return status_.step == Step::running && init_is_over(0);
}

bool Supervisor::init_is_over(int patience_ms) const {
  pollfd ended{init_pidfd_.get(), POLLIN, 0};
  return init_pidfd_ && ::poll(&ended, 1, patience_ms) > 0;
}

// Whoever was killed is there until the kernel has taken it apart, and cannot be joined meanwhile.
bool Supervisor::is_dying() const {
  constexpr int kMostMs = 200;
  return init_is_over(kMostMs);
}

// The relaunch that they wait for is done, or there is to be none.
void Supervisor::serve_waiting_execs() {
  for (auto& [fd, message] : std::exchange(waiting_execs_, {})) {
    const auto client = clients_.find(fd);
    if (client == clients_.end()) continue;
    if (auto done = handle_exec(client->second, message); !done) reply_result(client->second, done);
  }
}

Result<void> Supervisor::handle_exec(Client& client, Message& message) {
  if (is_relaunching()) {
    waiting_execs_.emplace_back(client.socket.get(), std::move(message));
    return {};
  }
  if (status_.step == Step::waiting && !status_.stop_wanted)
    return Error::make(Code::busy, "the container is not running: it waits for its next try (skink ps)");
  if (status_.step != Step::running || !group_) return Error::make(Code::busy, "the container is not running");
  if (status_.paused) return Error::make(Code::busy, "cannot exec in a paused container; unpause it first");
  if (message.fds.empty()) return Error::make(Code::invalid_config, "exec: no process was given");
  if (execs_.size() >= kMostParked - 8) return Error::make(Code::busy, "exec: too many processes at once");
  const std::string text = TRY(sys::read_all(message.fds[0].get(), oci::kDocumentLimit, "process"));
  oci::Process process = TRY(oci::parse_process(text));
  // Its maker is spared by the OOM killer, which it shall not be for that.
  if (!process.oom_score_adj && spec_.process) process.oom_score_adj = spec_.process->oom_score_adj;
  // The supervisor does nothing else meanwhile, and what is in the container can stop the process on its way.
  constexpr std::int64_t kPatienceNs = 30'000'000'000;
  ExecStart start;
  start.process = &process;
  start.stdio = {null_.get(), null_.get(), null_.get()};
  if (message.fds.size() == 4) start.stdio = {message.fds[1].get(), message.fds[2].get(), message.fds[3].get()};
  start.patience_ns = kPatienceNs;
  start.token = oci::get_string(message.json, "token");
  tell_exec("exec_create", process, 0);
  auto started = start_process(start);
  // It found nobody to join, or a pid namespace that takes nobody any more (ENOMEM), or was killed with the rest.
  const int number = started ? 0 : started.error().errnum();
  const bool in_vain = !started && (number == ESRCH || number == ENOMEM || launch::was_killed(started.error()));
  // Its /proc/PID is gone: then it is over already.
  const bool nobody = !started && started.error().code() == Code::not_found && init_is_over(0);
  if (nobody || (in_vain && is_dying())) {
    ::lseek(message.fds[0].get(), 0, SEEK_SET);  // it is read once more
    waiting_execs_.emplace_back(client.socket.get(), std::move(message));
    return {};
  }
  const pid_t pid = TRY(std::move(started));
  tell_exec("exec_start", process, pid);
  exec_clients_[pid] = client.socket.get();
  const int console = start.console.get();
  reply(client, {{"ok", true}, {"pid", pid}, {"from", start.exits_from}},
        console >= 0 ? std::span<const int>(&console, 1) : std::span<const int>());
  return {};
}

void Supervisor::check_execs() {
  std::vector<std::pair<pid_t, LastExit>> ended;
  for (auto& [pid, exec] : execs_) {
    const auto record = find_record(pid, exec.process.exits_from);
    if (record && *record) {
      ended.emplace_back(pid, last_exit_of(**record));
    } else if (const auto own = exec.ended_ns != 0 ? reap_own(pid, exec.pidfd) : std::nullopt) {
      ended.emplace_back(pid, note_end(*own));
    } else if (exec.ended_ns != 0) {
      if (const auto last = end_of(exec.process.identity, exec.pidfd, exec.process.exits_from, exec.ended_ns))
        ended.emplace_back(pid, *last);
    }
  }
  for (const auto& [pid, last] : ended) {
    const bool of_probe = execs_[pid].process.of_probe;
    if (!of_probe && !execs_[pid].process.half_made) tell_exec_died(pid, last);
    watches_.forget(execs_[pid].pidfd.get());
    execs_.erase(pid);
    std::erase_if(status_.execs, [p = pid](const ExecProcess& process) { return process.identity.pid == p; });
    if (of_probe) probe_process_ended(pid, last);
    const auto waiting = exec_clients_.find(pid);
    if (waiting == exec_clients_.end()) continue;
    if (const auto client = clients_.find(waiting->second); client != clients_.end())
      reply(client->second, {{"event", "exec-done"}, {"exit", dump(last)}});
    exec_clients_.erase(waiting);
  }
  if (ended.empty()) return;
  park_all();
  save();
}

// By a client whose supervisor was killed before it answered: what that had begun shall not run on unknown to all.
void Supervisor::handle_exec_cancel(Client& client, const oci::Json& json) {
  const std::string token = oci::get_string(json, "token");
  for (const auto& [pid, exec] : execs_)
    if (!token.empty() && exec.process.token == token) end_exec(exec);
  reply_result(client, {});
}

// Asked by a client whose supervisor was killed meanwhile.
void Supervisor::handle_exec_wait(Client& client, const oci::Json& json) {
  const auto pid = static_cast<pid_t>(oci::get_int(json, "pid"));
  if (execs_.contains(pid)) {
    exec_clients_[pid] = client.socket.get();
    check_execs();
    return;
  }
  const auto record = find_record(pid, oci::get_int(json, "from"));
  const LastExit last = record && *record ? last_exit_of(**record) : unknown_exit();
  reply(client, {{"event", "exec-done"}, {"exit", dump(last)}});
}

Result<void> Supervisor::handle_exec_signal(const oci::Json& json) {
  const auto exec = execs_.find(static_cast<pid_t>(oci::get_int(json, "pid")));
  const auto signal = static_cast<int>(oci::get_int(json, "signal"));
  if (exec == execs_.end()) return Error::make(Code::not_found, "the process has ended");
  if (signal < 1 || signal > 64) return Error::make(Code::invalid_config, "signal ", signal, " does not exist");
  return sys::signal_pidfd(exec->second.pidfd.get(), signal);
}

}  // namespace skink::supervise
