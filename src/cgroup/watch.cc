// SPDX-License-Identifier: Apache-2.0
#include "cgroup/watch.h"

#include <fcntl.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <string>

#include "base/text.h"
#include "cgroup/control_file.h"

namespace skink::cgroup {
namespace {

using Kind = Happening::Kind;

std::uint64_t kills_in(std::string_view events) {
  return parse_int<std::uint64_t>(keyed(events, "oom_kill")).value_or(0);
}

UniqueFd open_file(int dir_fd, const char* name, int flags) {
  return UniqueFd{::openat(dir_fd, name, flags | O_CLOEXEC | O_NOFOLLOW | O_NOCTTY)};
}

}  // namespace

// cgroup v1: "EVENTFD FILE [LEVEL]" into cgroup.event_control makes the kernel write to the eventfd, also once when the
// group is removed.
void Watch::add_v1(int dir_fd, What what) {
  struct Event {
    const char* file;
    const char* level;
    Kind kind;
  };
  constexpr Event kEvents[] = {{"memory.oom_control", "", Kind::out_of_memory},
                               {"memory.pressure_level", "low", Kind::memory_pressure},
                               {"memory.pressure_level", "medium", Kind::memory_pressure},
                               {"memory.pressure_level", "critical", Kind::memory_pressure}};
  for (const Event& event : kEvents) {
    if (what == What::out_of_memory && event.kind != Kind::out_of_memory) continue;
    UniqueFd file = open_file(dir_fd, event.file, O_RDONLY);
    UniqueFd notice(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
    if (!file || !notice) continue;
    std::string line = str(notice.get(), ' ', file.get());
    if (event.level[0] != '\0') line += str(' ', std::string_view(event.level));
    if (write_control(dir_fd, "cgroup.event_control", line) != 0) continue;
    sources_.push_back({std::move(notice), POLLIN, {event.kind, event.level}});
    kept_.push_back(std::move(file));
  }
}

// cgroup v2: memory.events is polled for its changes; a line written to memory.pressure makes its descriptor report
// stalls of that length.
void Watch::add_unified(int dir_fd, What what) {
  if (UniqueFd events = open_file(dir_fd, "memory.events", O_RDONLY)) {
    std::string text;
    if (read_control(dir_fd, "memory.events", text) == 0) kills_ = kills_in(text);
    sources_.push_back({std::move(events), POLLPRI, {Kind::out_of_memory, {}}});
  }
  if (what == What::out_of_memory) return;
  struct Trigger {
    const char* level;
    const char* line;
  };
  // Without CAP_SYS_RESOURCE a window has to be whole pairs of seconds.
  constexpr Trigger kTriggers[] = {{"some", "some 300000 2000000"}, {"full", "full 200000 2000000"}};
  for (const Trigger& trigger : kTriggers) {
    UniqueFd file = open_file(dir_fd, "memory.pressure", O_RDWR | O_NONBLOCK);
    if (!file) return;
    const std::string line(trigger.line);
    // With its end: the kernel takes the last byte for the newline of echo.
    if (::write(file.get(), line.c_str(), line.size() + 1) < 0) continue;
    sources_.push_back({std::move(file), POLLPRI, {Kind::memory_pressure, trigger.level}});
  }
}

Result<Watch> Watch::open(const Group& group, What what) {
  Watch watch;
  group.each([&](const Place& place, int dir_fd) {
    if (has_word(place.hierarchy.controllers, "memory")) watch.add_v1(dir_fd, what);
    if (place.hierarchy.unified) watch.add_unified(dir_fd, what);
  });
  if (watch.sources_.empty())
    return Error::make(Code::unsupported, "this host tells nothing of a group's memory: no memory controller");
  return watch;
}

// How often an eventfd was written to; removing the group writes to it once more.
std::size_t Watch::take_notices(const Source& source) const {
  std::uint64_t times = 0;
  if (::read(source.fd.get(), &times, sizeof times) != static_cast<ssize_t>(sizeof times)) return 0;
  char byte = 0;
  const bool gone = ::pread(kept_.front().get(), &byte, 1, 0) < 0 && errno == ENODEV;
  if (gone) return 0;
  return source.happening.kind == Kind::out_of_memory ? static_cast<std::size_t>(times) : 1;
}

std::size_t Watch::take_kills(const Source& source) {
  std::array<char, 512> text{};
  const ssize_t count = ::pread(source.fd.get(), text.data(), text.size(), 0);
  const std::uint64_t now = count <= 0 ? kills_ : kills_in({text.data(), static_cast<std::size_t>(count)});
  const std::uint64_t more = now > kills_ ? now - kills_ : 0;
  kills_ = now;
  return static_cast<std::size_t>(more);
}

std::vector<Happening> Watch::take(std::span<const pollfd> polled) {
  std::vector<Happening> found;
  for (std::size_t i = 0; i < sources_.size(); ++i) {
    const Source& source = sources_[i];
    if ((polled[i].revents & source.events) == 0) continue;
    std::size_t times = 1;
    if (source.events == POLLIN) times = take_notices(source);
    else if (source.happening.kind == Kind::out_of_memory) times = take_kills(source);
    // A level of v1 is told to the watchers of the lower ones too: the gravest, which comes last, stands for them.
    const bool same = source.events == POLLIN && source.happening.kind == Kind::memory_pressure && times != 0;
    if (same && !found.empty() && found.back().kind == Kind::memory_pressure) found.pop_back();
    found.insert(found.end(), times, source.happening);
  }
  return found;
}

}  // namespace skink::cgroup
