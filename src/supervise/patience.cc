// SPDX-License-Identifier: Apache-2.0
#include "supervise/patience.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <ctime>

#include "base/text.h"
#include "fs/dir.h"

namespace skink::supervise {
namespace {

constexpr std::int64_t kMillisecond = 1'000'000;
constexpr std::int64_t kSecond = 1'000'000'000;
constexpr std::int64_t kBetweenLooksNs = 500 * kMillisecond;

Error stopped_error(pid_t pid) {
  return Error::make(Code::busy, "process ", pid, " of the container's guard and supervisor is stopped; kill -CONT ",
                     pid, " lets it go on, skink rm -f ends it");
}

}  // namespace

Patience::Patience(const Roots& roots, std::string id, Limits limits)
    : roots_(roots), id_(std::move(id)), limits_(limits), moved_at_ns_(fs::monotonic_ns()) {
  next_look_ns_ = moved_at_ns_ + kBetweenLooksNs;
  if (const auto run_dir = open_run_dir(roots_, id_))
    if (auto status = read_status(run_dir->get())) status_ = std::move(*status);
}

Patience::Look Patience::look() const {
  Look now;
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

std::optional<Error> last_complaint(int run_dir) {
  const auto text = fs::read_file(run_dir, kComplaintsFile, kRecordLimit);
  if (!text || text->empty()) return std::nullopt;
  const auto lines = split(*text, '\n');
  const std::string_view last = lines.size() > 1 ? lines[lines.size() - 2] : lines.back();
  return Error::make(Code::busy, "its supervisors fail as soon as they start (", printable(last),
                     "); skink rm -f ends it");
}

// The guard starts another one each time, a little later each time: that is no progress.
Result<void> Patience::check_complaints(int run_dir) {
  constexpr int kMostFailures = 4;
  const auto text = fs::read_file(run_dir, kComplaintsFile, kRecordLimit);
  const std::size_t size = text ? text->size() : 0;
  if (last_.supervised) failures_ = 0;
  else if (size > complained_) ++failures_;
  complained_ = size;
  if (failures_ < kMostFailures) return {};
  return *last_complaint(run_dir);
}

Result<void> Patience::check() {
  const std::int64_t time = fs::monotonic_ns();
  if (time < next_look_ns_) return {};
  next_look_ns_ = time + kBetweenLooksNs;
  if (const auto run_dir = open_run_dir(roots_, id_))
    if (auto status = read_status(run_dir->get())) status_ = std::move(*status);
  Look now = look();
  const bool busy = now.moves || now.text != last_.text || status_.step == Step::launching;
  // Of two, one may run on while the other is held: that is no progress.
  if (now.stopped == 0 ? busy : now.stopped != last_.stopped) moved_at_ns_ = time;
  last_ = std::move(now);
  if (const auto run_dir = open_run_dir(roots_, id_)) TRY(check_complaints(run_dir->get()));
  const std::int64_t quiet = time - moved_at_ns_;
  if (last_.stopped != 0 && quiet >= limits_.stopped_ns) return stopped_error(last_.stopped);
  if (quiet >= limits_.quiet_ns)
    return Error::make(Code::busy, "its supervisor has done nothing for ", quiet / kSecond, " s; skink rm -f ends it");
  return {};
}

Result<Message> await_answer(int socket_fd, Patience& patience) {
  for (;;) {
    auto message = await_message(socket_fd, fs::monotonic_ns() + kBetweenLooksNs);
    if (message || message.error().code() != Code::busy) return message;
    TRY(patience.check());
  }
}

Result<void> await_no_supervisor(int alive_fd, Patience& patience) {
  // Short at first: the guard ends within a fraction of a millisecond after the supervisor's last word.
  for (long wait_us = 50;; wait_us = std::min(wait_us * 2, 50'000L)) {
    struct flock lock {};
    lock.l_type = F_WRLCK;
    lock.l_whence = SEEK_SET;
    if (::fcntl(alive_fd, F_OFD_GETLK, &lock) != 0) return Error::from_errno(errno, "lock query");
    if (lock.l_type == F_UNLCK) return {};
    TRY(patience.check());
    const timespec time{.tv_sec = 0, .tv_nsec = wait_us * 1'000};
    ::nanosleep(&time, nullptr);
  }
}

}  // namespace skink::supervise
