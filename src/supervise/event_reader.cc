// SPDX-License-Identifier: Apache-2.0
#include "supervise/event_reader.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/inotify.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <utility>

#include "fs/dir.h"
#include "sys/file.h"

namespace skink::supervise {
namespace {

constexpr std::uint32_t kChanges = IN_MODIFY | IN_CREATE | IN_MOVED_TO;
constexpr std::size_t kLongestLine = 4 * kEventLimit;
constexpr std::size_t kMostKeys = 4096;
constexpr int kWithoutInotifyMs = 500;
// The clock may be set while we sleep: it is looked at again now and then.
constexpr std::int64_t kLongestSleepMs = 10'000;

UniqueFd watch(const std::string& run) {
  UniqueFd inotify(::inotify_init1(IN_CLOEXEC | IN_NONBLOCK));
  if (inotify && ::inotify_add_watch(inotify.get(), run.c_str(), kChanges | IN_ONLYDIR) < 0) inotify.reset();
  return inotify;
}

int sleep_ms(std::int64_t deadline_ns, bool watched) {
  std::int64_t ms = watched ? kLongestSleepMs : kWithoutInotifyMs;
  if (deadline_ns != 0) ms = std::min(ms, std::max<std::int64_t>((deadline_ns - fs::now_ns()) / 1'000'000 + 1, 0));
  return static_cast<int>(ms);
}

}  // namespace

EventReader::Tail EventReader::open_tail(const char* name) const {
  Tail tail;
  auto file = sys::open_at(run_.get(), name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK);
  const auto status = file ? sys::stat_fd(file->get(), name) : Result<struct stat>(file.error());
  if (!status || !S_ISREG(status->st_mode)) return tail;
  tail.inode = status->st_ino;
  tail.fd = std::move(*file);
  return tail;
}

Result<EventReader> EventReader::open(const std::string& run) {
  EventReader reader;
  reader.run_ = TRY(sys::open_at(AT_FDCWD, run.c_str(), O_RDONLY | O_DIRECTORY | O_NOFOLLOW));
  TRY(fs::check_private(reader.run_.get(), run));
  // Order: watched before it is read, so that nothing comes in between unseen.
  reader.inotify_ = watch(run);
  // Order: the present file first. When it is put aside just then, both names lead to it.
  for (int attempt = 0; attempt < 8; ++attempt) {
    reader.now_ = reader.open_tail(kEventFile);
    reader.old_ = reader.open_tail(kOldEventFile);
    if (reader.now_.inode == 0 || reader.now_.inode != reader.old_.inode) break;
  }
  return reader;
}

void EventReader::drain(Tail& tail, const Sink& sink) {
  if (!tail.fd) return;
  std::array<char, 65536> bytes;  // NOLINT: filled by pread
  if (const auto status = sys::stat_fd(tail.fd.get(), kEventFile); status && status->st_size < tail.at) tail.at = 0;
  for (;;) {
    const ssize_t got = ::pread(tail.fd.get(), bytes.data(), bytes.size(), tail.at);
    if (got < 0 && errno == EINTR) continue;
    if (got <= 0) return;
    tail.at += got;
    for (ssize_t i = 0; i < got; ++i) {
      const char c = bytes[static_cast<std::size_t>(i)];
      if (c == '\n') take(std::exchange(tail.rest, {}), sink);
      else if (tail.rest.size() <= kLongestLine) tail.rest += c;  // longer is none of ours
    }
  }
}

void EventReader::take(const std::string& line, const Sink& sink) {
  if (line.empty()) return;
  const auto event = parse_event(line);
  if (event && !told_before(*event)) sink(*event);
}

bool EventReader::told_before(const Event& event) {
  if (event.action == "destroy") told_.erase(event.id);
  // A first launch that failed gives its number back, so that the next try has it too.
  if (event.run.empty() || event.action == "fail") return false;
  // A supervisor that is killed in the middle of a relaunch may have told the end of one run and the start of the next.
  auto& [last, before] = told_[event.id];
  if (last.run != event.run && before.run != event.run) before = std::exchange(last, {event.run, {}});
  Told& told = last.run == event.run ? last : before;
  if (told.keys.size() > kMostKeys) told.keys.clear();
  std::string key = event.action;
  if (key.starts_with("exec_"))
    key += str(' ', oci::get_int(event.attributes, "pid"), ' ', oci::get_int(event.attributes, "ended_ns"));
  return !told.keys.insert(std::move(key)).second;
}

void EventReader::read(const Sink& sink) {
  // Who had opened a file before it was put aside may still be writing to it.
  drain(old_, sink);
  drain(now_, sink);
  const auto there = sys::stat_at(run_.get(), kEventFile, AT_SYMLINK_NOFOLLOW);
  if (!there || there->st_ino == now_.inode) return;
  Tail next = open_tail(kEventFile);
  drain(now_, sink);
  // Two were put aside since we looked last.
  if (Tail between = open_tail(kOldEventFile);
      between.inode != now_.inode && between.inode != old_.inode && between.inode != next.inode) {
    drain(between, sink);
    now_ = std::move(between);
  }
  if (now_.fd) old_ = std::move(now_);
  now_ = std::move(next);
  drain(now_, sink);
}

Result<bool> EventReader::wait(std::int64_t deadline_ns, int output_fd) {
  for (;;) {
    if (deadline_ns != 0 && fs::now_ns() >= deadline_ns) return false;
    // Nothing is asked of the output but whether its reader is gone, which is always told.
    std::array<pollfd, 2> fds{{{output_fd, 0, 0}, {inotify_.get(), POLLIN, 0}}};
    const int ready = ::poll(fds.data(), fds.size(), sleep_ms(deadline_ns, inotify_.get() >= 0));
    if (ready < 0 && errno != EINTR) return Error::from_errno(errno, "poll");
    if (ready < 0) continue;
    if ((fds[0].revents & (POLLERR | POLLHUP | POLLNVAL)) != 0) return false;
    alignas(inotify_event) std::array<char, 16384> changes;  // NOLINT: filled by read
    while (inotify_ && ::read(inotify_.get(), changes.data(), changes.size()) > 0) {
    }
    if (const auto status = sys::stat_fd(run_.get(), "RUN"); status && status->st_nlink == 0)
      return Error::make(Code::not_found, "the directory of --run was removed");
    if (ready > 0 || !inotify_) return true;
  }
}

}  // namespace skink::supervise
