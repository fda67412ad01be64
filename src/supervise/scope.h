// SPDX-License-Identifier: Apache-2.0
// Where the control groups of a supervised container are. On hosts that systemd runs with cgroup v2 that is a scope of
// its own, with guard and supervisor in one group and the container in another one beside it; `systemctl status` shows
// them together, and the end of the session that started them is not theirs (fault F37). Elsewhere it is /skink/ID for
// the container alone.
//
//   skink.slice/skink-ID.scope/supervisor    the guard and the supervisor
//                             /container     the container, with its limits
#pragma once

#include <csignal>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "base/result.h"
#include "cgroup/cgroup.h"
#include "cgroup/unit.h"
#include "supervise/records.h"

namespace skink::supervise {

/// Where the container's own groups will be. Nothing is made, and systemd is not asked.
Result<cgroup::Location> plan_groups(const std::string& id);
/// Where they are on a host without systemd.
Result<cgroup::Location> plan_plain_groups(const std::string& id);
/// Both, as far as this host has them: for who has no record of which it was. A host with systemd has containers in
/// either, as its bus may not have been there for whoever started one.
Result<std::vector<cgroup::Location>> possible_groups(const std::string& id);
/// Whether a location from a record is one that a container of this id can have (attack A36).
bool is_own_location(const cgroup::Location& location, const std::string& id);
/// The location on record in RUN/containers/ID. Errors: not_found when there is none; corrupt when it is damaged or
/// another container's.
Result<cgroup::Location> read_groups(int run_dir_fd, const std::string& id);

/// What of the memory of guard and supervisor the kernel does not take back, however short of it the host is (attack
/// A91): theirs is less, but for what of the program's file is counted there.
inline constexpr std::uint64_t kProtectedMemory = 2U << 20;
/// Asks the kernel for that, for the keepers' own group beside the container's at `location`. There is nothing alike
/// without such a group, and on cgroup v1.
void protect_keepers(const cgroup::Location& location, const std::string& id);

/// What systemd sends to every process of the scope when it stops it, as `systemctl stop` or a shutdown asks
/// (KillSignal of man 5 systemd.kill). Unasked, all but the supervisor ignore it: SIGTERM would reach the container
/// beside its own stop signal, and each of its processes.
inline constexpr int kScopeStopSignal = SIGURG;

/// What systemd is told of the scope of a container that has this long to stop, before these units do.
std::vector<cgroup::Property> properties_of_scope(std::int64_t stop_timeout_ns,
                                                  const std::vector<std::string>& stopped_after);

/// Where the guard is to be made; nothing on hosts without systemd.
struct GuardGroup {
  std::optional<cgroup::Group> group;
  std::optional<cgroup::Placeholder> placeholder;  ///< in that group; keeps the scope until the guard is in it
};
/// Opens the scope at `location`, of a container that is being brought back, or has systemd start it. Errors:
/// unsupported when systemd does not answer.
Result<GuardGroup> enter_scope(const Container& container, const cgroup::Location& location);

}  // namespace skink::supervise
