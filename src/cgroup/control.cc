// SPDX-License-Identifier: Apache-2.0
// What is done to the processes of a group: listing, freezing, thawing, killing.
#include <fcntl.h>
#include <signal.h>
#include <sys/utsname.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <iterator>
#include <limits>
#include <utility>

#include "base/text.h"
#include "cgroup/cgroup.h"
#include "cgroup/control_file.h"
#include "cgroup/tree.h"
#include "cgroup/wait.h"
#include "fs/dir.h"
#include "sys/descriptors.h"
#include "sys/file.h"
#include "sys/process.h"

namespace skink::cgroup {
namespace {

constexpr std::chrono::milliseconds kFreezeTime{20000};
constexpr std::chrono::milliseconds kLook{50};  // how long the dying are waited for before they are struck again

bool has_v1(const Place& place, std::string_view controller) {
  return !place.hierarchy.unified && has_word(place.hierarchy.controllers, controller);
}

void sort_unique(std::vector<pid_t>& pids) {
  std::ranges::sort(pids);
  pids.erase(std::unique(pids.begin(), pids.end()), pids.end());
}

/// A group's freezer: freezer.state of v1 where there is one, else cgroup.freeze of the unified hierarchy.
struct Freezer {
  int fd = -1;
  const Place* place = nullptr;
  bool unified = false;
};

// v1: FREEZING lasts until every task has come to a stop; writing FROZEN again makes the kernel look again.
Result<void> freeze_v1(const Freezer& freezer) {
  const Deadline deadline(kFreezeTime);
  for (Pause pause;; pause.sleep(deadline)) {
    std::string state;
    int err = write_control(freezer.fd, "freezer.state", "FROZEN");
    if (err == 0) err = read_control(freezer.fd, "freezer.state", state);
    if (err != 0) return Error::from_errno(err, "freeze control group ", show(*freezer.place));
    if (chomp(state) == "FROZEN") return {};
    if (deadline.passed()) break;
  }
  (void)write_control(freezer.fd, "freezer.state", "THAWED");
  return Error::make(Code::busy, "control group ", show(*freezer.place), " did not freeze within ", kFreezeTime.count(),
                     " ms and was thawed again; some process of it is in an uninterruptible wait");
}

Error held_from_above(const Place& place, std::string_view above) {
  return Error::make(Code::busy, "control group ", show(place), " stays frozen because ", above, " is");
}

// The group above that is frozen itself, if it can be seen from here.
std::optional<Place> frozen_above(Place place) {
  while (place.path.size() > 1) {
    const std::string parent = split_path(place.path).parent;
    place.path = parent.empty() ? std::string() : str('/', parent);
    const auto dir = open_place(place);
    std::string text;
    if (dir && read_control(dir->get(), "cgroup.freeze", text) == 0 && chomp(text) == "1") return place;
  }
  return std::nullopt;
}

// A group that is let go runs a moment later; one below a frozen group never does.
Result<void> wait_frozen_v2(const Freezer& freezer, std::string_view wanted) {
  const Deadline deadline(kFreezeTime);
  EventFile events(freezer.fd, "cgroup.events");
  while (true) {
    const std::string text = events.read();
    if (keyed(text, "frozen") == wanted) return {};
    if (text.empty()) return Error::from_errno(ENODEV, "read ", show(*freezer.place), "/cgroup.events");
    if (wanted == "0")
      if (const auto above = frozen_above(*freezer.place)) return held_from_above(*freezer.place, show(*above));
    if (deadline.passed())
      return Error::make(Code::busy, "control group ", show(*freezer.place), " did not become ",
                         wanted == "1" ? "frozen" : "thawed", " within ", kFreezeTime.count(), " ms",
                         wanted == "1" ? "" : "; a group above it that cannot be seen from here may be frozen");
    events.wait(deadline);
  }
}

Result<void> freeze_v2(const Freezer& freezer) {
  if (const int err = write_control(freezer.fd, "cgroup.freeze", "1"); err != 0)
    return Error::from_errno(err, "freeze control group ", show(*freezer.place));
  Result<void> frozen = wait_frozen_v2(freezer, "1");
  if (!frozen) (void)write_control(freezer.fd, "cgroup.freeze", "0");
  return frozen;
}

struct Victim {
  pid_t pid = 0;
  UniqueFd pidfd;
};

// The number of a thread's process, for pids that came out of cgroup.threads; a process's own otherwise.
pid_t process_of(pid_t pid) {
  std::string status;
  if (read_control(AT_FDCWD, str("/proc/", pid, "/status").c_str(), status) != 0) return pid;
  const std::size_t at = status.find("\nTgid:\t");
  if (at == std::string::npos) return pid;
  const std::size_t from = at + 7;
  return parse_int<pid_t>(std::string_view(status).substr(from, status.find('\n', from) - from)).value_or(pid);
}

// As many as there are descriptors for: the next round takes the rest.
std::vector<Victim> hold(const std::vector<pid_t>& pids) {
  constexpr std::size_t kForTheWalk = 4;
  std::vector<Victim> victims;
  for (const pid_t pid : pids) {
    Result<UniqueFd> pidfd = sys::open_pidfd(pid);
    if (!pidfd && sys::is_want_of_descriptors(pidfd.error())) {
      // One at least: a round that ends nobody is followed by another like it.
      const std::size_t left = victims.size() > kForTheWalk ? victims.size() - kForTheWalk : 1;
      victims.erase(victims.begin() + static_cast<std::ptrdiff_t>(std::min(victims.size(), left)), victims.end());
      break;
    }
    if (!pidfd) pidfd = sys::open_pidfd(process_of(pid));
    if (pidfd) victims.push_back({pid, std::move(*pidfd)});
  }
  return victims;
}

Error undead(const std::vector<pid_t>& pids, std::chrono::milliseconds deadline) {
  return Error::make(Code::busy, "kill control group: ", describe_processes(pids), " did not die within ",
                     deadline.count(), " ms");
}

}  // namespace

Result<void> Group::read_members_of(const Dir& dir, std::vector<pid_t>& pids) {
  Result<void> read = read_tree(dir.fd.get(), pids);
  // A walk that lost its way in a tree that changes is repeated once; a group that is gone has no members.
  if (!read && read.error().code() == Code::busy) read = read_tree(dir.fd.get(), pids);
  if (!read && read.error().code() != Code::not_found) return std::move(read).error().context(show(dir.place));
  return {};
}

Result<std::vector<pid_t>> Group::processes() const {
  std::vector<pid_t> pids;
  for (const Dir& dir : dirs_) TRY(read_members_of(dir, pids));
  sort_unique(pids);
  return pids;
}

Result<std::vector<pid_t>> Group::processes_of_one() const {
  std::vector<pid_t> pids;
  if (dirs_.empty()) return pids;
  const auto unified = std::ranges::find_if(dirs_, [](const Dir& dir) { return dir.place.hierarchy.unified; });
  TRY(read_members_of(unified == dirs_.end() ? dirs_.front() : *unified, pids));
  sort_unique(pids);
  return pids;
}

Result<void> Group::freeze() {
  Freezer freezer;
  for (const Dir& dir : dirs_)
    if (has_v1(dir.place, "freezer") || (dir.place.hierarchy.unified && freezer.fd < 0))
      freezer = {dir.fd.get(), &dir.place, dir.place.hierarchy.unified};
  if (freezer.fd < 0) return lacks("freezer");
  return freezer.unified ? freeze_v2(freezer) : freeze_v1(freezer);
}

Result<void> Group::thaw() {
  for (const Dir& dir : dirs_) {
    const Freezer freezer{dir.fd.get(), &dir.place, dir.place.hierarchy.unified};
    std::string state;
    if (freezer.unified) {
      const int err = write_control(freezer.fd, "cgroup.freeze", "0");
      if (err != 0 && err != ENOENT) return Error::from_errno(err, "thaw control group ", show(dir.place));
      if (err == 0) TRY(wait_frozen_v2(freezer, "0"));
    } else if (has_v1(dir.place, "freezer")) {
      int err = write_control(freezer.fd, "freezer.state", "THAWED");
      if (err == 0) err = read_control(freezer.fd, "freezer.state", state);
      if (err != 0) return Error::from_errno(err, "thaw control group ", show(dir.place));
      if (chomp(state) != "THAWED") return held_from_above(dir.place, "a group above it");
    }
  }
  return {};
}

Result<bool> Group::frozen() const {
  for (const Dir& dir : dirs_) {
    std::string text;
    if (dir.place.hierarchy.unified && read_control(dir.fd.get(), "cgroup.events", text) == 0 &&
        keyed(text, "frozen") == "1")
      return true;
    if (has_v1(dir.place, "freezer") && read_control(dir.fd.get(), "freezer.state", text) == 0 &&
        chomp(text) != "THAWED")
      return true;
  }
  return false;
}

bool Group::is_told_to_freeze() const {
  return std::ranges::any_of(dirs_, [](const Dir& dir) {
    std::string text;
    const char* file = dir.place.hierarchy.unified    ? "cgroup.freeze"
                       : has_v1(dir.place, "freezer") ? "freezer.self_freezing"
                                                      : nullptr;
    return file != nullptr && read_control(dir.fd.get(), file, text) == 0 && chomp(text) == "1";
  });
}

namespace {

// One read has the whole of these two files: a line or two.
std::string_view read_short(const std::string& path, std::array<char, 256>& buffer) {
  const auto file = sys::open_at(AT_FDCWD, path.c_str(), O_RDONLY | O_NOFOLLOW | O_NOCTTY);
  const ssize_t got = file ? ::read(file->get(), buffer.data(), buffer.size()) : 0;
  return {buffer.data(), got > 0 ? static_cast<std::size_t>(got) : 0};
}

bool is_frozen_at(std::string_view mount_point, std::string_view path, std::string_view controllers) {
  const bool unified = controllers.empty();
  if (!unified && !has_word(controllers, "freezer")) return false;
  std::array<char, 256> buffer{};
  const auto text = read_short(str(mount_point, path, unified ? "/cgroup.events" : "/freezer.state"), buffer);
  if (text.empty()) return false;
  return unified ? keyed(text, "frozen") == "1" : chomp(text) != "THAWED";
}

}  // namespace

// By path, and not by the group's directories: nothing is done with the answer that a wrong one could harm, and a list
// of containers asks for each.
bool is_frozen(const Location& location) {
  return std::ranges::any_of(location.places, [](const Place& place) {
    return is_frozen_at(place.hierarchy.mount_point, place.path, place.hierarchy.controllers);
  });
}

bool is_frozen(std::string_view location) {
  // The controllers stand between two tabs: "freezer", "cpu,freezer", nothing for the unified hierarchy.
  for (const std::string_view sign : {std::string_view("freezer"), std::string_view("\t\t")})
    for (auto at = location.find(sign); at != std::string_view::npos; at = location.find(sign, at + 1)) {
      // The first line is the layout.
      const auto before = location.rfind('\n', at);
      if (before == std::string_view::npos) continue;
      const std::string_view line = location.substr(before + 1, location.find('\n', at) - before - 1);
      const auto path = split_once(line, '\t');
      const auto more = path ? split_once(path->second, '\t') : std::nullopt;
      if (more && is_frozen_at(more->second, path->first, more->first)) return true;
      at = before + line.size();
    }
  return false;
}

namespace {

bool is_linux_6_1() {
  utsname system{};
  if (::uname(&system) != 0) return false;
  const auto major = split_once(system.release, '.');
  if (!major) return false;
  const int first = parse_int<int>(major->first).value_or(0);
  const int second = parse_int<int>(major->second.substr(0, major->second.find_first_not_of("0123456789"))).value_or(0);
  return first > 6 || (first == 6 && second >= 1);
}

}  // namespace

// Since Linux 6.1 whatever the v1 freezer holds has a state of its own, which is shown as uninterruptible sleep
// (TASK_FROZEN, __task_state_index()). The freezer of v2 lets it look like an ordinary sleep.
bool may_be_frozen(std::string_view location, char state) {
  static const bool shows = is_linux_6_1();
  return state == 'D' || !shows || !location.starts_with("v1\n");
}

void Group::thaw_quietly() {
  for (const Dir& dir : dirs_) {
    if (dir.place.hierarchy.unified) (void)write_control(dir.fd.get(), "cgroup.freeze", "0");
    if (has_v1(dir.place, "freezer")) (void)write_control(dir.fd.get(), "freezer.state", "THAWED");
  }
}

// The kernel's own kill takes everything in the unified group at once, children just being forked included. False:
// there is none, or the group is threaded and has none.
bool Group::strike_unified() {
  bool struck = false;
  for (const Dir& dir : dirs_)
    if (dir.place.hierarchy.unified) struck = write_control(dir.fd.get(), "cgroup.kill", "1") == 0;
  struck_ = struck_ || struck;
  return struck;
}

// By number: frozen, so that no one forks away (attack A88); each held by a pidfd, and struck only if it is still
// listed once it is held, so that a number that was given anew is nobody else's death.
void Group::strike_members() {
  for (const Dir& dir : dirs_)
    if (has_v1(dir.place, "freezer")) (void)write_control(dir.fd.get(), "freezer.state", "FROZEN");
  if (const auto listed = processes()) {
    const std::vector<Victim> victims = hold(*listed);
    if (const auto again = processes())
      for (const Victim& victim : victims)
        if (std::ranges::binary_search(*again, victim.pid)) (void)sys::signal_pidfd(victim.pidfd.get(), SIGKILL);
  }
  thaw_quietly();
}

// Somebody may have put a member into a freezer of his own, where no signal ends it: in ours, which is thawed, one
// does.
void Group::take_back(const std::vector<pid_t>& members) {
  for (const Dir& dir : dirs_) {
    if (!has_v1(dir.place, "freezer")) continue;
    std::vector<pid_t> here;
    if (!read_tree(dir.fd.get(), here)) continue;
    for (const pid_t pid : members)
      if (std::ranges::find(here, pid) == here.end()) (void)write_control(dir.fd.get(), "cgroup.procs", str(pid));
  }
}

void Group::wait_for_deaths(const Deadline& end) const {
  const Deadline look(std::min(kLook, std::chrono::duration_cast<std::chrono::milliseconds>(end.left())));
  for (const Dir& dir : dirs_) {
    if (!dir.place.hierarchy.unified) continue;
    EventFile events(dir.fd.get(), "cgroup.events");
    while (keyed(events.read(), "populated") == "1" && !look.passed()) events.wait(look);
  }
}

Result<void> Group::kill_all(std::chrono::milliseconds deadline) {
  Deadline end(deadline);
  std::size_t fewest = std::numeric_limits<std::size_t>::max();
  bool by_number = !strike_unified();
  if (!by_number) {
    // Tasks that the v1 freezer holds die only once they are let go.
    thaw_quietly();
    wait_for_deaths(end);
  }
  for (Pause pause;; pause.sleep(end)) {
    const std::vector<pid_t> left = TRY(processes());
    if (left.empty()) break;
    // As long as they get fewer the time starts again: on a machine that is short of CPU dying takes long, too.
    const bool fewer = left.size() < std::exchange(fewest, std::min(fewest, left.size()));
    if (fewer) end = Deadline(deadline);
    else take_back(left);
    if (end.passed()) return undead(left, deadline);
    // Whoever is still there after the unified kill is a member on v1 only, or on its way out of the kernel.
    by_number = true;
    strike_members();
    wait_for_deaths(end);
  }
  if (by_number) thaw_quietly();
  return {};
}

}  // namespace skink::cgroup
