// SPDX-License-Identifier: Apache-2.0
// One incarnation, from its launch to its end.
#include <fcntl.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <ctime>
#include <limits>
#include <utility>

#include "cgroup/sample.h"
#include "fs/dir.h"
#include "image/layout.h"
#include "launch/hooks.h"
#include "launch/launch.h"
#include "supervise/exits.h"
#include "supervise/overlay.h"
#include "supervise/policy.h"
#include "supervise/removal.h"
#include "supervise/rootfs.h"
#include "supervise/scope.h"
#include "supervise/standby.h"
#include "supervise/supervisor.h"
#include "sys/file.h"
#include "sys/mount.h"

namespace skink::supervise {
namespace {

constexpr std::chrono::milliseconds kPatience{5000};
constexpr std::int64_t kMostExits = 64 << 10;
constexpr std::int64_t kJournalPatienceNs = 1'000'000'000;

// What hooks and the runtime have moved into a network namespace is back on the host, or gone, only when that is
// undone, and the next run may want to make or move the same.
bool may_hold_network(const oci::Spec& spec) {
  const auto& hooks = spec.hooks;
  return spec.linux.net_devices.empty() && hooks.prestart.empty() && hooks.create_runtime.empty() &&
         hooks.create_container.empty() && hooks.start_container.empty() && hooks.poststart.empty();
}

}  // namespace

// Hooks of a bundle for which there is nobody else: what fails is written down and changes nothing (runtime.md).
void Supervisor::run_hooks(const std::vector<oci::Hook>& hooks, std::string_view kind, std::string_view state) {
  const launch::HookState document{.id = container_.id,
                                   .status = std::string(state),
                                   .bundle = container_.bundle,
                                   .pid = state == "running" ? status_.init.pid : 0,
                                   .annotations = &spec_.annotations};
  for (const auto& hook : hooks)
    if (auto ran = launch::run_hooks({hook}, kind, document); !ran) complain(ran.error());
}

// Of a launch that has failed: what is left of it.
void Supervisor::undo_launch() {
  close_watched(init_pidfd_);
  close_watched(terminal_);
  let_namespaces_go();
  clear_group();
}

// Launches; once more where a process was killed that did nothing wrong: in a group that was struck, by a predecessor
// of ours or from outside (Group::was_struck), or where somebody has removed the group, or one hierarchy's part of it,
// which had no process yet.
Result<void> Supervisor::launch_or_again() {
  auto launched = use_standby() ? Result<void>{} : launch();
  if (launched || guard_is_gone()) return launched;
  const bool struck = launch::was_killed(launched.error()) && !group_is_new_;
  if (!struck && cgroup::is_whole(location_)) return launched;
  undo_launch();
  TRY(drop_group());
  return launch();
}

// The process that is being made dies with its parent, the guard. That is no failure of the container: whoever comes
// with the next guard, or we without one, make the same incarnation again.
Result<void> Supervisor::begin_again() {
  undo_launch();
  if (relaunched_after_) {
    (void)write_exit(*std::exchange(relaunched_after_, std::nullopt), false);
    save();
  }
  guard_died();
  if (exit_code_ >= 0) return {};
  --status_.incarnation;
  return begin();
}

// A failure of the very first launch is for whoever gave the order; later ones are the policy's, and all of what was
// brought back: it ran before, and what it lacks may be there in a moment.
Result<void> Supervisor::begin() {
  status_.step = Step::launching;
  status_.incarnation++;
  status_.sender.clear();
  status_.sent_signal = 0;
  status_.probe_failure.clear();
  status_.init = {};
  status_.next_try_ns = status_.next_try_mono_ns = 0;
  auto launched = launch_or_again();
  if (launched) {
    started();
    run_hooks(spec_.hooks.poststart, "poststart", "running");
    return {};
  }
  if (guard_is_gone()) return begin_again();
  undo_launch();
  tell_failed(launched.error());
  if (status_.incarnation == 1 && !status_.by_heal) {
    first_launch_failed(launched.error());
    return {};
  }
  LastExit last;
  last.status = launch::exit_status_of(launched.error());
  last.error = launched.error().text();
  last.at_ns = fs::now_ns();
  relaunch_or_give_up(last, 0);
  return {};
}

Result<void> Supervisor::launch() {
  status_.exits_from = TRY(begin_exits());
  // Not on record yet: a successor that finds the step before this one does the same again. What must be known before
  // the process exists is where its groups are, and that is (cgroup.json).
  TRY(prepare_group());
  TRY(prepare_input());
  TRY(open_notify());
  const UniqueFd root = TRY(make_incarnation_root(status_.incarnation));
  launch::ContainerRequest request = request_for(root.get());
  request.record = [this](const sys::ProcessIdentity& identity) -> Result<void> {
    status_.init = identity;
    save();
    return {};
  };
  auto launched = TRY(launch::launch_container(request));
  status_.init = launched.identity;
  init_pidfd_ = std::move(launched.pidfd);
  terminal_ = std::move(launched.console);
  return {};
}

// From where on in `exits` the records of the run to come will be. Nobody's record can be in the file when nobody
// lives, so it need not grow for ever. Order: no status may point to what is cut off.
Result<std::int64_t> Supervisor::begin_exits() {
  const std::int64_t end = TRY(exits_end(kFdExits));
  if (!execs_.empty() || end <= kMostExits) return end;
  status_.exits_from = 0;
  save();
  (void)!::ftruncate(kFdExits, 0);
  return 0;
}

launch::ContainerRequest Supervisor::request_for(int root_fd) {
  packed_calls_.unpack(spec_);
  shed_ = true;
  launch::ContainerRequest request;
  request.spec = &spec_;
  request.id = container_.id;
  request.root_mount_fd = root_fd;
  request.bundle = container_.bundle.empty()
                       ? str(container_.run, "/", std::string_view(kContainers), "/", container_.id)
                       : container_.bundle;
  request.group = &*group_;
  request.stdio = {stdin_read_ ? stdin_read_.get() : null_.get(), kFdOutWrite, kFdErrWrite};
  request.as_sibling = guard_pidfd_.get() >= 0;
  request.seccomp_cache_fd = seccomp_cache_.get();
  return request;
}

Result<void> Supervisor::drop_group() {
  group_.reset();
  return cgroup::Group::remove(location_, kPatience);
}

Result<void> Supervisor::prepare_group() {
  // While it waited for a relaunch somebody may have taken away the group, or one hierarchy's part of it.
  const bool has_waited = !relaunched_after_;
  if (group_ && (group_->was_struck() || (has_waited && !cgroup::is_whole(location_)))) TRY(drop_group());
  group_is_new_ = !group_;
  if (group_is_new_) {
    forget_memory_watch();
    group_ = TRY(cgroup::Group::create(location_));
    protect_keepers(location_, container_.id);  // the group beside it knows of memory by now
  }
  if (spec_.linux.resources) TRY(group_->apply(*spec_.linux.resources));
  // What is made in a group that stands still never comes back to us, and nobody would be served any more.
  if (TRY(group_->frozen())) TRY_CTX(group_->thaw(), "launch");
  status_.oom_base = group_->oom_kills();
  status_.limits_base = group_->memory_limits_hit();
  return {};
}

// Who the program runs as has to be able to open /dev/stdout, which is the pipe again.
Result<void> Supervisor::prepare_input() {
  const oci::User user = spec_.process ? spec_.process->user : oci::User{};
  if (container_.is_piped()) {
    if (::fchown(kFdOutWrite, user.uid, user.gid) != 0 || ::fchown(kFdErrWrite, user.uid, user.gid) != 0)
      return Error::from_errno(errno, "give the output pipes to uid ", user.uid);
  }
  if (!container_.interactive || container_.tty || stdin_read_) return {};
  int ends[2] = {-1, -1};
  if (::pipe2(ends, O_CLOEXEC) != 0) return Error::from_errno(errno, "pipe");
  stdin_read_ = UniqueFd(ends[0]);
  stdin_write_ = UniqueFd(ends[1]);
  if (::fchown(ends[0], user.uid, user.gid) != 0) return Error::from_errno(errno, "chown of the input pipe");
  return {};
}

// A root that nobody can write to is as good for the next run as a new one of the same layers, and there at once. The
// mounts of a run are on its own clone, and end with that.
UniqueFd Supervisor::root_again(const std::string& key) const {
  constexpr std::string_view kAlgorithm = "sha256:";
  if (!root_ || key != root_key_ || !container_.image_id.starts_with(kAlgorithm)) return {};
  // One that was removed is not brought back by this.
  const std::string image = str(std::string_view(image::kImages), '/', container_.image_id.substr(kAlgorithm.size()));
  if (!sys::is_there(kFdStoreRoot, image.c_str())) return {};
  auto clone = sys::open_tree(root_.get(), "", OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | AT_EMPTY_PATH, "root file system");
  return clone ? *std::move(clone) : UniqueFd{};
}

// Order: before the root is attached in the mount namespace of its run, where we cannot clone it. Before Linux 6.15
// detached mounts cannot be cloned at all, and each run's root is made anew.
void Supervisor::keep_root(int root_fd, std::string key) {
  if (container_.restart.kind == RestartPolicy::Kind::no) return;
  auto clone = sys::open_tree(root_fd, "", OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | AT_EMPTY_PATH, "root file system");
  root_ = clone ? *std::move(clone) : UniqueFd{};
  root_key_ = root_ ? std::move(key) : std::string();
}

Result<UniqueFd> Supervisor::make_incarnation_root(std::uint64_t incarnation) {
  if (!container_.bundle.empty()) return UniqueFd{};
  std::string key = container_.writable ? std::string() : root_key(spec_);
  if (!container_.writable)
    if (UniqueFd again = root_again(key)) return again;
  auto store = TRY(image::Store::open(container_.store, container_.run));
  const auto found = TRY_CTX(store.find(container_.image_id), "image ", container_.image);
  const auto lowers = TRY(store.open_lowers(found));
  RootRequest request = root_request(lowers);
  request.spec = &spec_;
  UniqueFd upper;
  if (container_.writable) {
    // The one of the run that goes on while a standby is made.
    const bool ahead = incarnation != status_.incarnation;
    remove_writable_layers(kFdStoreDir, ahead ? str("upper.", status_.incarnation) : std::string());
    const std::string name = str("upper.", incarnation);
    TRY(sys::mkdir_at(kFdStoreDir, name.c_str(), 0700));
    upper = TRY(sys::open_at(kFdStoreDir, name.c_str(), O_RDONLY | O_DIRECTORY | O_NOFOLLOW));
    // A bounded layer is a tmpfs: no other file system gives one directory a size without quotas set up by hand.
    if (container_.storage_size) upper = TRY(mount_sized_tmpfs(*container_.storage_size));
    request.upper_parent_fd = upper.get();
    request.upper_detached = container_.storage_size.has_value();
  }
  UniqueFd root = TRY_CTX(make_root(request), "root file system");
  if (!container_.writable) keep_root(root.get(), std::move(key));
  return root;
}

// The kernel tells that a process has ended when it has undone its mount namespace, which takes as long as all the rest
// of a relaunch, and workers of its that undo others take the processor from us and from the next program; not so while
// somebody holds them. They are undone when the next run is there.
void Supervisor::hold_namespaces() {
  let_namespaces_go();
  const auto hold = [this](std::size_t which, const char* name) {
    if (auto held = sys::open_at(AT_FDCWD, str("/proc/", status_.init.pid, "/ns/", name).c_str(), O_RDONLY))
      held_namespaces_[which] = *std::move(held);
  };
  hold(0, "mnt");
  if (!may_hold_network(spec_)) return;
  hold(1, "net");
  hold(2, "ipc");
}

void Supervisor::let_namespaces_go() {
  for (auto& held : held_namespaces_) held.reset();
}

// What is in the tmpfs mounts of a run that is over counts towards the limit until they are undone.
bool Supervisor::may_overlap() const {
  const auto& resources = spec_.linux.resources;
  if (!resources || !resources->memory || !resources->memory->limit) return true;
  const auto sample = group_ ? cgroup::take_sample(*group_) : Result<cgroup::Sample>(Error(Code::not_found, ""));
  return sample && sample->memory.usage && sample->memory.limit && *sample->memory.usage <= *sample->memory.limit / 2;
}

void Supervisor::started() {
  status_.step = Step::running;
  status_.started_ns = fs::now_ns();
  status_.started_mono_ns = fs::monotonic_ns();
  status_.orphaned = false;
  init_gone_ = false;
  status_.startup_passed = false;
  status_.probes_from_ns = 0;
  status_.probe_tallies = {};
  status_.said = {};
  begin_said();
  begin_probes();
  if (terminal_) {
    ::fcntl(terminal_.get(), F_SETFL, O_NONBLOCK);
    (void)watch(terminal_.get(), Source::terminal, EPOLLIN);
  }
  park_all();
  tell_launched();
  if (relaunched_after_) (void)write_exit(*std::exchange(relaunched_after_, std::nullopt), false);
  save();
  (void)watch(init_pidfd_.get(), Source::init, EPOLLIN);
  for (auto& [fd, client] : clients_)
    if (client.awaits_start) {
      client.awaits_start = false;
      reply_result(client, {});
    }
  tell_all_started();
  serve_waiting_execs();
  hold_namespaces();
  watch_memory();
  plan_standby();
  shed_ = true;
}

// Nothing that the incarnation left may live on: not in its group, wherever it went in there.
void Supervisor::clear_group() {
  // What is in it then is the next run already.
  if (!group_ || standby_went_on_) return;
  // When the first process of a pid namespace is reaped nobody is left in it, so one look will do.
  const auto left = has_own_pids(spec_) ? group_->processes_of_one() : group_->processes();
  if (left && is_standby_alone(*left)) return;
  drop_standby();
  if (auto killed = group_->kill_all(kPatience); !killed) group_.reset();  // made anew, which says busy if they stay
}

void Supervisor::check_init() {
  if (status_.step != Step::running) return;
  if (auto record = find_record(status_.init.pid, status_.exits_from); record && *record) {
    init_ended(last_exit_of(**record));
    return;
  }
  if (!init_gone_) return;
  if (const auto own = reap_own(status_.init.pid, init_pidfd_)) {
    init_ended(note_end(*own));
    return;
  }
  if (auto last = end_of(status_.init, init_pidfd_, status_.exits_from, init_gone_ns_)) init_ended(std::move(*last));
}

void Supervisor::init_ended(LastExit last) {
  const std::int64_t ran_ns = fs::monotonic_ns() - status_.started_mono_ns;
  // Killed while it was paused, by us or by somebody who wrote to the group: nothing may stand still in the group that
  // the next run is to have.
  if (group_ && (status_.paused || group_->is_told_to_freeze())) (void)group_->thaw();
  clear_group();
  drain_output();
  judge_oom(last);
  last.cause = cause_of(last);
  if (last.oom && group_) status_.limits_base = group_->memory_limits_hit();  // what a standby goes on from
  end_probes();
  close_watched(init_pidfd_);
  close_watched(terminal_);
  init_gone_ = false;
  if (!spec_.hooks.poststop.empty()) let_namespaces_go();
  run_hooks(spec_.hooks.poststop, "poststop", "stopped");
  status_.started_ns = by_present_clock(status_.started_ns, status_.started_mono_ns);
  status_.finished_ns = last.at_ns;
  status_.paused = false;
  status_.kill_at_ns = 0;
  tell_died(last);
  relaunch_or_give_up(last, ran_ns);
}

void Supervisor::drain_output() {
  const auto empty = [this](Stream stream, int fd, bool is_pipe) {
    // Bounded: a process that escaped the group must not keep us here.
    for (int i = 0; i < 256; ++i) {
      if (const auto moved = spool_->pump(stream, fd, is_pipe); !moved || *moved == 0) return;
      while (cri_ && cri_->is_behind(spool_->ends())) follow_logs();
    }
  };
  if (terminal_) empty(Stream::out, terminal_.get(), false);
  if (container_.is_piped()) {
    empty(Stream::out, kFdOutRead, true);
    empty(Stream::err, kFdErrRead, true);
  }
  if (cri_)
    if (auto ended = cri_->end_lines(spool_->ends()); !ended) complain(ended.error());
  if (!journal_) return;
  journal_->forward();
  journal_->end_line();
}

// The last chance of what the journal, or a file, was too slow for; after a while the spool alone has it, and the next
// start of the container goes on from there.
void Supervisor::flush_logs() {
  const std::int64_t deadline = fs::monotonic_ns() + kJournalPatienceNs;
  if (cri_)
    if (auto written = cri_->finish(spool_->ends(), deadline); !written) {
      complain(written.error());
      // What we complain to goes with the run.
      tell_run("cri_log_behind", {{"missing", cri_->missing(spool_->ends())}, {"error", written.error().text()}});
    }
  while (journal_ && journal_->again_at_ns() != 0 && fs::monotonic_ns() < deadline) {
    const timespec pause{.tv_sec = 0, .tv_nsec = 2'000'000};
    ::nanosleep(&pause, nullptr);
    journal_->forward();
    journal_->end_line();
  }
}

void Supervisor::note_sender(int signal, std::string_view who) {
  status_.sent_signal = signal;
  status_.sender = str(sys::signal_name(signal), " was ", who);
}

// Whose limit, or which of our own commands: what an administrator asks first at night.
std::string Supervisor::cause_of(const LastExit& last) const {
  if (last.oom && group_) {
    const auto hit = group_->memory_limit_hit(status_.limits_base);
    return hit ? str("out of memory: the limit of ", hit->bytes, " bytes of control group ", hit->path)
               : "out of memory: the host's, as no limit of its control groups was hit";
  }
  if (!status_.probe_failure.empty()) return status_.probe_failure;
  return last.signal != 0 && last.signal == status_.sent_signal ? status_.sender : std::string();
}

namespace {

double chance() {
  std::uint32_t number = 0;
  if (::getrandom(&number, sizeof number, GRND_NONBLOCK) != sizeof number) return 0.5;
  return static_cast<double>(number) / static_cast<double>(std::numeric_limits<std::uint32_t>::max());
}

}  // namespace

void Supervisor::relaunch_or_give_up(const LastExit& last, std::int64_t ran_ns) {
  status_.last_exit = last;
  // Order: before the decision. What ended it may have been sent to both of us at once.
  check_termination();
  const bool ended_by_itself = last.known && last.error.empty();
  // One that a probe has ended is a failure, however well it went when it was told to.
  const bool judged = ended_by_itself && status_.probe_failure.empty();
  const RunResult run{.success = judged && last.status == 0,
                      .ran_ns = ran_ns,
                      .stop_wanted = status_.stop_wanted || !wants_running(kFdStoreDir),
                      .status = judged ? last.status : -1,
                      .now_ns = fs::monotonic_ns(),
                      .chance = chance()};
  const Decision decision = decide(container_.restart, run, status_.streak);
  // One that was never launched has no start; told by a predecessor too, it is told once.
  const bool failed = !last.error.empty();
  if (failed && !history_.empty() && history_.back().incarnation == status_.incarnation) history_.pop_back();
  // Of a predecessor that was killed when it had counted the relaunch in exit.json and not yet in status.json.
  const bool counted = !failed && is_in_history(status_.incarnation);
  if (!counted)
    add_past_run(history_, {status_.incarnation, failed ? last.at_ns : status_.started_ns, last, decision.outcome});
  if (!decision.relaunch) {
    let_namespaces_go();
    give_up(last);
    return;
  }
  if (!counted) status_.restarts++;
  status_.step = Step::waiting;
  status_.next_try_mono_ns = fs::monotonic_ns() + decision.delay_ns;
  status_.next_try_ns = fs::now_ns() + decision.delay_ns;
  tell_waiting(decision.delay_ns);
  // A relaunch at once is done by the loop's next turn, which sees to waiting clients first. It is not on record before
  // the next process is: a successor sees that the last one has ended, and comes to the same decision.
  if (decision.delay_ns != 0 || !may_overlap()) let_namespaces_go();
  if (decision.delay_ns == 0) {
    relaunched_after_ = last;
    return;
  }
  relaunched_after_.reset();
  (void)write_exit(last, false);
  save();
  serve_waiting_execs();
}

}  // namespace skink::supervise
