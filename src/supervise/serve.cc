// SPDX-License-Identifier: Apache-2.0
// The supervisor's clients: commands that ask it to do something or want to hear of something. No client is ever waited
// for: one that does not read is dropped.
#include <fcntl.h>
#include <sys/epoll.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <csignal>

#include "cgroup/bus.h"
#include "fs/dir.h"
#include "supervise/scope.h"
#include "supervise/supervisor.h"

namespace skink::supervise {
namespace {

// Of those that stay (wait, attach, exec). There is room for some more that are answered at once, such as stop.
constexpr std::size_t kMostClients = 512;
constexpr std::size_t kMostConnections = kMostClients + 128;

Error not_running() { return Error::make(Code::busy, "the container is not running"); }

}  // namespace

void Supervisor::accept_clients() {
  for (;;) {
    UniqueFd socket(::accept4(kFdListener, nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK));
    if (!socket) return;
    // The file's mode keeps others out already; this holds should a directory above have been opened up (attack A35).
    if (!is_own_peer(socket.get()) || clients_.size() >= kMostConnections) continue;
    const int fd = socket.get();
    if (watch(fd, Source::client, EPOLLIN | EPOLLRDHUP)) clients_[fd].socket = std::move(socket);
  }
}

void Supervisor::drop(int fd) {
  std::erase_if(exec_clients_, [fd](const auto& entry) { return entry.second == fd; });
  std::erase_if(waiting_execs_, [fd](const auto& entry) { return entry.first == fd; });
  watches_.forget(fd);
  clients_.erase(fd);
  choose_keeping();
  // What was read and written for it.
  shed_ = true;
}

void Supervisor::serve(int fd) {
  const auto client = clients_.find(fd);
  if (client == clients_.end()) return;
  auto message = receive_message(fd);
  if (!message && message.error().code() == Code::busy) return;
  if (!message) {
    drop(fd);
    return;
  }
  answer(client->second, std::move(*message));
}

void Supervisor::reply(Client& client, oci::Json json, std::span<const int> fds) {
  json[std::string(kSpeaker)] = {status_.supervisor.pid, status_.supervisor.start_time};
  // Not erased here, as callers walk over all clients: the hang-up brings it back through epoll.
  if (!send_message(client.socket.get(), json, fds)) ::shutdown(client.socket.get(), SHUT_RDWR);
}

void Supervisor::reply_result(Client& client, const Result<void>& result) {
  reply(client, result ? oci::Json{{"ok", true}} : error_json(result.error()));
}

void Supervisor::answer(Client& client, Message message) {
  client.has_asked = true;
  const oci::Json& json = message.json;
  const std::string op = oci::get_string(json, "op");
  const auto number = [&json](std::string_view key) { return static_cast<int>(oci::get_int(json, key)); };
  if ((op == "wait" || op == "attach" || op == "exec") && clients_.size() > kMostClients) {
    oci::Json refusal = error_json(Error::make(Code::busy, kMostClients, " commands wait for the container already"));
    refusal["refused"] = true;
    reply(client, refusal);
  } else if (op == "start") {
    start_heard_ = true;
    if (oci::get_bool(json, "heal") && tell_unhealed(client)) return;
    if (end_untold_) {
      client.awaits_start = true;
      tell_end(*end_untold_);
      exit_code_ = kSupervisorDone;
    } else if (first_failure_) {
      reply(client, error_json(*first_failure_));
      exit_code_ = kSupervisorDone;
    } else if (status_.stop_wanted && (status_.is_being_stopped() || !want_running())) {
      reply_result(client, Error::make(Code::busy, "the container is being stopped"));
    } else if (status_.step == Step::launching || status_.step == Step::starting) {
      client.awaits_start = true;
    } else {
      reply_result(client, {});
    }
  } else if (op == "attach") {
    handle_attach(client, message);
  } else if (op == "wait") {
    client.awaits_end = true;
  } else if (op == "stop") {
    handle_stop(client, json);
  } else if (op == "kill") {
    reply_result(client, handle_kill(number("signal"), oci::get_bool(json, "ends")));
  } else if (op == "pause") {
    reply_result(client, handle_pause(true));
  } else if (op == "update") {
    reply_result(client, handle_update(json));
  } else if (op == "unpause") {
    reply_result(client, handle_pause(false));
  } else if (op == "exec") {
    if (auto done = handle_exec(client, message); !done) reply_result(client, done);
  } else if (op == "exec-cancel") {
    handle_exec_cancel(client, json);
  } else if (op == "exec-wait") {
    handle_exec_wait(client, json);
  } else if (op == "exec-signal") {
    reply_result(client, handle_exec_signal(json));
  } else if (op == "ping") {
    reply_result(client, {});
  } else {
    reply_result(client, Error::make(Code::unsupported,
                                     "this supervisor does not know the request; it may be of another "
                                     "version of skink"));
  }
}

// Who brings it back hears why that has not worked, and whether it is tried again.
bool Supervisor::tell_unhealed(Client& client) {
  const bool waits = status_.step == Step::waiting;
  if (!status_.by_heal || !status_.last_exit || status_.last_exit->error.empty()) return false;
  if (!waits && !end_untold_) return false;
  if (end_untold_) exit_code_ = kSupervisorDone;
  oci::Json answer = error_json(
      Error::make(Code::busy, status_.last_exit->error, waits ? "; its restart policy tries it again and again" : ""));
  if (waits) answer["again"] = true;
  reply(client, answer);
  return true;
}

// Order: those who wait for it before the journal, which can take a moment.
void Supervisor::output_came() {
  tell_output();
  follow_logs();
  rotate_logs();
}

// Those who are attached read the spool by themselves; a count that is full already needs no more.
void Supervisor::tell_output() {
  const std::uint64_t one = 1;
  for (auto& [fd, client] : clients_)
    if (client.output_event) (void)!::write(client.output_event.get(), &one, sizeof one);
}

void Supervisor::handle_attach(Client& client, Message& message) {
  const oci::Json& json = message.json;
  if (!message.fds.empty()) {
    // Whatever it is, it must not hold us up.
    client.output_event = std::move(message.fds[0]);
    const int flags = ::fcntl(client.output_event.get(), F_GETFL);
    ::fcntl(client.output_event.get(), F_SETFL, flags | O_NONBLOCK);
    // What came between its last look and now (a supervisor died) would otherwise wait for the next output.
    tell_output();
  }
  client.attached = true;
  choose_keeping();
  client.awaits_end = true;
  client.wants_stdin = oci::get_bool(json, "stdin");
  if (status_.step == Step::running) tell_started(client);
}

void Supervisor::tell_started(Client& client) {
  std::vector<int> fds;
  oci::Json json{{"event", "started"}, {"incarnation", status_.incarnation}};
  if (terminal_) {
    json["terminal"] = true;
    fds.push_back(terminal_.get());
  } else if (client.wants_stdin && stdin_write_) {
    json["stdin"] = true;
    fds.push_back(stdin_write_.get());
  }
  reply(client, json, fds);
  // From now on only that client can end the container's input, by closing it.
  if (json.contains("stdin")) {
    stdin_write_.reset();
    park_all();
  }
}

void Supervisor::tell_all_started() {
  for (auto& [fd, client] : clients_)
    if (client.attached) tell_started(client);
}

Result<void> Supervisor::signal_init(int signal) {
  if (status_.step != Step::running || !init_pidfd_) return not_running();
  return sys::signal_pidfd(init_pidfd_.get(), signal);
}

// Written down before anything is done about it, so that no relaunch can come in between.
Result<void> Supervisor::want_stop() {
  TRY(record_wish(kFdStoreDir, false, container_.durable));
  status_.stop_wanted = true;
  return {};
}

// The program was asked to end by a mere signal and has gone on; now it is wanted again.
Result<void> Supervisor::want_running() {
  if (status_.step != Step::running) return not_running();
  TRY(restore_wish(kFdStoreDir, str("running ", status_.order, '\n'), container_.durable));
  status_.stop_wanted = false;
  plan_standby();
  save();
  return {};
}

void Supervisor::handle_stop(Client& client, const oci::Json& json) {
  const bool keep_wish = oci::get_bool(json, "keep_wish");  // the machine goes down: heal shall start it again
  if (first_failure_ || end_untold_ || exit_code_ >= 0) {
    // What a start that came to nothing has left is the wish from before it.
    if (first_failure_ && !keep_wish) (void)record_wish(kFdStoreDir, false, container_.durable);
    reply_result(client, {});
    return;
  }
  // A disk that is full must not make a container unstoppable; then the wish is in status.json only.
  if (keep_wish || !want_stop()) status_.stop_wanted = true;
  client.awaits_stop = true;
  if (status_.step == Step::waiting) {
    give_up(status_.last_exit.value_or(LastExit{}));
    return;
  }
  const std::int64_t timeout = oci::get_int(json, "timeout_ns", -1);
  stop_within(timeout < 0 ? container_.stop_timeout_ns : timeout);
}

namespace {

// Whether the host goes down: then what was running is wanted again when it is back.
bool host_goes_down() {
  auto bus = cgroup::bus::Connection::open(cgroup::bus::Manager::system, std::chrono::seconds(5));
  if (!bus) return true;
  const auto state = bus->manager_property("SystemState");
  return !state || *state == "stopping";
}

}  // namespace

// SIGTERM or the scope's signal: the host goes down, or somebody stops our scope. It ends as by `stop`; only for the
// latter that is written down as what the user wants.
void Supervisor::check_termination() {
  signalfd_siginfo info{};
  if (::read(termination_.get(), &info, sizeof info) == sizeof info) obey_termination();
}

// systemd says it once, to every process of the scope: a supervisor that is not there just then hears it from its
// guard, in which it stays pending.
bool Supervisor::was_told_to_guard() const {
  const std::string path = str("/proc/", status_.guard.pid, "/status");
  const auto text = fs::read_file(AT_FDCWD, path.c_str(), 1U << 16);
  constexpr std::string_view kPending = "\nShdPnd:\t";
  const auto at = text ? text->find(kPending) : std::string::npos;
  if (at == std::string::npos) return false;
  const std::string_view rest = std::string_view(*text).substr(at + kPending.size());
  const auto set = parse_int<std::uint64_t>(rest.substr(0, rest.find('\n')), 16);
  return set && (*set >> (kScopeStopSignal - 1) & 1U) != 0;
}

void Supervisor::obey_termination() {
  if (first_failure_ || end_untold_ || exit_code_ >= 0) return;
  status_.stop_wanted = true;
  if (!host_goes_down()) (void)record_wish(kFdStoreDir, false, container_.durable);
  if (status_.step == Step::waiting) {
    give_up(status_.last_exit.value_or(LastExit{}));
    return;
  }
  stop_within(container_.stop_timeout_ns);
}

void Supervisor::stop_within(std::int64_t timeout) {
  constexpr std::int64_t kLongest = 365LL * 24 * 3600 * 1'000'000'000;
  const std::int64_t at = fs::monotonic_ns() + std::min(timeout, kLongest);
  status_.kill_at_ns = status_.kill_at_ns == 0 ? at : std::min(status_.kill_at_ns, at);
  if (timeout > 0) note_sender(container_.stop_signal, "sent to stop it");
  // Order: on record before it can end by that.
  save();
  if (timeout > 0 && signal_init(container_.stop_signal)) tell_signalled(container_.stop_signal);
  if (status_.paused && group_ && group_->thaw()) {
    tell_event("unpause");
    status_.paused = false;
    save();
  }
}

Result<void> Supervisor::handle_kill(int signal, bool ends) {
  if (signal < 1 || signal > 64) return Error::make(Code::invalid_config, "signal ", signal, " does not exist");
  if (ends && status_.step == Step::waiting) {
    TRY(want_stop());
    give_up(status_.last_exit.value_or(LastExit{}));
    return {};
  }
  if (status_.step != Step::running) return not_running();
  // SIGKILL and the stop signal say that the container shall end, not that it shall start again.
  if (ends || signal == SIGKILL || signal == container_.stop_signal) {
    TRY(want_stop());
    save();
  }
  TRY(signal_init(signal));
  note_sender(signal, "sent by skink kill");
  save();
  tell_signalled(signal);
  // A frozen process on v1 dies of SIGKILL only when it is thawed.
  if (signal == SIGKILL && status_.paused && group_) {
    TRY(group_->thaw());
    status_.paused = false;
    save();
  }
  return {};
}

Result<void> Supervisor::handle_pause(bool pause) {
  if (status_.step != Step::running || !group_) return not_running();
  if (pause == status_.paused)
    return Error::make(Code::busy, pause ? "the container is already paused" : "the container is not paused");
  if (!pause) {
    TRY(group_->thaw());
    tell_event("unpause");
    status_.paused = false;
    resume_probes();
    save();
    return {};
  }
  put_off_launches();
  // Order: on record before it stands still. Without keepers it is shown as what is on record.
  status_.paused = true;
  save();
  auto frozen = group_->freeze();
  if (frozen) {
    tell_event("pause");
  } else {
    status_.paused = false;
    save();
  }
  return frozen;
}

}  // namespace skink::supervise
