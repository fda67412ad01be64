// SPDX-License-Identifier: Apache-2.0
// The probes of a run: asked by the supervisor itself over sockets that are the container's, or by a process that is
// started as exec starts one. Every answer comes through the loop; what waits, for a moment, is the look whether the
// container is about to end (is_ending), and without a guard the start of such a process.
#include <fcntl.h>
#include <poll.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
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

constexpr std::size_t kStartup = 0, kLiveness = 1, kReadiness = 2;
constexpr std::size_t kMostPrinted = 4096;
// Whoever changes its mind without end is told of once a second, after a burst: the log of events is everybody's.
constexpr std::int64_t kHealthNs = 1'000'000'000, kHealthBurstNs = 10 * kHealthNs;

// The end of it: what a program says last is why.
std::string shown(std::string_view text) {
  constexpr std::size_t kMostShown = 500;
  if (text.size() > kMostShown) text.remove_prefix(text.size() - kMostShown);
  while (text.ends_with('\n') || text.ends_with(' ')) text.remove_suffix(1);
  return printable(text);
}

}  // namespace

std::string_view Supervisor::name_of(const ProbeState& state) const {
  constexpr std::string_view kWords[] = {"startup", "liveness", "readiness"};
  return kWords[static_cast<std::size_t>(&state - probes_.data())];
}

// At the start of a run, and when a successor takes one over: then what has passed has passed.
void Supervisor::begin_probes() {
  const Probes& probes = container_.probes;
  const Probe* const list[] = {&probes.startup, &probes.liveness, &probes.readiness};
  const std::int64_t now = fs::monotonic_ns();
  const bool any = probes.startup.kind != Probe::Kind::none || probes.liveness.kind != Probe::Kind::none;
  const bool adopted =
      status_.startup_passed || status_.probe_health == "healthy" || status_.probe_health == "unhealthy";
  if (!adopted) status_.probe_health = any ? "starting" : "";
  if (!adopted || probes.readiness.kind == Probe::Kind::none) status_.probe_ready = false;
  if (probes.startup.kind == Probe::Kind::none) status_.startup_passed = true;
  if (!adopted) (void)::unlinkat(kFdRunDir, kHealthFile, 0);
  for (std::size_t i = 0; i < probes_.size(); ++i) {
    probes_[i] = ProbeState{};
    if (list[i]->kind == Probe::Kind::none) continue;
    probes_[i].probe = list[i];
    probes_[i].passed = i == kLiveness ? status_.probe_health == "healthy" : i == kReadiness && status_.probe_ready;
    if ((i == kStartup) == !status_.startup_passed) probes_[i].next_ns = now + (adopted ? 0 : list[i]->delay_ns) + 1;
  }
  show_health(false);
}

void Supervisor::end_probes() {
  for (auto& state : probes_) {
    end_asking(state);
    state = ProbeState{};
  }
  if (health_again_ns_ != 0) tell_event("health_status", {{"health", status_.health}});
  health_again_ns_ = 0;
  health_told_.clear();
  status_.health.clear();
  status_.probe_health.clear();
  status_.ready.reset();
  watchdog_at_ns_ = 0;
}

// Before a pause: a process that stands still on its way is no answer, and is asked for anew afterwards.
void Supervisor::put_off_launches() {
  for (auto& state : probes_) {
    if (state.launching == 0) continue;
    state.launching = 0;
    state.output.reset();
    state.deadline_ns = 0;
    state.next_ns = fs::monotonic_ns() + 1;
  }
}

// After a pause: what could not answer is given its time again.
void Supervisor::resume_probes() {
  const std::int64_t now = fs::monotonic_ns();
  for (auto& state : probes_) {
    if (state.deadline_ns != 0) state.deadline_ns = now + state.probe->timeout_ns;
    if (state.next_ns != 0) state.next_ns = std::max(state.next_ns, now + 1);
  }
  arm_watchdog();
}

void Supervisor::check_probes(std::int64_t now) {
  if (status_.stop_wanted) return;
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
Result<void> Supervisor::launch_by_helper(ProbeState& state, const ExecStart& start) {
  trim_exits();
  int ends[2] = {-1, -1};
  if (::socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) != 0) return Error::from_errno(errno, "socketpair");
  const auto ours = std::make_shared<UniqueFd>(ends[0]);
  const UniqueFd theirs(ends[1]);
  const std::int64_t exits_from = TRY(exits_end(kFdExits));
  launch::ExecRequest request = request_of(start);
  request.as_sibling = false;
  const auto work = [&request, to = theirs.get()] {
    const auto launched = launch::exec_in_container(request);
    if (!launched) return send_message(to, error_json(launched.error())) ? 0 : 1;
    const int fds[] = {launched->pidfd.get()};
    const oci::Json json{{"pid", launched->identity.pid}, {"start", launched->identity.start_time}};
    return send_message(to, json, fds) ? 0 : 1;
  };
  const int number = ++launches_;
  const auto done = [this, &state, number, ours, exits_from](int) {
    const bool of_this_run = state.launcher == number;
    if (of_this_run) state.launcher = 0;
    probe_launched(state, state.launching == number, ours->get(), exits_from);
    if (!of_this_run || !std::exchange(state.held_up, false)) return;
    state.deadline_ns = 0;
    state.next_ns = fs::monotonic_ns() + 1;
  };
  TRY(add_helper("skink-launch", {}, work, done));
  state.launching = state.launcher = number;
  return {};
}

void Supervisor::probe_launched(ProbeState& state, bool wanted, int from_fd, std::int64_t exits_from) {
  if (wanted) state.launching = 0;
  auto message = receive_message(from_fd);
  if (message && (message->json.contains("error") || message->fds.size() != 1)) message = error_of(message->json);
  if (!message) {
    if (wanted) probe_done(state, {false, message.error().text()});
    return;
  }
  Exec exec;
  exec.process.identity = {static_cast<pid_t>(oci::get_int(message->json, "pid")),
                           static_cast<std::uint64_t>(oci::get_int(message->json, "start")), status_.boot_id};
  exec.process.exits_from = exits_from;
  exec.process.of_probe = true;
  exec.pidfd = std::move(message->fds[0]);
  if (!wanted) {
    end_exec(exec);
    return;
  }
  state.pid = exec.process.identity.pid;
  if (auto taken = take_exec(std::move(exec)); !taken) probe_done(state, {false, taken.error().text()});
}

// A probe that runs for months must not fill RUN with records of its ends. Order: what is given back lies before where
// anybody looks, and the guard only adds. The newest are kept for who has not asked yet.
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
      if (state.printed.size() > kMostPrinted) state.printed.erase(0, state.printed.size() - kMostPrinted);
      if (got == 0) state.output.reset();
      return;
    }
    if (!state.attempt || state.attempt->fd() != fd) continue;
    if (auto result = state.attempt->advance()) {
      probe_done(state, *result);
      return;
    }
    epoll_event event{};
    event.events = state.attempt->events();
    event.data.u64 = static_cast<std::uint64_t>(Source::probe) << 32 | static_cast<std::uint32_t>(fd);
    ::epoll_ctl(epoll_.get(), EPOLL_CTL_MOD, fd, &event);
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

void Supervisor::probe_done(ProbeState& state, const ProbeResult& result) {
  const std::int64_t now = fs::monotonic_ns();
  state.attempt.reset();
  state.output.reset();
  state.pid = 0;
  state.held_up = false;
  state.deadline_ns = 0;
  state.next_ns = now + state.probe->interval_ns;
  const std::string told = str(result.good ? "good: " : "bad: ", result.text.substr(0, kMostPrinted));
  if (told != state.told) {
    state.told = told;
    write_probe_texts();
  }
  if (result.good) {
    state.failures = 0;
    if (++state.successes >= state.probe->successes) probe_changed(state, true);
    return;
  }
  state.successes = 0;
  // While it may still be starting a failure says nothing.
  if (!state.passed && now - status_.started_mono_ns < state.probe->grace_ns) return;
  if (++state.failures < state.probe->failures) return;
  // What answers no more because it has ended is judged by how it has ended.
  if (!is_ending()) probe_changed(state, false);
}

// A process that ends closes what it has and takes its namespace along before it can be seen to have ended.
bool Supervisor::is_ending() const {
  constexpr int kMomentMs = 20;
  pollfd ended{init_pidfd_.get(), POLLIN, 0};
  if (init_gone_ || (init_pidfd_ && ::poll(&ended, 1, kMomentMs) > 0)) return true;
  const auto now = sys::activity(status_.init);
  return now ? now->exiting : now.error().code() == Code::not_found;
}

// It has succeeded or failed as often as it had to.
void Supervisor::probe_changed(ProbeState& state, bool good) {
  const auto index = static_cast<std::size_t>(&state - probes_.data());
  state.passed = state.passed || good;
  if (index == kReadiness) {
    if (status_.probe_ready == good) return;
    status_.probe_ready = good;
    show_health(true);
    return;
  }
  if (index == kStartup && good) {
    // The others begin now.
    state.next_ns = 0;
    status_.startup_passed = true;
    if (probes_[kLiveness].probe == nullptr) status_.probe_health = "healthy";
    const std::int64_t now = fs::monotonic_ns();
    for (const auto other : {kLiveness, kReadiness})
      if (probes_[other].probe != nullptr) probes_[other].next_ns = now + probes_[other].probe->delay_ns + 1;
    show_health(true);
    return;
  }
  const std::string_view health = good ? "healthy" : "unhealthy";
  if (status_.probe_health != health) {
    status_.probe_health = health;
    show_health(true);
  }
  if (!good) probe_failed(state);
}

void Supervisor::probe_failed(const ProbeState& state) {
  constexpr std::size_t kMostShown = 200;
  fail_run(str("its ", name_of(state), " probe (", to_text(*state.probe).substr(0, kMostShown), ") failed ",
               state.failures, state.failures == 1 ? " time" : " times in a row", ", ", state.told));
}

// With the policy no nobody would start it again: then it is only told.
void Supervisor::fail_run(std::string why) {
  if (container_.restart.kind == RestartPolicy::Kind::no || status_.stop_wanted || !status_.probe_failure.empty())
    return;
  status_.probe_failure = std::move(why);
  stop_within(container_.stop_timeout_ns);
}

namespace {

// What two say of one run, each of which may have nothing to say.
std::string_view worse_of(std::string_view a, std::string_view b) {
  for (const std::string_view word : {"unhealthy", "starting", "healthy"})
    if (a == word || b == word) return word;
  return "";
}

}  // namespace

// Health and readiness out of what the probes and the program itself say.
void Supervisor::show_health(bool tell) {
  const std::string health(worse_of(status_.probe_health, watchdog_health()));
  const bool by_probe = container_.probes.readiness.kind != Probe::Kind::none;
  const bool by_program = container_.ready_by == ReadyBy::container;
  std::optional<bool> ready;
  if (by_probe || by_program)
    ready = (!by_probe || status_.probe_ready) && (!by_program || (status_.said.ready && !status_.said.stopping));
  const bool ready_news = ready != status_.ready && ready.has_value();
  status_.health = health;
  status_.ready = ready;
  if (!tell) {
    health_told_ = health;
    return;
  }
  tell_health();
  if (ready_news) tell_event("ready", {{"ready", *ready}});
  save();
  tell_changed();
}

void Supervisor::tell_health() {
  health_again_ns_ = 0;
  if (status_.health == health_told_) return;
  if (status_.health == "healthy" || status_.health == "unhealthy") {
    const std::int64_t now = fs::monotonic_ns();
    if (health_paid_ns_ - now > kHealthBurstNs) {
      health_again_ns_ = health_paid_ns_ - kHealthBurstNs;
      return;
    }
    health_paid_ns_ = std::max(health_paid_ns_, now) + kHealthNs;
    tell_event("health_status", {{"health", status_.health}});
  }
  health_told_ = status_.health;
}

void Supervisor::write_probe_texts() {
  std::string text;
  for (const auto& state : probes_)
    if (!state.told.empty()) text += str(name_of(state), ": ", state.told, '\n');
  if (!watchdog_told_.empty()) text += str("watchdog: ", watchdog_told_, '\n');
  (void)fs::write_file_atomic(kFdRunDir, kHealthFile, text, 0600);
}

}  // namespace skink::supervise
