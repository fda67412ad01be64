// SPDX-License-Identifier: Apache-2.0
// A container's keepers, guard and supervisor: found, started, and given back to a container that lost them.
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
  // Of one that is on disk already; else that follows (settle).
  TRY(record_wish(store_dir, true, container.durable && !is_passing(store_dir)));
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

namespace {

Error locked_error(const Roots& roots, const std::string& id, std::int64_t waited_ns) {
  const auto directory = sys::stat_at(roots.store_containers.get(), id.c_str(), AT_SYMLINK_NOFOLLOW);
  const auto holders = directory ? fs::lock_holders(*directory) : std::vector<pid_t>();
  const std::string who = holders.empty() ? "another command" : str("process ", holders[0]);
  return Error::make(Code::busy, who, " has been at work on it for ", waited_ns / kSecond,
                     " s and lets nobody else: end it, and try again");
}

}  // namespace

Result<fs::Lock> lock_container(const Roots& roots, const std::string& id, std::int64_t patience_ns) {
  for (int attempt = 0; attempt < 16; ++attempt) {
    auto taken = fs::Lock::take_within(patience_ns, TRY(open_container(roots, id)), fs::Lock::Mode::exclusive, id);
    if (!taken && taken.error().code() == Code::busy) return locked_error(roots, id, patience_ns);
    fs::Lock lock = TRY(std::move(taken));
    // What was locked may have been removed while we waited for it (fault F12).
    const auto ours = TRY(sys::stat_fd(lock.fd(), id));
    const auto there = sys::stat_at(roots.store_containers.get(), id.c_str(), AT_SYMLINK_NOFOLLOW);
    if (there && there->st_ino == ours.st_ino && there->st_dev == ours.st_dev) return lock;
  }
  return Error::make(Code::not_found, "no such container: ", skink::quoted(id));
}

Result<Status> status_of(const Roots& roots, const std::string& id) {
  const UniqueFd run_dir = TRY(open_run_dir(roots, id));
  return read_status(run_dir.get());
}

namespace {

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

namespace {

// What whoever reads of such an end wants to know next.
constexpr std::string_view kUnseenOutcome = "left to skink heal, or to whoever starts it";

// The machine went down under it, or its run directory is gone. When it was, and when that run began, nobody knows.
PastRun cut_off_run(const RunRecord& before, std::uint64_t order) {
  const bool is_same = before.order == order && !before.history.empty();
  PastRun run{is_same ? before.history.back().incarnation + 1 : 1, 0, unknown_exit(), std::string(kUnseenOutcome)};
  run.exit.at_ns = 0;
  return run;
}

}  // namespace

Result<void> record_unseen_end(const Roots& roots, const std::string& id) {
  const auto status = status_of(roots, id);
  if (!status && status.error().code() != Code::not_found) return {};
  const UniqueFd store_dir = TRY(open_container(roots, id));
  const auto container = read_container(store_dir.get(), id);
  if (!container || container->remove_at_end) return {};
  const RunRecord before = read_run_record(store_dir.get()).value_or(RunRecord{});
  RunRecord record = before;
  record.final = true;
  record.given_up.clear();
  std::optional<PastRun> run;
  if (status) {
    if (before.final && before.order == status->order) return {};
    const bool ran = status->step == Step::running;
    if (status->started_ns == 0 || (!ran && status->step != Step::waiting)) return {};
    if (ran) run = PastRun{status->incarnation, status->started_ns, unknown_exit(), std::string(kUnseenOutcome)};
    record.order = status->order;
    record.last = run ? run->exit : status->last_exit.value_or(unknown_exit());
    record.started_ns = status->started_ns;
    record.finished_ns = run ? 0 : status->finished_ns;
    record.restarts = status->restarts;
  } else {
    if (!was_cut_off(store_dir.get())) return {};
    record.order = read_wish(store_dir.get()).order;
    run = cut_off_run(before, record.order);
    record.last = run->exit;
    record.finished_ns = 0;
    // What that tells is of an order before this one.
    if (before.order < record.order) record.started_ns = 0;
    if (before.order < record.order) record.restarts = 0;
  }
  if (run) {
    Event event = event_of(*container, "die", exit_attributes(run->exit));
    if (status) event.run = str(status->order, '.', status->incarnation);
    append_event(roots.run.get(), std::move(event));
    add_past_run(record.history, *std::move(run));
  }
  return fs::write_file_atomic(store_dir.get(), kExitFile, dump(record), 0600,
                               container->durable ? fs::Durability::durable : fs::Durability::volatile_state);
}

Result<void> clean_leftovers(const Roots& roots, const std::string& id) {
  (void)record_unseen_end(roots, id);
  const auto run_dir = open_run_dir(roots, id);
  if (run_dir) {
    // Both processes that would have ended it are gone: nobody but us is left to do it.
    if (const auto status = read_status(run_dir->get()))
      if (const auto init = sys::open_identified(status->init)) (void)sys::signal_pidfd(init->get(), SIGKILL);
  } else if (run_dir.error().code() != Code::not_found) {
    return run_dir.error();
  }
  std::vector<cgroup::Location> places;
  if (run_dir)
    if (const auto text = fs::read_file(run_dir->get(), kCgroupFile, kRecordLimit)) {
      // Only its own groups, whatever the file says by now (attack A36).
      auto recorded = cgroup::parse_location(*text);
      if (recorded && is_own_location(*recorded, id)) places.push_back(*std::move(recorded));
    }
  if (places.empty()) places = TRY(possible_groups(id));
  for (const auto& where : places) {
    if (auto group = cgroup::Group::open(where)) TRY(group->kill_all(std::chrono::seconds(10)));
    TRY(cgroup::Group::remove(where, std::chrono::seconds(5)));
  }
  if (const auto store_dir = open_container(roots, id)) remove_writable_layers(store_dir->get());
  return remove_run_dir(roots.run_containers.get(), id);
}

namespace {

// While the supervisor launches it. What cannot be kept must not run either: nobody would know of it after a reboot.
Result<void> settle_beside(const Roots& roots, const Container& container, int store_dir, Patience& patience) {
  auto settled = settle(roots, store_dir);
  if (!settled) (void)ask_supervisor(roots, container.id, {{"op", "stop"}, {"timeout_ns", 0}}, patience);
  return settled;
}

}  // namespace

Result<Supervised> ensure_supervisor(const Roots& roots, const std::string& id,
                                     const std::function<Result<void>(int store_dir_fd)>& before_start,
                                     const Greeting& greet, Starter starter) {
  Patience patience(roots, id, Patience::Limits::of_start());
  for (;;) {
    auto lock = TRY(lock_container(roots, id));
    const Container container = TRY(read_container(lock.fd(), id));
    Supervised supervised;
    supervised.alive = TRY(open_alive(lock.fd()));
    const bool alive = is_alive(lock.fd());
    if (const auto left = alive ? Result<Status>(Error(Code::not_found, "")) : status_of(roots, id);
        left && is_abandoned(*left) && left->step != Step::stopped && !left->is_being_stopped()) {
      // It may be running still: adopted, not started anew.
      const UniqueFd run_dir = TRY(open_run_dir(roots, id));
      TRY(revive_guard(roots, container, run_dir.get()));
    } else if (!alive) {
      TRY(before_start(lock.fd()));
      // Order: before the wish, which another command that settles it may miss.
      const bool unsettled = container.durable && is_passing(lock.fd());
      auto socket = start_supervisor(roots, container, lock.fd(), greet, starter);
      if (!socket) {
        if (!is_alive(lock.fd())) (void)clean_leftovers(roots, id);
        return std::move(socket).error();
      }
      supervised.socket = std::move(*socket);
      supervised.store_dir = std::move(lock).release();
      // Order: the lock goes now. A launch can take long, and `rm -f` must be able to end it.
      ::flock(supervised.store_dir.get(), LOCK_UN);
      if (unsettled) TRY(settle_beside(roots, container, supervised.store_dir.get(), patience));
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
        if (container.durable && is_passing(supervised.store_dir.get()))
          TRY(settle_beside(roots, container, supervised.store_dir.get(), patience));
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

}  // namespace supervise
}  // namespace skink
