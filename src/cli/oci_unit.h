// SPDX-License-Identifier: Apache-2.0
// Control groups by systemd for skink-oci (--systemd-cgroup): the unit of a container from create to delete.
#pragma once

#include <functional>
#include <optional>
#include <string>
#include <string_view>

#include "base/result.h"
#include "cgroup/cgroup.h"
#include "cgroup/unit.h"
#include "oci/spec.h"
#include "state/state.h"

namespace skink::cli {

/// Whether a linux.cgroupsPath is one for systemd, SLICE:PREFIX:NAME.
[[nodiscard]] bool is_unit_path(std::string_view cgroups_path);

/// The unit that `cgroups_path` means, of the systemd that this caller's containers belong to. Nothing is asked yet.
Result<cgroup::Unit> unit_of(std::string_view cgroups_path, std::string_view id);

/// A unit that has been started, and the process in it until the container's own is there.
struct UnitGroup {
  cgroup::Group group;
  cgroup::Placeholder placeholder;
  std::optional<std::int64_t> pids_limit;  ///< still to be set, since the placeholder counts as well
};

/// Starts the unit of the container's record, puts its groups on record, and sets the limits, in systemd and in the
/// groups.
Result<UnitGroup> make_unit_group(state::Container& container, const oci::Spec& spec, oci::Resources resources);

/// How a process gets into `group` of the container's, which the kernel does not let us put it into: systemd does it.
/// Empty for a container that is no scope.
std::function<Result<void>(pid_t)> attach_by_systemd(const state::Record& record, const cgroup::Group& group);

/// Ends the placeholder; the unit lives as long as the container does.
Result<void> leave_to_container(UnitGroup& made, cgroup::Group& group, const cgroup::Unit& unit);

/// Tells systemd of limits that are being changed: once they are in force, and then once more by us, since systemd
/// rounds.
Result<void> change_limits(const state::Record& record, cgroup::Group& group, const oci::Resources& resources);

/// For a create that ended before the groups were on record: stops a unit that can have stayed, if it is this
/// container's.
Result<void> end_unrecorded_unit(const state::Container& container);

/// Kills everything in the unit, stops it, and removes what is left of its groups.
Result<void> end_unit(const state::Record& record);

}  // namespace skink::cli
