// SPDX-License-Identifier: Apache-2.0
// The engine's verbs that start, stop and steer a container, all through its supervisor.
#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <ctime>

#include "base/durations.h"
#include "base/text.h"
#include "cgroup/cgroup.h"
#include "fs/dir.h"
#include "supervise/engine_impl.h"
#include "supervise/event_log.h"
#include "supervise/exits.h"
#include "supervise/guard_start.h"
#include "supervise/removal.h"
#include "supervise/scope.h"
#include "sys/descriptors.h"
#include "sys/file.h"

namespace skink {
namespace supervise {

void pause_ms(long milliseconds) {
  const timespec time{.tv_sec = 0, .tv_nsec = milliseconds * kMillisecond};
  ::nanosleep(&time, nullptr);
}

namespace {

Result<void> write_run_files(int run_dir, const Container& container) {
  if (!container.bundle.empty()) return {};
  plan::RunOptions options;
  options.dns = container.dns;
  options.dns_search = container.dns_search;
  options.host_network = container.host_network;
  const auto host_resolv = fs::read_file(AT_FDCWD, "/etc/resolv.conf", kRecordLimit);
  const std::string resolv = TRY(plan::make_resolv_conf(options, host_resolv ? *host_resolv : ""));
  const std::pair<const char*, std::string> files[] = {
      {"hosts", container.hosts}, {"hostname", container.hostname + "\n"}, {"resolv.conf", resolv}};
  for (const auto& [name, text] : files) {
    const UniqueFd file = TRY(sys::open_at(run_dir, name, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW, 0600));
    TRY(sys::write_all(file.get(), text, name));
    // Whoever the program runs as must be able to read them; others cannot come here.
    if (::fchmod(file.get(), 0644) != 0) return Error::from_errno(errno, "chmod ", std::string_view(name));
  }
  return {};
}

Result<void> record_groups(int run_dir, const cgroup::Location& location) {
  return fs::write_file_atomic(run_dir, kCgroupFile, cgroup::dump_location(location), 0600);
}

Result<UniqueFd> make_run_dir(const Roots& roots, const Container& container, int store_dir, Starter starter) {
  const std::string& id = container.id;
  TRY_CTX(sys::mkdir_at(roots.run_containers.get(), id.c_str(), 0700), printable(container.run), '/',
          std::string_view(kContainers));
  UniqueFd dir = TRY(open_run_dir(roots, id));
  // Order: where the groups will be is on record before there is one (fault F01).
  TRY(record_groups(dir.get(), TRY(plan_groups(id))));
  Status status;
  status.boot_id = TRY(sys::boot_id());
  const Wish wish = read_wish(store_dir);
  status.order = wish.order + 1;
  status.wish_before = wish.text;
  status.by_heal = starter == Starter::heal;
  if (const auto before = read_run_record(store_dir)) {
    status.started_ns = before->started_ns;
    status.finished_ns = before->finished_ns;
    status.last_exit = before->last;
  }
  TRY(write_status(dir.get(), status));
  TRY(write_run_files(dir.get(), container));
  return dir;
}

// A systemd that does not answer (its bus is not mounted in the container that we are in) is done without.
Result<GuardGroup> guard_group(const Container& container, int run_dir, bool revived) {
  const auto location = TRY(read_groups(run_dir, container.id));
  auto entered = enter_scope(container, location);
  if (entered || revived || entered.error().code() != Code::unsupported) return entered;
  TRY(record_groups(run_dir, TRY(plan_plain_groups(container.id))));
  return GuardGroup{};
}

Result<void> begin_guard(const Roots& roots, const Container& container, int listener, int run_dir, bool revived) {
  // Opened anew: a descriptor that carries our flock would keep it in the guard's copy.
  const UniqueFd store_dir = TRY(open_container(roots, container.id));
  const UniqueFd null = TRY(sys::open_at(AT_FDCWD, "/dev/null", O_RDWR));
  GuardStart start;
  start.listener = listener;
  start.run_dir = run_dir;
  start.store_dir = store_dir.get();
  start.run_root = roots.run.get();
  start.store_root = roots.store.get();
  start.name = container.name;
  start.terminal = container.tty;
  start.revive = revived;
  if (container.log_driver == "passthrough") {
    // Not a terminal of the host, which would take orders from the container. Who brings it back is not its starter.
    const auto passed = [&](int fd) { return revived || ::isatty(fd) == 1 ? null.get() : fd; };
    start.out = passed(1);
    start.err = passed(2);
  }
  const GuardGroup entered = TRY_CTX(guard_group(container, run_dir, revived), "control group");
  if (entered.group) start.group = entered.group->clone_fd();
  return start_guard(start);
}

Result<void> revive_guard(const Roots& roots, const Container& container, int run_dir) {
  const UniqueFd listener = TRY(listen_control(run_dir));
  return begin_guard(roots, container, listener.get(), run_dir, true);
}

Result<UniqueFd> start_supervisor(const Roots& roots, const Container& container, int store_dir, const Greeting& greet,
                                  Starter starter) {
  const Wish before = read_wish(store_dir);
  // An order comes before all that is made: without one, and without a run directory, nothing can be left.
  if (before.order != 0 || open_run_dir(roots, container.id)) TRY(clean_leftovers(roots, container.id));
  const UniqueFd run_dir = TRY(make_run_dir(roots, container, store_dir, starter));
  TRY(record_wish(store_dir, true, container.durable));
  const auto begin = [&]() -> Result<UniqueFd> {
    const UniqueFd listener = TRY(listen_control(run_dir.get()));
    // Order: asked before there is anybody to answer. A program can be over, and its supervisor and the socket's name
    // gone with it, before this process gets the CPU again (fault F24).
    UniqueFd socket = TRY(connect_control(run_dir.get()));
    TRY(greet(socket.get()));
    TRY(begin_guard(roots, container, listener.get(), run_dir.get(), false));
    return socket;
  };
  auto begun = begin();
  if (!begun) (void)restore_wish(store_dir, before.text, container.durable);
  return begun;
}

}  // namespace

namespace {

// Guard and supervisor died without a word: how the last run ended is not known, and that is what is written down.
void record_abandoned(const Roots& roots, const std::string& id, int run_dir) {
  const auto status = read_status(run_dir);
  if (!status || status->started_ns == 0 || (status->step != Step::running && status->step != Step::waiting)) return;
  const auto store_dir = open_container(roots, id);
  if (!store_dir) return;
  RunRecord record;
  record.order = status->order;
  record.last = status->step == Step::running ? unknown_exit() : status->last_exit.value_or(unknown_exit());
  record.started_ns = status->started_ns;
  record.finished_ns = status->step == Step::running ? 0 : status->finished_ns;
  record.restarts = status->restarts;
  if (status->step == Step::running)
    if (const auto container = read_container(store_dir->get(), id)) {
      Event event = event_of(*container, "die", exit_attributes(record.last));
      event.run = str(status->order, '.', status->incarnation);
      append_event(roots.run.get(), std::move(event));
    }
  (void)fs::write_file_atomic(store_dir->get(), kExitFile, dump(record), 0600);
}

}  // namespace

void tell_destroyed(const Roots& roots, const std::string& id, const Result<Container>& container) {
  Event event;
  if (container) event = event_of(*container, "destroy");
  event.action = "destroy";
  event.id = id;
  append_event(roots.run.get(), std::move(event));
}

Result<void> check_files(int store_dir, const std::string& id) {
  TRY(read_container(store_dir, id));
  auto spec = oci::parse_spec(TRY(fs::read_file(store_dir, kConfigFile, oci::kConfigLimit)));
  if (!spec) return std::move(spec.error().context(std::string_view(kConfigFile))).as(Code::corrupt);
  return {};
}

bool is_abandoned(const Status& status) {
  // Before the first launch has succeeded nobody was told that it runs, and nobody waits for it any more.
  return status.step == Step::running || status.step == Step::waiting || status.step == Step::stopped ||
         (status.step == Step::launching && status.incarnation > 1);
}

Result<void> revive(const Roots& roots, const std::string& id) {
  // Only tried: whoever holds the lock (`rm -f`, `start`) sees to it.
  const auto lock = TRY(fs::Lock::try_take(TRY(open_container(roots, id)), fs::Lock::Mode::exclusive, id));
  return revive_locked(roots, id, lock);
}

Result<void> revive_locked(const Roots& roots, const std::string& id, const fs::Lock& lock) {
  if (is_alive(lock.fd())) return {};
  const UniqueFd run_dir = TRY(open_run_dir(roots, id));
  if (!is_abandoned(TRY(read_status(run_dir.get())))) return Error::make(Code::not_found, "nothing to adopt");
  return revive_guard(roots, TRY(read_container(lock.fd(), id)), run_dir.get());
}

Result<fs::Lock> lock_container(const Roots& roots, const std::string& id) {
  for (int attempt = 0; attempt < 16; ++attempt) {
    auto lock = TRY(fs::Lock::take(TRY(open_container(roots, id)), fs::Lock::Mode::exclusive, id));
    // What was locked may have been removed while we waited for it (fault F12).
    const auto ours = TRY(sys::stat_fd(lock.fd(), id));
    const auto there = sys::stat_at(roots.store_containers.get(), id.c_str(), AT_SYMLINK_NOFOLLOW);
    if (there && there->st_ino == ours.st_ino && there->st_dev == ours.st_dev) return lock;
  }
  return Error::make(Code::not_found, "no such container: ", skink::quoted(id));
}

namespace {

Result<Status> status_of(const Roots& roots, const std::string& id) {
  const UniqueFd run_dir = TRY(open_run_dir(roots, id));
  return read_status(run_dir.get());
}

// Of connect_control: nobody listens yet or any more, or very many are in front of us.
bool is_transient(const Error& error) { return error.code() == Code::not_found || error.code() == Code::busy; }

// Another command has the lock of a container that lost both its keepers, and gives it new ones or ends it.
bool is_in_other_hands(const Roots& roots, const std::string& id, const Error& error) {
  if (error.code() != Code::busy) return false;
  const auto left = status_of(roots, id);
  return left && is_abandoned(*left);
}

}  // namespace

bool has_keepers(const Roots& roots, const std::string& id, int store_dir_fd, const fs::Lock* held) {
  if (is_alive(store_dir_fd)) return true;
  const auto revived = held != nullptr ? revive_locked(roots, id, *held) : revive(roots, id);
  return revived || (held == nullptr && is_in_other_hands(roots, id, revived.error()));
}

Result<UniqueFd> open_alive(int store_dir_fd) {
  return sys::open_at(store_dir_fd, kAliveFile, O_RDWR | O_NOFOLLOW | O_NONBLOCK);
}

Result<UniqueFd> connect_supervisor(const Roots& roots, const std::string& id, Patience& patience,
                                    const fs::Lock* held) {
  std::int64_t missing_since_ns = 0;
  for (;;) {
    const auto store_dir = open_container(roots, id);
    if (!store_dir && sys::is_want_of_descriptors(store_dir.error())) return store_dir.error();
    if (!store_dir) return Error::make(Code::not_found, "no supervisor");
    if (!has_keepers(roots, id, store_dir->get(), held)) return Error::make(Code::not_found, "no supervisor");
    const auto run_dir = open_run_dir(roots, id);
    if (run_dir) {
      auto socket = connect_control(run_dir->get());
      if (socket || !is_transient(socket.error())) return socket;
    } else if (sys::is_want_of_descriptors(run_dir.error())) {
      return run_dir.error();
    } else if (is_alive(store_dir->get())) {
      // At its very start and end a supervisor has none, for moments.
      constexpr std::int64_t kLongestMomentNs = 10 * kSecond;
      const std::int64_t now = fs::monotonic_ns();
      if (missing_since_ns == 0) missing_since_ns = now;
      if (now - missing_since_ns > kLongestMomentNs)
        return Error::make(Code::busy, "somebody has removed its run directory (", std::string_view(kContainers), "/",
                           id.substr(0, 12), "), by which its supervisor is reached; skink rm -f ends it");
    }
    TRY(patience.check());
    pause_ms(2);
  }
}

Result<void> clean_leftovers(const Roots& roots, const std::string& id) {
  const auto run_dir = open_run_dir(roots, id);
  if (run_dir) {
    record_abandoned(roots, id, run_dir->get());
    // Both processes that would have ended it are gone: nobody but us is left to do it.
    if (const auto status = read_status(run_dir->get()))
      if (const auto init = sys::open_identified(status->init)) (void)sys::signal_pidfd(init->get(), SIGKILL);
  } else if (run_dir.error().code() != Code::not_found) {
    return run_dir.error();
  }
  auto location = plan_groups(id);
  if (run_dir)
    if (const auto text = fs::read_file(run_dir->get(), kCgroupFile, kRecordLimit)) {
      // Only its own groups, whatever the file says by now (attack A36).
      auto recorded = cgroup::parse_location(*text);
      if (recorded && is_own_location(*recorded, id)) location = std::move(recorded);
    }
  const auto where = TRY(std::move(location));
  if (auto group = cgroup::Group::open(where)) TRY(group->kill_all(std::chrono::seconds(10)));
  TRY(cgroup::Group::remove(where, std::chrono::seconds(5)));
  if (const auto store_dir = open_container(roots, id)) remove_writable_layers(store_dir->get());
  return remove_run_dir(roots.run_containers.get(), id);
}

Result<Supervised> ensure_supervisor(const Roots& roots, const std::string& id,
                                     const std::function<Result<void>(int store_dir_fd)>& before_start,
                                     const Greeting& greet, Starter starter) {
  Patience patience(roots, id);
  for (;;) {
    auto lock = TRY(lock_container(roots, id));
    const Container container = TRY(read_container(lock.fd(), id));
    Supervised supervised;
    supervised.alive = TRY(open_alive(lock.fd()));
    const bool alive = is_alive(lock.fd());
    if (const auto left = alive ? Result<Status>(Error(Code::not_found, "")) : status_of(roots, id);
        left && is_abandoned(*left) && left->step != Step::stopped && !left->stop_wanted) {
      // It may be running still: adopted, not started anew.
      const UniqueFd run_dir = TRY(open_run_dir(roots, id));
      TRY(revive_guard(roots, container, run_dir.get()));
    } else if (!alive) {
      TRY(before_start(lock.fd()));
      auto socket = start_supervisor(roots, container, lock.fd(), greet, starter);
      if (!socket) {
        if (!is_alive(lock.fd())) (void)clean_leftovers(roots, id);
        return std::move(socket).error();
      }
      supervised.socket = std::move(*socket);
      supervised.store_dir = std::move(lock).release();
      // Order: the lock goes now. A launch can take long, and `rm -f` must be able to end it.
      ::flock(supervised.store_dir.get(), LOCK_UN);
      return supervised;
    }
    const auto run_dir = open_run_dir(roots, id);
    const auto status = run_dir ? read_status(run_dir->get()) : Result<Status>(Error(Code::not_found, ""));
    // One that is at its end is waited for, then there will be a new one.
    if (status && status->step != Step::stopped && !status->is_being_stopped()) {
      TRY(before_start(lock.fd()));
      auto socket = connect_control(run_dir->get());
      auto greeted = socket ? greet(socket->get()) : Result<void>(socket.error());
      if (greeted) {
        supervised.socket = std::move(*socket);
        supervised.store_dir = std::move(lock).release();
        ::flock(supervised.store_dir.get(), LOCK_UN);
        return supervised;
      }
      if (!is_transient(greeted.error())) return std::move(greeted).error();
    }
    TRY(patience.check());
    pause_ms(5);
  }
}

Result<void> check_passed_output(int store_dir_fd, const std::string& id) {
  const Container container = TRY(read_container(store_dir_fd, id));
  if (container.log_driver != "passthrough" || (::isatty(1) == 0 && ::isatty(2) == 0)) return {};
  return Error::make(Code::invalid_config,
                     "--log-driver passthrough: the output is a terminal, which would take orders from the container; "
                     "redirect it, or leave the option away");
}

bool remove_orphan(const Roots& roots, const std::string& id) {
  auto dir = open_container(roots, id);
  if (!dir) return false;
  const auto container = read_container(dir->get(), id);
  if (!container || !container->remove_at_end || !container->starter) return false;
  // Order: the starter first. Once it is gone nobody makes a guard without the lock any more.
  if (sys::open_identified(*container->starter)) return false;
  const auto lock = fs::Lock::try_take(std::move(*dir), fs::Lock::Mode::exclusive, id);
  if (!lock || is_alive(lock->fd())) return false;
  if (const auto left = status_of(roots, id); left ? is_abandoned(*left) : left.error().code() != Code::not_found)
    return false;
  return clean_leftovers(roots, id) && remove_store_dir(roots.store_containers.get(), roots.names.get(), id,
                                                        container->name, [&] { tell_destroyed(roots, id, container); });
}

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

namespace {

Error not_running(const std::string& id) {
  return Error::make(Code::busy, "container ", id.substr(0, 12), " is not running");
}

// The verbs that need a running container.
Result<void> steer(const Roots& roots, const std::string& id, const oci::Json& request, Patience& patience) {
  auto done = ask_supervisor(roots, id, request, patience);
  if (!done && done.error().code() == Code::not_found && done.error().text() == "no supervisor") return not_running(id);
  return done;
}

Result<void> steer(const Roots& roots, const std::string& id, const oci::Json& request) {
  const UniqueFd exists = TRY(open_container(roots, id));
  Patience patience(roots, id);
  return steer(roots, id, request, patience);
}

}  // namespace
}  // namespace supervise

using namespace supervise;

Result<void> Engine::start(const std::string& id) {
  Patience patience(impl_->roots, id);
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
  Patience patience(impl_->roots, id, limits);
  const bool for_good = kind == StopKind::for_good;
  auto done = ask_supervisor(impl_->roots, id, {{"op", "stop"}, {"timeout_ns", timeout_ns}, {"keep_wish", !for_good}},
                             patience);
  if (!done && done.error().code() == Code::not_found) {
    // Nobody supervises it. Should something of it still run, its end is what was asked for.
    const auto lock = lock_container(impl_->roots, id);
    if (!lock) return {};
    if (is_alive(lock->fd())) return Error::make(Code::busy, "it is being started by another command");
    const auto container = read_container(lock->fd(), id);
    if (for_good) (void)record_wish(lock->fd(), false, container && container->durable);
    return clean_leftovers(impl_->roots, id);
  }
  TRY(std::move(done));
  return await_no_supervisor(alive.get(), patience);
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
    Patience patience(impl_->roots, id);
    TRY(steer(impl_->roots, id, {{"op", "stop"}, {"timeout_ns", 0}}, patience));
    return await_no_supervisor(alive.get(), patience);
  }
  return steer(impl_->roots, id, {{"op", "kill"}, {"signal", signal}});
}

Result<void> Engine::pause(const std::string& id) { return steer(impl_->roots, id, {{"op", "pause"}}); }
Result<void> Engine::unpause(const std::string& id) { return steer(impl_->roots, id, {{"op", "unpause"}}); }

namespace {

Result<int> status_of_end(const LastExit& last) {
  if (last.known) return last.status;
  return Error::make(Code::not_found,
                     "nobody saw how it ended: its guard and its supervisor died together, or the machine went down");
}

// How the last run ended, when nobody is there to be asked; nothing when somebody is again. A status is never made up.
Result<std::optional<int>> recorded_end(const Roots& roots, const std::string& id, int store_dir) {
  const auto told = [store_dir]() -> std::optional<LastExit> {
    const auto record = read_run_record(store_dir);
    if (!record || !record->final || record->order < read_wish(store_dir).order) return std::nullopt;
    return record->last;
  };
  if (const auto last = told()) return std::optional(TRY(status_of_end(*last)));
  // Order: with the lock. A start that is under way has it, and a removal.
  const auto lock = lock_container(roots, id);
  if (!lock && lock.error().code() == Code::not_found)
    return Error::make(Code::not_found, "it was removed (rm, or run --rm) before it could be asked how it ended");
  if (!lock) return lock.error();
  if (is_alive(lock->fd())) return std::optional<int>{};
  if (const auto last = told()) return std::optional(TRY(status_of_end(*last)));
  if (read_wish(lock->fd()).order == 0)
    return Error::make(Code::busy, "it was never started, so there is no end to wait for; skink start starts it");
  return std::optional(TRY(status_of_end(unknown_exit())));
}

}  // namespace

Result<int> Engine::wait(const std::string& id) {
  const UniqueFd store_dir = TRY(open_container(impl_->roots, id));
  const UniqueFd alive = TRY(open_alive(store_dir.get()));
  for (;;) {
    Patience patience(impl_->roots, id);
    const auto socket = connect_supervisor(impl_->roots, id, patience);
    if (!socket && socket.error().code() != Code::not_found) return socket.error();
    if (!socket) {
      if (const auto status = TRY(recorded_end(impl_->roots, id, store_dir.get()))) return *status;
      continue;
    }
    if (!send_message(socket->get(), {{"op", "wait"}})) continue;
    const auto message = await_message(socket->get(), 0);
    if (!message) continue;  // killed: its successor knows
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
  if (const auto where = plan_groups(id); where && !status_of(roots, id))
    if (auto group = cgroup::Group::open(*where)) (void)group->kill_all(std::chrono::seconds(10));
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

// A hook that hangs goes with the container's process that it is run for, and its supervisor goes on to what it was
// asked (launch::run_hooks).
bool end_launch(const Roots& roots, const std::string& id, int alive_fd) {
  const auto status = status_of(roots, id);
  if (!status || status->step != Step::launching) return false;
  if (const auto init = sys::open_identified(status->init)) (void)sys::signal_pidfd(init->get(), SIGKILL);
  Patience patience(roots, id, {.quiet_ns = 2 * kSecond, .stopped_ns = 2 * kSecond, .launch_may_last = false});
  return await_no_supervisor(alive_fd, patience).has_value();
}

// What a removal has to do about a supervisor that lives.
Result<void> end_supervisor(const Roots& roots, const std::string& id, const fs::Lock& lock, bool force) {
  const int store_dir = lock.fd();
  const UniqueFd alive = TRY(open_alive(store_dir));
  // By force there is another way, so less is waited for.
  Patience patience(
      roots, id,
      force ? Patience::Limits{.quiet_ns = 10 * kSecond, .stopped_ns = 2 * kSecond, .launch_may_last = false}
            : Patience::Limits{});
  if (!force) {
    const auto run_dir = open_run_dir(roots, id);
    const auto status = run_dir ? read_status(run_dir->get()) : Result<Status>(Error(Code::not_found, ""));
    if (status && status->step != Step::stopped)
      return Error::make(Code::busy, "container ", id.substr(0, 12), " is running; stop it first or use rm -f");
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
    return Error::make(Code::busy, "container ", id.substr(0, 12), " is running; stop it first or use rm -f");
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
