// SPDX-License-Identifier: Apache-2.0
// The end of a supervised container: records, what is undone, and who is told.
#include <fcntl.h>
#include <poll.h>
#include <sys/socket.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <ctime>
#include <utility>

#include "base/text.h"
#include "fs/dir.h"
#include "launch/launch.h"
#include "supervise/removal.h"
#include "supervise/scope.h"
#include "supervise/supervisor.h"
#include "sys/file.h"

namespace skink::supervise {

// The user said stop, or the policy does not relaunch: undo what the incarnations needed, then say so.
void Supervisor::give_up(const LastExit& last) {
  drop_standby();
  // Order: before the record of that end.
  tell_untold();
  const bool waited = status_.step == Step::waiting;
  if (waited) take_relaunch_back();
  status_.step = Step::stopped;
  status_.last_exit = last;
  tell_given_up(last, waited);
  flush_logs();
  // Order: who reads that it has stopped, and then its record, finds this run in it. Of a container that goes there is
  // nothing to read later.
  Result<void> written;
  if (!container_.remove_at_end) written = write_exit(last, true, status_.stop_wanted ? std::string() : mark_of_boot());
  save();
  if (container_.remove_at_end) {
    // Order: before the run's files go, without which no successor of ours could tell. Who hears it waits on until
    // nothing is left, also where a successor has to see to that: with this step it is no next life.
    hear_connected(last, 0);
    tell_end(last);
  }
  group_.reset();
  const bool removed = remove_groups();
  tell_last_execs();
  // With no room for the record the run directory is what knows how it ended, and with a group that cannot be removed,
  // where that is: it stays, and whoever looks next starts a successor of ours that comes here again (faults F01, F13).
  const bool gone = remove_run_state(written.has_value() && removed);
  // Order: the container last. Without it nobody would look at what is left of the run.
  if (container_.remove_at_end && removed && gone) remove_container();
  if (container_.log_driver == "none") forget_logs();
  serve_waiting_execs();
  if (container_.remove_at_end) hear_latecomers(last);
  tell_end(last);
  if (start_heard_) {
    exit_code_ = kSupervisorDone;
    return;
  }
  end_untold_ = last;
  await_question();
}

// Who waits for an exec of the last run hears how it ended, while there is somebody to tell. In a pid namespace all of
// them are on record before its first process is; elsewhere they have only died with the group, and that is to come.
void Supervisor::tell_last_execs() {
  constexpr std::int64_t kPatienceNs = 2'000'000'000;
  const std::int64_t deadline = fs::monotonic_ns() + kPatienceNs;
  const auto awaits = [this](auto& entry) {
    Exec& exec = entry.second;
    pollfd ended{exec.pidfd.get(), POLLIN, 0};
    if (exec.ended_ns == 0 && ::poll(&ended, 1, 0) > 0) exec.ended_ns = fs::monotonic_ns();
    return exec.ended_ns != 0 && exec_clients_.contains(entry.first);
  };
  while (std::ranges::count_if(execs_, awaits) > 0) {
    check_execs();
    if (fs::monotonic_ns() >= deadline) return;
    const timespec pause{.tv_sec = 0, .tv_nsec = 1'000'000};
    ::nanosleep(&pause, nullptr);
  }
}

// The relaunch that it waited for is counted and told already, and is not going to be.
void Supervisor::take_relaunch_back() {
  relaunched_after_.reset();
  if (status_.restarts > 0) --status_.restarts;
  if (history_.empty()) return;
  history_.back().outcome = container_.restart.kind == RestartPolicy::Kind::no && !status_.stop_wanted
                                ? "not relaunched: its policy has become no"
                                : "stopped, while it waited for its relaunch";
}

// Of what is removed nobody can read later how it ended. Who has connected hears it, and whoever comes now does not get
// so far as to be hung up on.
void Supervisor::hear_latecomers(const LastExit& last) {
  constexpr std::int64_t kPatienceNs = 200'000'000;
  watches_.forget(kFdListener);
  ::shutdown(kFdListener, SHUT_RD);
  hear_connected(last, kPatienceNs);
}

void Supervisor::hear_connected(const LastExit& last, std::int64_t patience_ns) {
  end_untold_ = last;
  accept_clients();
  const std::int64_t deadline = fs::monotonic_ns() + patience_ns;
  for (auto& [fd, client] : clients_)
    if (!client.has_asked)
      if (auto message = await_message(fd, deadline)) answer(client, std::move(*message));
}

// A program can be over before we have come to listen. Who started it has put the question before we lived, or is on
// its way back to us after a predecessor of ours was killed: then it has connected by now.
void Supervisor::await_question() {
  accept_clients();
  untold_until_ns_ = fs::monotonic_ns() + 30'000'000'000;
}

// Nothing has run: whoever gave the order hears why, and nothing is left of the try.
void Supervisor::first_launch_failed(const Error& error) {
  LastExit last;
  last.status = launch::exit_status_of(error);
  last.error = error.text();
  last.at_ns = fs::now_ns();
  status_.step = Step::stopped;
  status_.last_exit = last;
  save();
  // The number of an order that came to nothing is the next one's again, and its record must not tell of that.
  --status_.order;
  add_past_run(history_, {status_.incarnation, last.at_ns, last, "not tried again: whoever started it was told"});
  const auto before = read_run_record(kFdStoreDir);
  (void)write_exit(last, true, before && before->order == status_.order ? before->given_up : std::string());
  // An order that came to nothing leaves the wish as it was: one that should run since before is tried again by heal.
  (void)restore_wish(kFdStoreDir, status_.wish_before, container_.durable);
  group_.reset();
  (void)remove_run_state(remove_groups());
  first_failure_ = error;
  await_question();
}

Result<void> Supervisor::write_exit(const LastExit& last, bool final, std::string given_up) {
  restarts_told_ = status_.restarts;
  // One small file; only the last word of a container that should survive a power cut is worth an fsync.
  const RunRecord record{.last = last,
                         .order = status_.order,
                         .final = final,
                         .given_up = std::move(given_up),
                         .started_ns = status_.started_ns,
                         .finished_ns = status_.finished_ns,
                         .restarts = status_.restarts,
                         .history = history_};
  return fs::write_file_atomic(kFdStoreDir, kExitFile, dump(record), 0600,
                               final && container_.durable ? fs::Durability::durable : fs::Durability::volatile_state);
}

bool Supervisor::remove_groups() {
  constexpr std::chrono::milliseconds kPatience{5000};
  if (cgroup::Group::remove_if_empty(location_)) return true;
  if (auto group = cgroup::Group::open(location_)) (void)group->kill_all(kPatience);
  auto removed = cgroup::Group::remove(location_, kPatience);
  if (!removed) complain(removed.error());
  return removed.has_value();
}

// A predecessor was killed in its last steps: part of the run directory is gone. What is left of them is done; the
// end itself was told or is on record.
Result<void> Supervisor::finish_removal() {
  // Not by an accident to its files does a container end that runs.
  for (const auto& location : TRY(possible_groups(container_.id)))
    if (!cgroup::Group::remove_if_empty(location))
      return Error::make(Code::busy, "the run directory is damaged, and the container may be running");
  if (!remove_run_state(true)) return Error::make(Code::busy, "the run directory cannot be removed");
  if (container_.remove_at_end) remove_container();
  exit_code_ = kSupervisorDone;
  return {};
}

bool Supervisor::remove_run_state(bool with_directory) {
  remove_writable_layers(kFdStoreDir);
  if (!with_directory) return true;
  const auto dir = sys::open_at(kFdRunRoot, kContainers, O_RDONLY | O_DIRECTORY | O_NOFOLLOW);
  return dir && remove_run_dir(dir->get(), container_.id, kFdRunDir);
}

void Supervisor::remove_container() {
  const auto containers = sys::open_at(kFdStoreRoot, kContainers, O_RDONLY | O_DIRECTORY | O_NOFOLLOW);
  const auto names = sys::open_at(kFdStoreRoot, kNames, O_RDONLY | O_DIRECTORY | O_NOFOLLOW);
  if (containers && names)
    (void)remove_store_dir(containers->get(), names->get(), container_.id, container_.name,
                           [this] { tell_event("destroy"); });
}

// Each of them once.
void Supervisor::tell_end(const LastExit& last) {
  for (auto& [fd, client] : clients_) {
    if (std::exchange(client.awaits_start, false)) reply_result(client, {});
    if (std::exchange(client.awaits_end, false))
      reply(client, {{"event", "done"}, {"exit", dump(last)}, {"stopped", status_.stop_wanted}});
    if (std::exchange(client.awaits_stop, false)) reply_result(client, {});
  }
}

}  // namespace skink::supervise
