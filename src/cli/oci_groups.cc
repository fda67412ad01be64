// SPDX-License-Identifier: Apache-2.0
#include "cli/oci_groups.h"

#include <algorithm>

namespace skink::cli {
namespace {

bool same_place(const state::Record& one, const state::Record& other) {
  if (one.unit || other.unit) return one.unit == other.unit;
  if (!one.cgroup || !other.cgroup) return false;
  return std::ranges::equal(
      one.cgroup->places, other.cgroup->places, [](const cgroup::Place& mine, const cgroup::Place& theirs) {
        return mine.path == theirs.path && mine.hierarchy.mount_point == theirs.hierarchy.mount_point;
      });
}

// Reads every record, but only where a dead container's groups have processes.
bool is_named_by_another(const state::Root& root, const state::Record& record) {
  const auto names = root.list();
  if (!names) return true;
  return std::ranges::any_of(*names, [&](const std::string& name) {
    const auto id = state::ContainerId::parse(name);
    if (!id || name == record.id) return false;
    const auto other = root.look(*id);
    return other && same_place(record, other->record());
  });
}

}  // namespace

bool has_processes(const state::Record& record) {
  if (!record.cgroup) return false;
  const auto group = cgroup::Group::open(*record.cgroup);
  const auto pids = group ? group->processes() : Result<std::vector<pid_t>>(std::vector<pid_t>{});
  return !pids || !pids->empty();
}

bool owns_its_groups(const state::Root& root, const state::Record& record, bool lives) {
  return lives || !is_named_by_another(root, record);
}

}  // namespace skink::cli
