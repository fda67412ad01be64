// SPDX-License-Identifier: Apache-2.0
#include "supervise/supervisor.h"

#include <fcntl.h>
#include <linux/close_range.h>
#include <linux/sched.h>
#include <sched.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <csignal>
#include <utility>

#include "base/text.h"
#include "fs/dir.h"
#include "supervise/diet.h"
#include "supervise/exits.h"
#include "supervise/own_filter.h"
#include "supervise/scope.h"
#include "sys/file.h"

namespace skink::supervise {
namespace {

constexpr const char* kSeccompCache = "seccomp-cache";

// The kernel's OOM killer should take the workload first (attack A91). Not -1000, by which a group that is full of its
// keepers alone would stand still. Without CAP_SYS_RESOURCE the kernel allows what somebody with it had set before, and
// nothing lower; it does not say what that is. Returns what the container has to get back.
std::optional<int> lower_oom_score() {
  constexpr int kLowest = -999;
  constexpr const char* kFile = "/proc/self/oom_score_adj";
  const auto file = sys::open_at(AT_FDCWD, kFile, O_RDWR);
  if (!file) return std::nullopt;
  const auto text = sys::read_all(file->get(), 64, kFile);
  if (!text) return std::nullopt;
  const auto now = parse_int<int>(std::string_view(*text).substr(0, text->find('\n')));
  if (!now) return std::nullopt;
  const auto set = [&](int score) { return sys::write_all(file->get(), std::to_string(score), kFile).has_value(); };
  if (*now <= kLowest) return std::nullopt;
  if (set(kLowest)) return now;
  int refused = kLowest, allowed = *now;
  while (allowed - refused > 1) {
    const int middle = refused + (allowed - refused) / 2;
    (set(middle) ? allowed : refused) = middle;
  }
  return allowed < *now ? now : std::nullopt;
}

// Turns on a processor as short as the kernel grants them (EEVDF, Linux 6.12), for which they come soon: workers of the
// kernel that take a dead container apart, and the guard, want one at the very moment of a relaunch. It is no more of
// the processor, needs no privilege, and what we start has it not. Somebody's own choice for us is let be, as that
// would not go on to the container then. sched_setattr(2); older kernels heed nothing of it.
void prefer_short_turns() {
  struct {
    std::uint32_t size, policy;
    std::uint64_t flags;
    std::int32_t nice;
    std::uint32_t priority;
    std::uint64_t runtime, deadline, period;
  } attributes{};
  constexpr std::uint64_t kShortestNs = 100'000;
  attributes.size = sizeof attributes;
  errno = 0;
  attributes.nice = ::getpriority(PRIO_PROCESS, 0);
  if (errno != 0 || attributes.nice < 0 || ::sched_getscheduler(0) != SCHED_OTHER) return;
  attributes.flags = SCHED_FLAG_RESET_ON_FORK;
  attributes.runtime = kShortestNs;
  (void)::syscall(SYS_sched_setattr, 0, &attributes, 0);
}

// As docker's driver names them, but for the identifier, which people read before each line: the name.
JournalFields journal_fields(const Container& container) {
  const std::string& image = container.bundle.empty() ? container.image : container.bundle;
  return {{"CONTAINER_ID", container.id.substr(0, 12)},
          {"CONTAINER_ID_FULL", container.id},
          {"CONTAINER_NAME", container.name},
          {"CONTAINER_TAG", container.name},
          {"IMAGE_NAME", image},
          {"SYSLOG_IDENTIFIER", container.name}};
}

}  // namespace

// A hook that fails in each run of a crash loop must not fill RUN.
void Supervisor::trim_complaints() {
  struct stat status {};
  if (::fstat(kFdComplaints, &status) != 0 || status.st_size < kMostComplaints) return;
  // Our own descriptor only writes.
  std::string kept(kMostComplaints / 2, '\0');
  const auto file = sys::open_at(kFdRunDir, kComplaintsFile, O_RDONLY | O_NOFOLLOW);
  const auto from = status.st_size - static_cast<off_t>(kept.size());
  const ssize_t got = file ? ::pread(file->get(), kept.data(), kept.size(), from) : 0;
  kept.resize(got > 0 ? static_cast<std::size_t>(got) : 0);
  kept.erase(0, kept.find('\n') + 1);  // the first line is cut
  if (::ftruncate(kFdComplaints, 0) == 0) (void)!::write(kFdComplaints, kept.data(), kept.size());
}

// To a file beside status.json, for whoever looks into a failure later.
void Supervisor::complain(const Error& error) {
  trim_complaints();
  const std::string line = str("skink: supervisor: ", printable(error.text()), "\n");
  (void)!::write(kFdComplaints, line.data(), line.size());
}

int Supervisor::run(pid_t guard_pid) {
  // The guard's descriptors were made to be inherited by us, and by nobody after us.
  ::syscall(SYS_close_range, 3U, ~0U, CLOSE_RANGE_CLOEXEC);
  Supervisor self;
  if (auto ready = self.set_up(guard_pid); !ready) {
    complain(ready.error());
    // Damaged files do not heal by trying again.
    return ready.error().code() == Code::corrupt || ready.error().code() == Code::invalid_config ? kSupervisorHopeless
                                                                                                 : 1;
  }
  if (auto done = self.loop(); !done) {
    complain(done.error());
    return 1;
  }
  return self.exit_code_;
}

Result<void> Supervisor::set_up(pid_t guard_pid) {
  ::umask(077);
  ::prctl(PR_SET_NAME, "skink-supervise");  // executed by descriptor, its name would be a number
  keep_heap_small();
  prefer_short_turns();
  watches_ = TRY(Watches::make());
  null_ = TRY(sys::open_at(AT_FDCWD, "/dev/null", O_RDWR));

  const auto text = fs::read_file(kFdStoreDir, kContainerFile, kRecordLimit);
  if (!text && text.error().errnum() == ENOENT && !sys::is_there(kFdRunDir, kCgroupFile)) {
    exit_code_ = kSupervisorDone;  // killed in its very last steps, a predecessor had left nothing to do
    return {};
  }
  container_ = TRY_CTX(parse_container(TRY(text)), std::string_view(kContainerFile));
  spec_ = TRY(read_spec(kFdStoreDir, container_));
  // There no node can be made, so there is nothing to be denied, and no rules can be loaded.
  if (spec_.linux.resources && sys::in_user_namespace()) spec_.linux.resources->devices.clear();
  (void)give_up_calls(own_filter(spec_));
  const auto place = fs::read_file(kFdRunDir, kCgroupFile, kRecordLimit);
  const auto before = read_status(kFdRunDir);
  if ((!place && place.error().errnum() == ENOENT) || (!before && before.error().code() == Code::not_found))
    return finish_removal();
  location_ = TRY_CTX(cgroup::parse_location(TRY(place)), std::string_view(kCgroupFile));
  if (const auto score = lower_oom_score(); score && spec_.process && !spec_.process->oom_score_adj)
    spec_.process->oom_score_adj = score;

  spool_ = TRY(Spool::open(kFdStoreDir));
  // Order: what a predecessor was writing is looked for before anything is given back.
  open_cri_log();
  open_logs();
  if (container_.log_driver == "journald")
    journal_ = TRY(JournalForwarder::open(kFdStoreDir, journal_fields(container_)));
  if (auto cache = sys::open_at(kFdStoreRoot, kSeccompCache, O_RDONLY | O_DIRECTORY | O_NOFOLLOW))
    seccomp_cache_ = std::move(*cache);

  status_ = TRY(before);
  if (auto record = read_run_record(kFdStoreDir)) {
    history_ = std::move(record->history);
    // Who was killed between the two had not counted what is told there yet.
    if (record->order == status_.order) status_.restarts = std::max(status_.restarts, record->restarts);
  }
  restarts_told_ = status_.restarts;
  status_.supervisor = TRY(sys::identify(::getpid()));
  TRY(watch_termination());
  TRY(watch(kFdListener, Source::listener, EPOLLIN));
  TRY(watch(kFdExitEvent, Source::exit_event, EPOLLIN));
  if (container_.is_piped()) {
    TRY(watch(kFdOutRead, Source::out, EPOLLIN));
    TRY(watch(kFdErrRead, Source::err, EPOLLIN));
  }
  auto guard = sys::open_pidfd(guard_pid);
  // Order: only what says that it is dead is taken for its death. A new guard's supervisor would see the same.
  if (!guard && guard.error().errnum() != ESRCH) return std::move(guard).error();
  if (!guard || ::getppid() != guard_pid) {
    // It died before we could hold it: what we are about to be, the next guard's supervisor will be.
    guard_died();
    return {};
  }
  guard_pidfd_ = std::move(*guard);
  TRY(watch(guard_pidfd_.get(), Source::guard, EPOLLIN));
  status_.guard = TRY(sys::identify(guard_pid));
  TRY(adopt(*before));
  if (before->supervisor.pid != 0 && was_told_to_guard()) obey_termination();
  return {};
}

// The guard leaves every signal blocked; by these systemd, or whoever shuts the host down, asks us to end.
Result<void> Supervisor::watch_termination() {
  sigset_t signals;
  sigemptyset(&signals);
  sigaddset(&signals, SIGTERM);
  sigaddset(&signals, kScopeStopSignal);
  termination_ = UniqueFd(::signalfd(-1, &signals, SFD_CLOEXEC | SFD_NONBLOCK));
  if (!termination_) return Error::from_errno(errno, "signalfd");
  return watch(termination_.get(), Source::signal, EPOLLIN);
}

Result<void> Supervisor::watch(int fd, Source source, std::uint32_t events) {
  return watches_.add(fd, static_cast<std::uint32_t>(source), events);
}

// Order: forgotten first. What the guard keeps for a successor, or a helper still has, would go on telling its event.
void Supervisor::close_watched(UniqueFd& fd) {
  watches_.forget(fd.get());
  fd.reset();
}

Result<void> Supervisor::loop() {
  while (exit_code_ < 0) {
    if (std::exchange(shed_, false)) {
      packed_calls_.pack(spec_, container_.default_seccomp);
      shed_memory();
    }
    TRY(watches_.wait(timeout_ms()));
    while (exit_code_ < 0) {
      const auto event = watches_.next();
      if (!event) break;
      handle(*event);
    }
    if (exit_code_ < 0) TRY(run_timers());
  }
  return {};
}

void Supervisor::handle(const Watches::Event& event) {
  const int fd = event.fd;
  switch (static_cast<Source>(event.kind)) {
    case Source::listener: accept_clients(); break;
    case Source::exit_event: {
      std::uint64_t count = 0;
      (void)!::read(kFdExitEvent, &count, sizeof count);
      check_init();
      if (exit_code_ < 0) check_execs();
      if (exit_code_ < 0) trim_exits();
      break;
    }
    case Source::guard: guard_died(); break;
    case Source::init:
      init_gone_ = true;
      init_gone_ns_ = fs::monotonic_ns();
      // Level-triggered, and the record may take a moment: the eventfd or the timer brings us back.
      watches_.forget(fd);
      check_init();
      break;
    case Source::out: pump(Stream::out, fd); break;
    case Source::err: pump(Stream::err, fd); break;
    case Source::terminal: {
      if (cri_ && cri_->is_behind(spool_->ends())) {
        output_came();
        break;
      }
      const auto moved = spool_->pump(Stream::out, fd, false);
      output_came();
      // Nobody has the terminal open any more.
      if ((!moved || *moved == 0) && (event.events & EPOLLHUP) != 0) watches_.forget(fd);
      break;
    }
    case Source::client: serve(fd); break;
    case Source::signal: check_termination(); break;
    case Source::standby: standby_ended(); break;
    case Source::probe: probe_event(fd); break;
    case Source::notify: notices_came(); break;
    case Source::helper: helper_event(fd); break;
    case Source::memory: memory_ran_out(); break;
    case Source::exec:
      watches_.forget(fd);
      for (auto& [pid, exec] : execs_)
        if (exec.pidfd.get() == fd) exec.ended_ns = fs::monotonic_ns();
      check_execs();
      break;
  }
}

int Supervisor::timeout_ms() const {
  std::int64_t next = 0;
  const auto consider = [&next](std::int64_t at) {
    if (at != 0 && (next == 0 || at < next)) next = at;
  };
  if (status_.step == Step::waiting) consider(status_.next_try_mono_ns);
  if (status_.step == Step::running) consider(status_.kill_at_ns);
  if (status_.step == Step::running && !status_.paused && !status_.stop_wanted) consider(standby_at_ns_);
  if (status_.step == Step::running && !status_.paused && !status_.is_being_stopped())
    for (const auto& probe : probes_) consider(probe.deadline_ns != 0 ? probe.deadline_ns : probe.next_ns);
  if (memory_again_ns_ != 0) consider(memory_again_ns_);
  if (notices_again_ns_ > 0) consider(notices_again_ns_);
  if (health_again_ns_ != 0) consider(health_again_ns_);
  if (status_.step == Step::running && !status_.paused && !status_.is_being_stopped()) consider(watchdog_at());
  if (first_failure_ || end_untold_) consider(clients_.empty() ? 1 : untold_until_ns_);
  if (journal_) consider(journal_->again_at_ns());
  if (cri_) consider(cri_->again_at_ns());
  if (pack_again_ns_ != 0) consider(pack_again_ns_);
  if (keep_until_ns_ != 0) consider(keep_until_ns_);
  if (init_gone_ ||
      std::any_of(execs_.begin(), execs_.end(), [](const auto& exec) { return exec.second.ended_ns != 0; }))
    consider(fs::monotonic_ns() + 100'000'000);
  if (next == 0) return -1;
  const std::int64_t left = next - fs::monotonic_ns();
  return left <= 0 ? 0 : static_cast<int>(std::min<std::int64_t>(left / 1'000'000 + 1, 3'600'000));
}

Result<void> Supervisor::run_timers() {
  const std::int64_t now = fs::monotonic_ns();
  if ((first_failure_ || end_untold_) && (clients_.empty() || now >= untold_until_ns_)) exit_code_ = kSupervisorDone;
  if ((journal_ && journal_->again_at_ns() != 0) || (cri_ && cri_->again_at_ns() != 0)) follow_logs();
  check_logs(now);
  if (exit_code_ < 0 && init_gone_) check_init();
  if (exit_code_ < 0) check_execs();
  if (exit_code_ < 0 && status_.step == Step::running && status_.kill_at_ns != 0 && now >= status_.kill_at_ns) {
    // It did not end in time. Once is enough: the kernel does not forget a SIGKILL.
    status_.kill_at_ns = 0;
    if (group_) (void)group_->thaw();
    if (signal_init(9)) tell_signalled(9);
    note_sender(SIGKILL, "sent by skink (kill, or stop when its time was over)");
    // Who has a standby has a pid namespace: with its first process all of that end.
    if (group_ && !standby_pidfd_) (void)group_->kill_all(std::chrono::milliseconds(0));
    save();
  }
  if (exit_code_ < 0 && status_.step == Step::running && !status_.paused) check_probes(now);
  if (exit_code_ < 0) check_notices(now);
  if (exit_code_ < 0 && memory_again_ns_ != 0 && now >= memory_again_ns_) look_for_oom_kills();
  if (exit_code_ < 0 && status_.step == Step::running && !status_.paused && !status_.stop_wanted &&
      standby_at_ns_ != 0 && now >= standby_at_ns_)
    prepare_standby();
  if (exit_code_ < 0 && status_.step == Step::waiting && now >= status_.next_try_mono_ns) return begin();
  return {};
}

void Supervisor::save() {
  tell_untold();
  // Order: no relaunch is counted here before exit.json tells of the run that it follows.
  const std::uint64_t restarts = std::exchange(status_.restarts, restarts_told_);
  // A full disk must not end the container: the older text stays, and the next transition tries again (fault F13).
  if (auto written = write_status(kFdRunDir, status_); !written) complain(written.error());
  status_.restarts = restarts;
}

Result<std::optional<ExitRecord>> Supervisor::find_record(pid_t pid, std::int64_t from) const {
  return find_exit(kFdExits, pid, from);
}

// Of one that was made while there was no guard to be had: it is our own child, and nobody else's to reap.
std::optional<ExitRecord> Supervisor::reap_own(pid_t pid, const UniqueFd& pidfd) const {
  sys::ExitStatus ended;
  if (guard_pidfd_ || !pidfd || !sys::wait_pidfd(pidfd.get(), ended, false).value_or(false)) return std::nullopt;
  return ExitRecord{pid, ended.code, ended.status, kExitMagic, fs::now_ns(), fs::monotonic_ns()};
}

// How a process that is over ended; nothing while its record is still to come, however slow the guard is.
std::optional<LastExit> Supervisor::end_of(const sys::ProcessIdentity& process, const UniqueFd& pidfd,
                                           std::int64_t from, std::int64_t ended_ns) const {
  constexpr std::int64_t kMostAwaitedNs = 1'000'000'000;
  // Order: looked at before the record. The guard writes before it reaps, so without both there never will be one.
  const auto zombie = read_zombie(process);
  if (const auto record = find_record(process.pid, from); record && *record) return last_exit_of(**record);
  // Not our guard's child, or the guard was killed between its end and its record.
  if (pidfd)
    if (const auto told = ask_kernel(pidfd.get(), process.pid)) return note_end(*told);
  if (!zombie) return unknown_exit();
  // With a standby there is nothing else to wait for, and the guard may be behind a worker of the kernel that takes the
  // dead one's namespaces apart: for a tick, or three. Its own record of the same comes later and does no harm.
  if (standby_pidfd_ && process.pid == status_.init.pid && zombie->is_shown && pidfd && shows_group_status(pidfd.get()))
    return note_end(zombie->record);
  // The host's init reaps it whenever it gets to that and writes nothing; a guard that is stopped may never.
  const bool may_come = !status_.orphaned && fs::monotonic_ns() - ended_ns < kMostAwaitedNs;
  if (may_come) return std::nullopt;
  return zombie->is_shown ? note_end(zombie->record) : unknown_exit();
}

// Nobody can learn that once more: a client may ask later, and a successor of ours.
LastExit Supervisor::note_end(const ExitRecord& record) {
  add_exit(kFdExits, record);
  return last_exit_of(record);
}

}  // namespace skink::supervise
