// SPDX-License-Identifier: Apache-2.0
// How a probe is asked: by the supervisor itself over a socket that is the container's, by a child that speaks TLS, or
// by a process in the container that is started as exec starts one. What the answers mean is in health.cc.
#include <fcntl.h>
#include <poll.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <csignal>
#include <memory>
#include <utility>

#include "base/text.h"
#include "fs/dir.h"
#include "supervise/exits.h"
#include "supervise/supervisor.h"
#include "supervise/tls_probe.h"
#include "sys/file.h"

namespace skink::supervise {
namespace {

constexpr std::size_t kMostRead = 4096;

// The end of it: what a program says last is why.
std::string shown(std::string_view text) {
  constexpr std::size_t kMostShown = 500;
  if (text.size() > kMostShown) text.remove_prefix(text.size() - kMostShown);
  while (text.ends_with('\n') || text.ends_with(' ')) text.remove_suffix(1);
  return printable(text);
}

}  // namespace

void Supervisor::check_probes(std::int64_t now) {
  if (status_.is_being_stopped()) return;
  for (auto& state : probes_) {
    if (state.deadline_ns != 0 && now >= state.deadline_ns) {
      end_asking(state);
      const std::string within = duration_text(state.probe->timeout_ns);
      if (state.held_up)
        probe_done(state,
                   {false, str("the process of the probe before was not even started within ", within, " more")});
      else
        probe_done(state,
                   {false, str("no answer within ", within, state.printed.empty() ? "" : ": ", shown(state.printed))});
    } else if (state.deadline_ns == 0 && state.next_ns != 0 && now >= state.next_ns) {
      ask(state);
    }
    if (exit_code_ >= 0 || status_.step != Step::running) return;
  }
}

// What is under way and has not answered.
void Supervisor::end_asking(ProbeState& state) {
  if (const auto exec = execs_.find(state.pid); exec != execs_.end()) end_exec(exec->second);
  drop_helper(state.helper);
  // Order: what a helper is starting it ends by itself when its time is over; half made it would be nobody's.
  state.launching = 0;
}

void Supervisor::close_attempt(ProbeState& state) {
  if (state.attempt) watches_.forget(state.attempt->fd());
  state.attempt.reset();
  close_watched(state.output);
}

void Supervisor::ask(ProbeState& state) {
  state.next_ns = 0;
  state.deadline_ns = fs::monotonic_ns() + state.probe->timeout_ns;
  state.printed.clear();
  // One process for each probe at most is on its way into the container, whatever holds it up there.
  state.held_up = state.launcher != 0;
  if (state.held_up) return;
  if (state.probe->kind == Probe::Kind::exec) {
    if (auto asked = ask_by_exec(state); !asked) probe_done(state, {false, asked.error().text()});
    return;
  }
  if (state.probe->kind == Probe::Kind::https) {
    if (auto asked = ask_by_helper(state); !asked) probe_done(state, {false, asked.error().text()});
    return;
  }
  auto attempt = ProbeAttempt::begin(*state.probe, init_pidfd_.get(), status_.init.pid);
  if (!attempt) {
    probe_done(state, {false, attempt.error().text()});
    return;
  }
  state.attempt = std::move(*attempt);
  if (auto watched = watch(state.attempt->fd(), Source::probe, state.attempt->events()); !watched)
    probe_done(state, {false, watched.error().text()});
}

// A pipe whose other end comes back.
Result<UniqueFd> Supervisor::open_probe_output(ProbeState& state) {
  int ends[2] = {-1, -1};
  if (::pipe2(ends, O_CLOEXEC) != 0) return Error::from_errno(errno, "pipe");
  state.output = UniqueFd(ends[0]);
  UniqueFd write_end(ends[1]);
  ::fcntl(ends[0], F_SETFL, O_NONBLOCK);
  TRY(watch(state.output.get(), Source::probe, EPOLLIN));
  return write_end;
}

// The socket is the container's; the helper that speaks TLS over it is ours, see tls_probe.h.
Result<void> Supervisor::ask_by_helper(ProbeState& state) {
  const auto attempt = TRY(ProbeAttempt::begin(*state.probe, init_pidfd_.get(), status_.init.pid));
  const UniqueFd write_end = TRY(open_probe_output(state));
  const int socket_fd = attempt.fd(), out = write_end.get();
  const int keep[] = {std::min(socket_fd, out), std::max(socket_fd, out)};
  const auto work = [socket_fd, out, probe = *state.probe, parent = ::getpid()] {
    ProbeResult result{false, "the helper of the probe could not give up its rights"};
    if (give_up_rights(parent)) result = ask_over_tls(socket_fd, probe);
    (void)sys::write_all(out, result.text, "answer");
    return result.good ? 0 : 1;
  };
  const auto done = [this, &state](int status) {
    state.helper = -1;
    read_probe_output(state);
    const std::string text = shown(state.printed);
    probe_done(state, {status == 0, text.empty() ? str("the helper of the probe ended with status ", status) : text});
  };
  state.helper = TRY(add_helper("skink-tls", keep, work, done));
  return {};
}

Result<void> Supervisor::ask_by_exec(ProbeState& state) {
  if (!spec_.process || !group_) return Error::make(Code::busy, "the container has no process");
  oci::Process process = *spec_.process;
  process.args = state.probe->command;
  process.terminal = false;
  const UniqueFd write_end = TRY(open_probe_output(state));
  if (::fchown(write_end.get(), process.user.uid, process.user.gid) != 0)
    return Error::from_errno(errno, "chown of a pipe");
  ExecStart start;
  start.process = &process;
  start.stdio = {null_.get(), write_end.get(), write_end.get()};
  start.of_probe = true;
  start.patience_ns = state.probe->timeout_ns;
  if (guard_pidfd_) return launch_by_helper(state, start);
  // Nobody but us would reap it.
  state.pid = TRY(start_process(start));
  return {};
}

// What is in the container can hold the process up on its way, and nobody else shall wait for that. The helper's child
// becomes the guard's when the helper ends.
Result<void> Supervisor::launch_by_helper(ProbeState& state, ExecStart& start) {
  int ends[2] = {-1, -1};
  if (::socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) != 0) return Error::from_errno(errno, "socketpair");
  const auto ours = std::make_shared<UniqueFd>(ends[0]);
  const UniqueFd theirs(ends[1]);
  const std::int64_t exits_from = TRY(exits_end(kFdExits));
  launch::ExecRequest request = TRY(request_of(start));
  request.as_sibling = false;
  const int number = ++launches_;
  const std::string half_made = str(kHalfMadePrefix, number);
  // Order: on record before its program can run, as in start_process; in a file of its own, as status.json is not the
  // helper's.
  request.record = [&half_made](const sys::ProcessIdentity& identity) {
    return fs::write_file_atomic(kFdRunDir, half_made.c_str(), str(identity.pid, ' ', identity.start_time), 0600);
  };
  const auto work = [&request, to = theirs.get()] {
    const auto launched = launch::exec_in_container(request);
    if (!launched) return send_message(to, error_json(launched.error())) ? 0 : 1;
    const int fds[] = {launched->pidfd.get()};
    const oci::Json json{{"pid", launched->identity.pid}, {"start", launched->identity.start_time}};
    return send_message(to, json, fds) ? 0 : 1;
  };
  const auto done = [this, &state, number, ours, exits_from, half_made](int) {
    const bool of_this_run = state.launcher == number;
    if (of_this_run) state.launcher = 0;
    // Order: the file goes when the process is in status.json, or over.
    if (probe_launched(state, state.launching == number, ours->get(), exits_from))
      ::unlinkat(kFdRunDir, half_made.c_str(), 0);
    else end_half_made(half_made.c_str());
    if (!of_this_run || !std::exchange(state.held_up, false)) return;
    state.deadline_ns = 0;
    state.next_ns = fs::monotonic_ns() + 1;
  };
  TRY(add_helper("skink-launch", {}, work, done));
  state.launching = state.launcher = number;
  return {};
}

// Whether it is known what became of the process: not so when the helper was killed.
bool Supervisor::probe_launched(ProbeState& state, bool wanted, int from_fd, std::int64_t exits_from) {
  if (wanted) state.launching = 0;
  auto message = receive_message(from_fd);
  const bool told = message.has_value();
  if (!told) message = Error::make(Code::busy, "the helper that starts its process was killed");
  else if (message->json.contains("error") || message->fds.size() != 1) message = error_of(message->json);
  if (!message) {
    if (wanted) probe_done(state, {false, message.error().text()});
    return told;
  }
  Exec exec;
  exec.process.identity = {static_cast<pid_t>(oci::get_int(message->json, "pid")),
                           static_cast<std::uint64_t>(oci::get_int(message->json, "start")), status_.boot_id};
  exec.process.exits_from = exits_from;
  exec.process.of_probe = true;
  exec.pidfd = std::move(message->fds[0]);
  if (!wanted) {
    end_exec(exec);
    return true;
  }
  state.pid = exec.process.identity.pid;
  if (auto taken = take_exec(std::move(exec)); !taken) probe_done(state, {false, taken.error().text()});
  return true;
}

// A probe that runs for months must not fill RUN with records of its ends, nor what a program without a pid namespace
// of its own leaves to the guard, its subreaper. Order: what is given back lies before where anybody looks, and the
// guard only adds. The newest are kept for who has not asked yet.
void Supervisor::trim_exits() {
  constexpr std::int64_t kMost = 64 << 10, kKept = 16 << 10;
  const auto end = exits_end(kFdExits);
  std::int64_t oldest = status_.exits_from;
  for (const auto& [pid, exec] : execs_) oldest = std::min(oldest, exec.process.exits_from);
  if (!end || *end - oldest < kMost) return;
  const std::int64_t from = *end - kKept;
  // A record that is there is about to be looked at.
  const auto awaited = [this](pid_t pid, std::int64_t since) {
    const auto record = find_record(pid, since);
    return record && !*record;
  };
  if (!awaited(status_.init.pid, status_.exits_from)) return;
  for (const auto& [pid, exec] : execs_)
    if (!awaited(pid, exec.process.exits_from)) return;
  status_.exits_from = std::max(status_.exits_from, from);
  for (auto& [pid, exec] : execs_) exec.process.exits_from = std::max(exec.process.exits_from, from);
  for (auto& process : status_.execs) process.exits_from = std::max(process.exits_from, from);
  save();
  (void)::fallocate(kFdExits, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, from);
}

void Supervisor::probe_event(int fd) {
  for (auto& state : probes_) {
    if (state.output.get() == fd) {
      std::array<char, 1024> bytes;  // NOLINT: filled by read
      const ssize_t got = ::read(fd, bytes.data(), bytes.size());
      if (got > 0) state.printed.append(bytes.data(), static_cast<std::size_t>(got));
      if (state.printed.size() > kMostRead) state.printed.erase(0, state.printed.size() - kMostRead);
      if (got == 0) close_watched(state.output);
      return;
    }
    if (!state.attempt || state.attempt->fd() != fd) continue;
    if (auto result = state.attempt->advance()) {
      probe_done(state, *result);
      return;
    }
    watches_.change(fd, state.attempt->events());
    return;
  }
}

void Supervisor::read_probe_output(ProbeState& state) {
  for (int i = 0; i < 64 && state.output; ++i) {
    pollfd more{state.output.get(), POLLIN, 0};
    if (::poll(&more, 1, 0) <= 0 || (more.revents & POLLIN) == 0) break;
    probe_event(more.fd);
  }
}

void Supervisor::probe_process_ended(pid_t pid, const LastExit& last) {
  for (auto& state : probes_) {
    if (state.pid != pid) continue;
    read_probe_output(state);
    const std::string text = shown(state.printed);
    probe_done(state,
               {last.known && last.status == 0, str("exit status ", last.status, text.empty() ? "" : ": ", text)});
    return;
  }
}

}  // namespace skink::supervise
