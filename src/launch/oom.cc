// SPDX-License-Identifier: Apache-2.0
#include "launch/oom.h"

#include "base/text.h"
#include "sys/process.h"

namespace skink::launch {

OomWatch::OomWatch(cgroup::Location location)
    : location_(std::move(location)), before_(cgroup::oom_kills_in(*location_)) {}

bool OomWatch::has_killed() const { return location_ && cgroup::oom_kills_in(*location_) > before_; }

// A socket ends with execve or with the process. The kernel closes what is close-on-exec before it gives the new name,
// so the name alone says nothing of a process that lives; but one that is on its way out under ours has never been
// another.
bool OomWatch::has_killed_init(pid_t pid) const {
  if (!has_killed()) return false;
  const auto last = sys::last_name(pid);
  return last && last->ended && last->name == "skink-init";
}

std::string OomWatch::limit() const {
  const auto group = location_ ? cgroup::Group::open(*location_) : Result<cgroup::Group>(cgroup::Group());
  if (!group) return {};
  constexpr std::string_view kWayOut = "; raise it, by -m or linux.resources.memory.limit";
  if (const auto hit = group->memory_limit_hit())
    return str("control group ", printable(hit->path), " may use ", hit->bytes, " bytes and has hit that limit ",
               hit->hits, " times (", hit->counter, ")", kWayOut);
  const auto stats = group->stats();
  if (!stats || !stats->memory_limit) return {};
  return str("control group ", printable(location_->places.front().path), " may use ", *stats->memory_limit, " bytes",
             kWayOut);
}

// The first words are runc's, which engines and test suites know.
std::string OomWatch::words() const {
  const std::string hit = limit();
  return str("container init was OOM-killed (memory limit too low?): oom_kill ",
             location_ ? cgroup::oom_kills_in(*location_) - before_ : 0, ", ",
             hit.empty() ? "and no group around it has a limit: it is the host that has run out of memory" : hit);
}

}  // namespace skink::launch
