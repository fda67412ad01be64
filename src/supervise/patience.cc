// SPDX-License-Identifier: Apache-2.0
#include "supervise/patience.h"

#include <fcntl.h>
#include <sys/prctl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <ctime>

#include "base/durations.h"
#include "base/text.h"
#include "fs/dir.h"

namespace skink::supervise {
namespace {

constexpr std::int64_t kBetweenLooksNs = 500 * kMillisecond;

Error stopped_error(pid_t pid) {
  return Error::make(Code::busy, "process ", pid, " of the container's guard and supervisor is stopped; kill -CONT ",
                     pid, " lets it go on, skink rm -f ends it");
}

// What supervisors that ended by themselves have said.
struct Complaints {
  std::int64_t size = 0;
  std::string last;  // line
};

Complaints read_complaints(int run_dir) {
  constexpr std::int64_t kTail = 4096;
  Complaints found;
  const auto file = sys::open_at(run_dir, kComplaintsFile, O_RDONLY | O_NOFOLLOW | O_NONBLOCK);
  const auto status = file ? sys::stat_fd(file->get(), kComplaintsFile) : Result<struct stat>(file.error());
  if (!status) return found;
  found.size = status->st_size;
  std::string text(static_cast<std::size_t>(std::min(kTail, found.size)), '\0');
  const ssize_t got =
      ::pread(file->get(), text.data(), text.size(), found.size - static_cast<std::int64_t>(text.size()));
  text.resize(got > 0 ? static_cast<std::size_t>(got) : 0);
  while (text.ends_with('\n')) text.pop_back();
  found.last = text.substr(text.rfind('\n') + 1);
  return found;
}

Error complaint_error(const Complaints& complaints) {
  return Error::make(Code::busy, "its supervisors fail as soon as they start (", printable(complaints.last),
                     "); skink rm -f ends it");
}

}  // namespace

Patience::Patience(const Roots& roots, std::string id, Limits limits)
    : roots_(roots), id_(std::move(id)), limits_(limits), moved_at_ns_(fs::monotonic_ns()) {
  next_look_ns_ = moved_at_ns_ + kBetweenLooksNs;
  const auto run_dir = open_run_dir(roots_, id_);
  if (!run_dir) return;
  if (auto status = read_status(run_dir->get())) status_ = std::move(*status);
  complained_ = complained_before_ = read_complaints(run_dir->get()).size;
}

Patience::Look Patience::look() const {
  Look now;
  now.text = str(static_cast<int>(status_.step), '.', status_.incarnation, ' ');
  for (const auto* identity : {&status_.guard, &status_.supervisor}) {
    const auto process = sys::activity(*identity);
    if (!process) continue;
    now.text += str(identity->pid, '=', process->cpu_ticks, ' ');
    if (process->state == 'R') now.moves = true;
    if (process->state == 'T') now.stopped = identity->pid;
    if (identity == &status_.supervisor) now.supervised = true;
  }
  return now;
}

void Patience::heard(const oci::Json& message) {
  const oci::Json* const speaker = oci::find(message, kSpeaker);
  if (speaker != nullptr && speaker->is_array() && speaker->size() == 2 && (*speaker)[0].is_number_integer() &&
      (*speaker)[1].is_number_integer())
    speaker_ = {(*speaker)[0].get<pid_t>(), (*speaker)[1].get<std::uint64_t>()};
}

// A successor that finishes what it has begun is the same life still, and does that with this step.
bool Patience::is_next_life() const {
  if (!speaker_) return false;
  const auto run_dir = open_run_dir(roots_, id_);
  const auto status = run_dir ? read_status(run_dir->get()) : Result<Status>(Error(Code::not_found, ""));
  if (!status || status->step == Step::stopped) return false;
  const sys::ProcessIdentity& now = status->supervisor;
  return std::pair(now.pid, now.start_time) != *speaker_;
}

std::optional<Error> Patience::complaint() const {
  const auto run_dir = open_run_dir(roots_, id_);
  if (!run_dir) return std::nullopt;
  const Complaints now = read_complaints(run_dir->get());
  if (now.size <= complained_before_ || now.last.empty()) return std::nullopt;
  return complaint_error(now);
}

// The guard starts another one each time, a little later each time: that is no progress.
Result<void> Patience::check_complaints() {
  constexpr int kMostFailures = 4;
  const auto run_dir = open_run_dir(roots_, id_);
  if (!run_dir) return {};
  const Complaints now = read_complaints(run_dir->get());
  if (last_.supervised) failures_ = 0;
  else if (now.size > complained_) ++failures_;
  complained_ = now.size;
  if (failures_ < kMostFailures) return {};
  return complaint_error(now);
}

Result<void> Patience::check() {
  const std::int64_t time = fs::monotonic_ns();
  if (time < next_look_ns_) return {};
  // It is we who were stopped meanwhile.
  if (time - next_look_ns_ > 10 * kBetweenLooksNs) moved_at_ns_ = time;
  next_look_ns_ = time + kBetweenLooksNs;
  if (const auto run_dir = open_run_dir(roots_, id_))
    if (auto status = read_status(run_dir->get())) status_ = std::move(*status);
  Look now = look();
  const bool busy = now.moves || now.text != last_.text;
  // Of two, one may run on while the other is held: that is no progress.
  if (now.stopped == 0 ? busy : now.stopped != last_.stopped) moved_at_ns_ = time;
  last_ = std::move(now);
  TRY(check_complaints());
  const std::int64_t quiet = time - moved_at_ns_;
  if (last_.stopped != 0 && quiet >= limits_.stopped_ns) return stopped_error(last_.stopped);
  const bool launches = status_.step == Step::launching;
  if (launches && quiet >= limits_.launch_ns)
    return Error::make(Code::busy, "it is being launched, and a hook or a mount has held that up for ", quiet / kSecond,
                       " s; skink rm -f ends it");
  if (!launches && quiet >= limits_.quiet_ns)
    return Error::make(Code::busy, "its supervisor has done nothing for ", quiet / kSecond, " s; skink rm -f ends it");
  return {};
}

Result<Message> await_answer(int socket_fd, Patience& patience) {
  for (;;) {
    auto message = await_message(socket_fd, fs::monotonic_ns() + kBetweenLooksNs);
    if (message) patience.heard(message->json);
    if (message || message.error().code() != Code::busy) return message;
    TRY(patience.check());
  }
}

Result<void> await_no_supervisor(int alive_fd, Patience& patience) {
  // Short at first: the guard ends within a fraction of a millisecond after the supervisor's last word. Unasked the
  // kernel makes each sleep 50 us longer.
  constexpr unsigned long kSlackNs = 1'000;
  ::prctl(PR_SET_TIMERSLACK, kSlackNs);
  constexpr long kLongestUs = 50'000;
  for (long wait_us = 40;; wait_us = std::min(wait_us * 3 / 2, kLongestUs)) {
    struct flock lock {};
    lock.l_type = F_WRLCK;
    lock.l_whence = SEEK_SET;
    if (::fcntl(alive_fd, F_OFD_GETLK, &lock) != 0) return Error::from_errno(errno, "lock query");
    if (lock.l_type == F_UNLCK) return {};
    if (wait_us == kLongestUs && patience.is_next_life()) return {};
    TRY(patience.check());
    const timespec time{.tv_sec = 0, .tv_nsec = wait_us * 1'000};
    ::nanosleep(&time, nullptr);
  }
}

}  // namespace skink::supervise
