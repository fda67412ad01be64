// SPDX-License-Identifier: Apache-2.0
// A container's groups made by systemd: a transient scope (or slice) with Delegate, so that what is below it is ours
// and systemd knows of it. man 5 systemd.scope, systemd.slice, org.freedesktop.systemd1;
// systemd.io/CGROUP_DELEGATION.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/result.h"
#include "cgroup/bus.h"
#include "cgroup/cgroup.h"
#include "oci/spec.h"

namespace skink::cgroup {

/// Which unit, of which systemd. Pure data, kept in the state file before the unit is asked for.
struct Unit {
  std::string name;   ///< "libpod-0123.scope", or "pod1.slice"
  std::string slice;  ///< that it is in, "machine.slice"; "-.slice" is the root
  bus::Manager manager = bus::Manager::system;
  [[nodiscard]] bool is_slice() const { return name.ends_with(".slice"); }
  bool operator==(const Unit&) const = default;
};

/// linux.cgroupsPath as SLICE:PREFIX:NAME: the scope PREFIX-NAME.scope in SLICE, or, if NAME ends in ".slice", the
/// slice of that name. An empty SLICE is system.slice (user.slice of a user's own systemd), "-" the root; an empty path
/// is skink-ID.scope there. Errors: invalid_config.
Result<Unit> parse_unit(std::string_view cgroups_path, std::string_view id, bus::Manager manager);

/// A property's name and value, as StartTransientUnit and SetUnitProperties take them.
using Property = std::pair<std::string, bus::Value>;

/// What is in force in a group: half of a pair of limits is counted with the other half of it.
struct InForce {
  std::optional<std::int64_t> cpu_quota;     ///< microseconds, -1 for none
  std::optional<std::uint64_t> cpu_period;   ///< microseconds
  std::optional<std::int64_t> memory_limit;  ///< bytes, -1 for none
};
InForce in_force(const Group& group);
/// A quota of processor time without its period, or the other way round, with that in force beside it: systemd's own
/// rounding is not to become part of it.
oci::Resources with_other_half(oci::Resources resources, const InForce& now);

/// What systemd has to know of the limits, since it writes these files itself whenever it looks at the unit again: on
/// v2 MemoryMax, MemoryLow, MemorySwapMax, CPUWeight, CPUQuotaPerSecUSec, CPUQuotaPeriodUSec, AllowedCPUs,
/// AllowedMemoryNodes, TasksMax, IOWeight and their like in `unified`; on v1 and hybrid hosts MemoryLimit, CPUShares,
/// BlockIOWeight, and the device rules. All else is written to the group alone. `systemd` is the manager's version.
Result<std::vector<Property>> limit_properties(const oci::Resources& resources, Layout layout, unsigned systemd,
                                               const InForce& now = {});

/// What it has to know of them once, when a scope is made: OOMPolicy for `memory.oom.group` in `unified`, which scopes
/// have from 253 on. Without, a scope with Delegate goes on when the OOM killer has ended one of its processes.
std::vector<Property> scope_properties(const oci::Resources& resources, Layout layout, unsigned systemd);

/// The annotations org.systemd.property.NAME, whose values are GVariant texts. NAMEs in ...Sec are the same in ...USec,
/// in seconds. They come from the operator: `skink` passes none of an image on (attack A18). Errors: invalid_config
/// that names the annotation.
Result<std::vector<Property>> annotated_properties(const std::map<std::string, std::string>& annotations);

// All of these stand a systemd that executes itself anew meanwhile.

/// Starts the unit and waits until it is there. A scope has to have a process from its beginning and ends with its last
/// one: `pid` is moved into it. A unit of that name that has failed is forgotten first. Returns its groups, on every
/// hierarchy; those that systemd does not manage are not made yet. Errors: exists when there is a living unit of that
/// name.
Result<Location> start_unit(const Unit& unit, pid_t pid, std::string_view description,
                            std::vector<Property> properties);

/// Has systemd move a process into the unit, or into the group `below` it ("/a", or empty).
Result<void> move_into_unit(const Unit& unit, std::string_view below, pid_t pid);

/// Changes limits of a unit that is there, until it ends.
Result<void> change_unit(const Unit& unit, std::vector<Property> properties);

/// Kills what is in the unit, stops it and waits until it is gone. One that is not there is no error.
Result<void> stop_unit(const Unit& unit);

/// Whether a unit of that name is there and has this description.
Result<bool> is_described(const Unit& unit, std::string_view description);

/// Those of the units of the system's systemd that are there and active, or on their way to be or from having been.
Result<std::vector<std::string>> active_of(const std::vector<std::string>& units);

/// On v1, takes away the directories of slices above `location` that are empty, on the hierarchies that systemd does
/// not manage: it makes slices and removes them elsewhere, and these were made by us on the way to a unit's group.
void drop_empty_slices(const Location& location);

/// Whether the system's systemd is taking the machine down: stops, restarts and what else ends at shutdown.target.
Result<bool> is_going_down();

/// The version of the systemd that is asked, 252.
Result<unsigned> systemd_version(bus::Manager manager);

/// A process that does nothing, in a group of its caller's until systemd moves it; a scope needs one before the
/// container's process can be made in it. It ends when its maker ends.
class Placeholder {
 public:
  /// With `group_fd`, a directory of cgroup v2, it is made in that group.
  static Result<Placeholder> start(int group_fd = -1);
  Placeholder(Placeholder&& other) noexcept : pid_(std::exchange(other.pid_, -1)) {}
  Placeholder& operator=(Placeholder&& other) noexcept;
  Placeholder(const Placeholder&) = delete;
  Placeholder& operator=(const Placeholder&) = delete;
  ~Placeholder() { end(); }
  [[nodiscard]] pid_t pid() const { return pid_; }
  /// Kills and reaps it.
  void end();

 private:
  explicit Placeholder(pid_t pid) : pid_(pid) {}
  pid_t pid_;
};

}  // namespace skink::cgroup
