// SPDX-License-Identifier: Apache-2.0
// What a group has used, from v1 and unified files alike.
#include <fcntl.h>

#include <algorithm>
#include <iterator>
#include <optional>
#include <utility>
#include <vector>

#include "base/text.h"
#include "cgroup/cgroup.h"
#include "cgroup/control_file.h"
#include "cgroup/tree.h"

namespace skink::cgroup {
namespace {

void read_v1(std::string_view controllers, int fd, Stats& stats) {
  if (has_word(controllers, "cpuacct")) stats.cpu_ns = read_number(fd, "cpuacct.usage");
  if (has_word(controllers, "memory")) {
    stats.memory_bytes = read_number(fd, "memory.usage_in_bytes");
    stats.memory_limit = below_no_limit(read_number(fd, "memory.limit_in_bytes"));
  }
  if (has_word(controllers, "pids")) {
    stats.pids = read_number(fd, "pids.current");
    stats.pids_limit = read_number(fd, "pids.max");
  }
}

// Only what no v1 hierarchy has told already: on hybrid hosts cpu.stat is in both.
void read_unified(int fd, Stats& stats) {
  std::string text;
  if (!stats.cpu_ns && read_control(fd, "cpu.stat", text) == 0)
    if (const auto usec = number_in(keyed(text, "usage_usec"))) stats.cpu_ns = *usec * 1000;
  if (!stats.memory_bytes) {
    stats.memory_bytes = read_number(fd, "memory.current");
    stats.memory_limit = read_number(fd, "memory.max");
  }
  if (!stats.pids) {
    stats.pids = read_number(fd, "pids.current");
    stats.pids_limit = read_number(fd, "pids.max");
  }
}

// v1 counts in the very group of the process that died; the unified memory.events counts for all below it.
std::uint64_t oom_kills_v1(int dir_fd) {
  std::uint64_t sum = 0;
  Visitor visitor;
  visitor.enter = [&](int fd) {
    std::string text;
    if (read_control(fd, "memory.oom_control", text) == 0) sum += number_in(keyed(text, "oom_kill")).value_or(0);
  };
  (void)walk_groups(dir_fd, visitor);
  return sum;
}

}  // namespace

Result<Stats> Group::stats() const {
  if (dirs_.empty()) return Error::make(Code::not_found, "the control group is gone");
  Stats stats;
  for (const Dir& dir : dirs_)
    if (!dir.place.hierarchy.unified) read_v1(dir.place.hierarchy.controllers, dir.fd.get(), stats);
  for (const Dir& dir : dirs_)
    if (dir.place.hierarchy.unified) read_unified(dir.fd.get(), stats);
  stats.oom_kills = oom_kills();
  return stats;
}

namespace {

// A limit of the group at `dir_fd`, if it has one and it was hit, by the count of a key of the second file or of the
// file that has nothing else.
std::optional<Group::MemoryLimit> hit_limit(int dir_fd, const char* limit_file, const char* count_file,
                                            std::string_view key = {}) {
  std::string limit, count;
  if (read_control(dir_fd, limit_file, limit) != 0) return std::nullopt;
  if (read_control(dir_fd, count_file, count) != 0) return std::nullopt;
  const auto bytes = number_in(chomp(limit));
  const auto hits = number_in(key.empty() ? chomp(count) : keyed(count, key));
  constexpr std::uint64_t kNoLimit = std::uint64_t{1} << 62;  // v1 shows the largest multiple of a page
  if (!bytes || *bytes >= kNoLimit || hits.value_or(0) == 0) return std::nullopt;
  return Group::MemoryLimit{{}, *bytes, *hits, count_file};
}

// v1 counts failures, v2 what it has killed for.
std::vector<std::optional<Group::MemoryLimit>> hit_limits(int dir_fd, bool unified) {
  if (unified) return {hit_limit(dir_fd, "memory.max", "memory.events.local", "oom")};
  return {hit_limit(dir_fd, "memory.limit_in_bytes", "memory.failcnt"),
          hit_limit(dir_fd, "memory.memsw.limit_in_bytes", "memory.memsw.failcnt")};
}

// Memory and swap together are charged first: with both limits the same it is that one which is hit, and Linux 6.18
// does not count that any more. What was killed there counts for the limit of a group above, too: so this is what is
// left when no limit on the way up says that it was hit.
std::optional<Group::MemoryLimit> uncounted_limit(int dir_fd, bool unified) {
  if (unified) return std::nullopt;
  return hit_limit(dir_fd, "memory.memsw.limit_in_bytes", "memory.oom_control", "oom_kill");
}

}  // namespace

std::vector<Group::MemoryLimit> Group::memory_limits_hit() const {
  std::vector<MemoryLimit> found, uncounted;
  for (const Dir& dir : dirs_) {
    const bool unified = dir.place.hierarchy.unified;
    if (!unified && !has_word(dir.place.hierarchy.controllers, "memory")) continue;
    for (Place place = dir.place; place.path.size() > 1; place.path.resize(place.path.rfind('/'))) {
      const auto group = open_place(place);
      if (!group) break;
      const auto add = [&](std::vector<MemoryLimit>& to, std::optional<MemoryLimit> limit) {
        if (!limit) return;
        limit->path = place.path;
        to.push_back(*std::move(limit));
      };
      for (auto& limit : hit_limits(group->get(), unified)) add(found, std::move(limit));
      add(uncounted, uncounted_limit(group->get(), unified));
    }
  }
  std::ranges::move(uncounted, std::back_inserter(found));
  return found;
}

std::optional<Group::MemoryLimit> Group::memory_limit_hit(std::span<const MemoryLimit> before) const {
  for (auto& limit : memory_limits_hit()) {
    const auto same = [&limit](const MemoryLimit& one) {
      return one.path == limit.path && one.counter == limit.counter && one.hits >= limit.hits;
    };
    if (std::ranges::none_of(before, same)) return std::move(limit);
  }
  return std::nullopt;
}

// Of two stages the first one is gone by now, so one is left as it were.
std::string Group::pids_limit_reached() const {
  for (const Dir& dir : dirs_) {
    if (!dir.place.hierarchy.unified && !has_word(dir.place.hierarchy.controllers, "pids")) continue;
    for (Place place = dir.place; place.path.size() > 1; place.path.resize(place.path.rfind('/'))) {
      const auto group = open_place(place);
      std::string limit, count;
      if (!group || read_control(group->get(), "pids.max", limit) != 0) break;
      if (read_control(group->get(), "pids.current", count) != 0) break;
      const auto most = number_in(chomp(limit)), now = number_in(chomp(count));
      if (most && now && *now + 1 >= *most)
        return str("control group ", printable(place.path), " may have ", *most,
                   *most == 1 ? " process or thread" : " processes and threads", " (pids.max)",
                   "; raise that, by --pids-limit or linux.resources.pids.limit");
    }
  }
  return {};
}

std::uint64_t Group::oom_kills() const {
  std::uint64_t most = 0;
  for (const Dir& dir : dirs_) {
    std::string text;
    if (has_word(dir.place.hierarchy.controllers, "memory")) most = std::max(most, oom_kills_v1(dir.fd.get()));
    if (dir.place.hierarchy.unified && read_control(dir.fd.get(), "memory.events", text) == 0)
      most = std::max(most, number_in(keyed(text, "oom_kill")).value_or(0));
  }
  return most;
}

std::uint64_t oom_kills_in(const Location& location) {
  std::uint64_t most = 0;
  for (const Place& place : location.places) {
    const bool unified = place.hierarchy.unified;
    if (!unified && !has_word(place.hierarchy.controllers, "memory")) continue;
    const std::string path =
        str(place.hierarchy.mount_point, place.path, unified ? "/memory.events" : "/memory.oom_control");
    std::string text;
    if (read_control(AT_FDCWD, path.c_str(), text) == 0)
      most = std::max(most, number_in(keyed(text, "oom_kill")).value_or(0));
  }
  return most;
}

}  // namespace skink::cgroup
