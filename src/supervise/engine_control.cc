// SPDX-License-Identifier: Apache-2.0
// The engine's verbs that start, stop and steer a container, all through its supervisor.
#include <csignal>

#include "base/durations.h"
#include "base/text.h"
#include "cgroup/cgroup.h"
#include "fs/dir.h"
#include "supervise/engine_impl.h"
#include "supervise/exits.h"
#include "supervise/removal.h"
#include "supervise/scope.h"
#include "sys/descriptors.h"
#include "sys/file.h"

namespace skink {
namespace supervise {

bool is_hang_up(const Error& error) { return error.code() == Code::not_found && error.text() == kHangUp; }

namespace {

// One answer.
Result<void> hear(int socket, Patience& patience) {
  const Message answer = TRY(await_answer(socket, patience));
  if (answer.json.contains("error")) return error_of(answer.json);
  return {};
}

}  // namespace

Result<void> ask_supervisor(const Roots& roots, const std::string& id, const oci::Json& request, Patience& patience,
                            const fs::Lock* held) {
  for (int attempt = 0;; ++attempt) {
    const UniqueFd socket = TRY(connect_supervisor(roots, id, patience, held));
    auto done = send_message(socket.get(), request);
    if (done) done = hear(socket.get(), patience);
    if (done || !is_hang_up(done.error())) return done;
    if (attempt >= 8) return Error::make(Code::busy, "its supervisor dies again and again");
  }
}

Result<int> status_of_end(const LastExit& last) {
  if (last.known) return last.status;
  return Error::make(Code::not_found,
                     "nobody saw how it ended: its guard and its supervisor died together, or the machine went down");
}

// A status is never made up.
Result<std::optional<LastExit>> recorded_end(const Roots& roots, const std::string& id, int store_dir) {
  const auto told = [store_dir]() -> std::optional<LastExit> {
    const auto record = read_run_record(store_dir);
    if (!record || !record->final || record->order < read_wish(store_dir).order) return std::nullopt;
    return record->last;
  };
  if (auto last = told()) return last;
  // Order: with the lock. A start that is under way has it, and a removal.
  const auto lock = lock_container(roots, id);
  if (!lock && lock.error().code() == Code::not_found)
    return Error::make(Code::not_found, "it was removed (rm, or run --rm) before it could be asked how it ended");
  if (!lock) return lock.error();
  if (is_alive(lock->fd())) return std::optional<LastExit>{};
  if (auto last = told()) return last;
  if (read_wish(lock->fd()).order == 0)
    return Error::make(Code::busy, "it was never started, so there is no end to wait for; skink start starts it");
  return std::optional(unknown_exit());
}

namespace {

Error not_running(const std::string& id) {
  return Error::make(Code::busy, "container ", id.substr(0, 12), " is not running");
}

// For the verbs that need a running container.
Result<void> or_not_running(const std::string& id, Result<void> done) {
  if (!done && done.error().code() == Code::not_found && done.error().text() == "no supervisor") return not_running(id);
  return done;
}

Result<void> steer(const Roots& roots, const std::string& id, const oci::Json& request) {
  const UniqueFd exists = TRY(open_container(roots, id));
  Patience patience(roots, id);
  return or_not_running(id, ask_supervisor(roots, id, request, patience));
}

// So long a launch may stand still of what is to end anyway.
constexpr std::int64_t kLaunchToEndNs = 10 * kSecond;

// A hook that hangs goes with the container's process that it is run for, and its supervisor goes on to what it was
// asked (launch::run_hooks).
bool end_launch(const Roots& roots, const std::string& id, int alive_fd) {
  const auto status = status_of(roots, id);
  if (!status || status->step != Step::launching) return false;
  if (const auto init = sys::open_identified(status->init)) (void)sys::signal_pidfd(init->get(), SIGKILL);
  Patience patience(roots, id, {.quiet_ns = 2 * kSecond, .launch_ns = 2 * kSecond, .stopped_ns = 2 * kSecond});
  return await_no_supervisor(alive_fd, patience).has_value();
}

// Asks for a stop and waits for the end.
Result<void> end_by_request(const Roots& roots, const std::string& id, std::int64_t timeout_ns, bool keep_wish,
                            int alive_fd, Patience& patience) {
  auto done =
      ask_supervisor(roots, id, {{"op", "stop"}, {"timeout_ns", timeout_ns}, {"keep_wish", keep_wish}}, patience);
  if (done) done = await_no_supervisor(alive_fd, patience);
  // Order: once it was asked. When the launch has failed it finds the request before it tries again.
  if (!done && done.error().code() == Code::busy && end_launch(roots, id, alive_fd)) return {};
  return done;
}

}  // namespace
}  // namespace supervise

using namespace supervise;

Result<void> Engine::start(const std::string& id) {
  Patience patience(impl_->roots, id, Patience::Limits::of_start());
  for (int attempt = 0;; ++attempt) {
    auto supervised = TRY(ensure_supervisor(
        impl_->roots, id, [&](int store_dir) { return check_passed_output(store_dir, id); },
        [](int socket) {
          return send_message(socket, {{"op", "start"}});
        }));
    auto done = hear(supervised.socket.get(), patience);
    if (done || !is_hang_up(done.error()) || attempt >= 8) {
      if (!done && is_hang_up(done.error()))
        if (auto said = patience.complaint()) done = *std::move(said);
      // After a launch that failed nothing is left, not even the supervisor that tried.
      if (!done) (void)await_no_supervisor(supervised.alive.get(), patience);
      return done;
    }
    // The supervisor was killed, had come to its end just then, or cannot read the container's files.
    TRY(check_files(supervised.store_dir.get(), id));
    pause_ms(2);
  }
}

Result<void> Engine::stop(const std::string& id, std::int64_t timeout_ns, StopKind kind) {
  const UniqueFd store_dir = TRY(open_container(impl_->roots, id));
  const UniqueFd alive = TRY(open_alive(store_dir.get()));
  std::int64_t left_to_it = timeout_ns;
  if (left_to_it < 0) {
    const auto container = read_container(store_dir.get(), id);
    left_to_it = container ? container->stop_timeout_ns : 10 * kSecond;
  }
  constexpr std::int64_t kLongest = 365LL * 24 * 3600 * kSecond;
  // While a program takes its time to end it is no wonder that nothing moves.
  Patience::Limits limits;
  limits.quiet_ns += std::min(left_to_it, kLongest);
  limits.launch_ns = kLaunchToEndNs;
  Patience patience(impl_->roots, id, limits);
  const bool for_good = kind == StopKind::for_good;
  auto done = end_by_request(impl_->roots, id, timeout_ns, !for_good, alive.get(), patience);
  if (!done && done.error().code() == Code::not_found) {
    // Nobody supervises it. Should something of it still run, its end is what was asked for.
    const auto lock = lock_container(impl_->roots, id);
    if (!lock) return {};
    if (is_alive(lock->fd())) return Error::make(Code::busy, "it is being started by another command");
    const auto container = read_container(lock->fd(), id);
    // Order: the wish says until then that it was to run, and so that nobody told of its end.
    (void)record_unseen_end(impl_->roots, id);
    if (for_good) (void)record_wish(lock->fd(), false, container && container->durable);
    return clean_leftovers(impl_->roots, id);
  }
  return done;
}

Result<void> Engine::restart(const std::string& id, std::int64_t timeout_ns) {
  TRY(stop(id, timeout_ns));
  return start(id);
}

Result<void> Engine::kill(const std::string& id, int signal) {
  if (signal == SIGKILL) {
    // Nothing can resist it, so this is a stop without patience, and over when the command returns.
    const UniqueFd store_dir = TRY(open_container(impl_->roots, id));
    const UniqueFd alive = TRY(open_alive(store_dir.get()));
    Patience patience(impl_->roots, id, {.launch_ns = kLaunchToEndNs});
    return or_not_running(id, end_by_request(impl_->roots, id, 0, false, alive.get(), patience));
  }
  return steer(impl_->roots, id, {{"op", "kill"}, {"signal", signal}});
}

Result<void> Engine::pause(const std::string& id) { return steer(impl_->roots, id, {{"op", "pause"}}); }
Result<void> Engine::unpause(const std::string& id) { return steer(impl_->roots, id, {{"op", "unpause"}}); }

Result<int> Engine::wait(const std::string& id) {
  const UniqueFd store_dir = TRY(open_container(impl_->roots, id));
  const UniqueFd alive = TRY(open_alive(store_dir.get()));
  constexpr int kQuickTries = 4;
  for (int hang_ups = 0;;) {
    Patience patience(impl_->roots, id);
    const auto socket = connect_supervisor(impl_->roots, id, patience);
    if (!socket && socket.error().code() != Code::not_found) return socket.error();
    if (!socket) {
      if (const auto last = TRY(recorded_end(impl_->roots, id, store_dir.get()))) return status_of_end(*last);
      continue;
    }
    const auto sent = send_message(socket->get(), {{"op", "wait"}});
    const auto message = sent ? await_message(socket->get(), 0) : Result<Message>(sent.error());
    if (!message) {
      // Killed, and its successor knows; or again and again: it has no room for us at all.
      if (++hang_ups > kQuickTries) pause_ms(20);
      continue;
    }
    if (message->json.contains("error")) return error_of(message->json);
    patience.heard(message->json);
    const LastExit last = TRY(parse_last_exit(oci::get_string(message->json, "exit", "{}")));
    // Only so that it can be removed or started at once; what was asked for is known.
    (void)await_no_supervisor(alive.get(), patience);
    return status_of_end(last);
  }
}

namespace {

// Ends guard and supervisor by themselves, when they do not do it on request (stopped, or hung in the kernel).
Result<void> end_by_force(const Roots& roots, const std::string& id, int store_dir) {
  // Without its run directory nobody knows who they are (faults F27, F28). They end with the container: that it shall
  // not run again is on record.
  if (const auto places = possible_groups(id); places && !status_of(roots, id))
    for (const auto& where : *places)
      if (auto group = cgroup::Group::open(where)) (void)group->kill_all(std::chrono::seconds(10));
  constexpr std::int64_t kLongestDeath = 60 * kSecond;
  const std::int64_t deadline = fs::monotonic_ns() + kLongestDeath;
  while (is_alive(store_dir)) {
    const auto status = status_of(roots, id);
    // At its very end a supervisor has removed it.
    if (!status && (status.error().code() != Code::not_found || fs::monotonic_ns() >= deadline))
      return Error::make(Code::busy, "its guard cannot be found: ", status.error().text());
    if (fs::monotonic_ns() >= deadline) return Error::make(Code::busy, "its guard and supervisor do not die");
    // Order: the guard first, or it would start another supervisor.
    if (status)
      for (const auto* identity : {&status->guard, &status->supervisor})
        if (const auto process = sys::open_identified(*identity)) (void)sys::signal_pidfd(process->get(), SIGKILL);
    pause_ms(10);
  }
  return {};
}

Error not_removable(const std::string& id, Step step) {
  std::string_view what = " is being launched";
  if (step == Step::running) what = " is running";
  if (step == Step::waiting) what = " waits for its relaunch";
  return Error::make(Code::busy, "container ", id.substr(0, 12), what, "; stop it first or use rm -f");
}

// What a removal has to do about a supervisor that lives.
Result<void> end_supervisor(const Roots& roots, const std::string& id, const fs::Lock& lock, bool force) {
  const int store_dir = lock.fd();
  const UniqueFd alive = TRY(open_alive(store_dir));
  // By force there is another way, so less is waited for.
  Patience patience(
      roots, id,
      force ? Patience::Limits{.quiet_ns = 10 * kSecond, .launch_ns = kLaunchToEndNs, .stopped_ns = 2 * kSecond}
            : Patience::Limits{});
  if (!force) {
    const auto run_dir = open_run_dir(roots, id);
    const auto status = run_dir ? read_status(run_dir->get()) : Result<Status>(Error(Code::not_found, ""));
    if (status && status->step != Step::stopped) return not_removable(id, status->step);
    return await_no_supervisor(alive.get(), patience);
  }
  (void)record_wish(store_dir, false, false);
  auto stopped = ask_supervisor(roots, id, {{"op", "stop"}, {"timeout_ns", 0}}, patience, &lock);
  if (!stopped && sys::is_want_of_descriptors(stopped.error())) return stopped;
  if (stopped || stopped.error().code() == Code::not_found)
    if (await_no_supervisor(alive.get(), patience)) return {};
  if (end_launch(roots, id, alive.get())) return {};
  return end_by_force(roots, id, store_dir);
}

}  // namespace

Result<void> Engine::remove(const std::string& id, bool force) {
  const Roots& roots = impl_->roots;
  auto lock = lock_container(roots, id);
  if (!lock && lock.error().code() == Code::not_found) {
    // Killed on the way: what a removal that went before has left is finished, without complaint.
    const std::string gone = str(kGonePrefix, id);
    const bool half = is_id(id) && sys::is_there(roots.store_containers.get(), gone.c_str());
    if (!half) return std::move(lock).error();
    sweep(roots.store_containers.get(), roots.names.get(), gone);
    return {};
  }
  if (!lock) return std::move(lock).error();
  if (is_alive(lock->fd())) {
    TRY(end_supervisor(roots, id, *lock, force));
  } else if (const auto left = status_of(roots, id);
             left && !force && left->step == Step::running && sys::open_identified(left->init)) {
    return not_removable(id, left->step);
  }
  TRY(clean_leftovers(roots, id));
  // A record that cannot be read does not keep its container from going; then the name is found by its target.
  const auto container = read_container(lock->fd(), id);
  std::string name = container ? container->name : "";
  if (!container)
    for (const auto& entry : TRY(fs::list(roots.names.get())))
      if (find_name(roots, entry.name) == id) name = entry.name;
  return remove_store_dir(roots.store_containers.get(), roots.names.get(), id, name,
                          [&] { tell_destroyed(roots, id, container); });
}

}  // namespace skink
