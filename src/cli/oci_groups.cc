// SPDX-License-Identifier: Apache-2.0
#include "cli/oci_groups.h"

#include <algorithm>

#include "sys/descriptors.h"

namespace skink::cli {
namespace {

// A unit counts once its groups are on record: before, it may be another's still.
bool same_place(const state::Record& one, const state::Record& other) {
  if (!other.cgroup) return false;
  if (one.unit || other.unit) return one.unit == other.unit;
  if (!one.cgroup) return false;
  return std::ranges::equal(
      one.cgroup->places, other.cgroup->places, [](const cgroup::Place& mine, const cgroup::Place& theirs) {
        return mine.path == theirs.path && mine.hierarchy.mount_point == theirs.hierarchy.mount_point;
      });
}

// A place with processes in it is given to nobody: what is there now is the youngest one's. Of a record that cannot be
// read nobody knows.
Result<bool> is_anothers(const state::Root& root, const state::Record& record) {
  const auto names = root.list();
  if (!names && sys::is_want_of_descriptors(names.error())) return Error(names.error());
  if (!names) return true;
  for (const std::string& name : *names) {
    const auto id = state::ContainerId::parse(name);
    if (!id || name == record.id) continue;
    const auto other = root.look(*id);
    if (!other && sys::is_want_of_descriptors(other.error())) return Error(other.error());
    if (!other && other.error().code() == Code::not_found) continue;
    if (!other) return true;
    if (same_place(record, other->record()) && other->record().created > record.created) return true;
  }
  return false;
}

}  // namespace

bool has_processes(const state::Record& record) {
  if (!record.cgroup) return false;
  const auto group = cgroup::Group::open(*record.cgroup);
  const auto pids = group ? group->processes() : Result<std::vector<pid_t>>(std::vector<pid_t>{});
  return !pids || !pids->empty();
}

Result<bool> owns_its_groups(const state::Root& root, const state::Record& record, bool lived) {
  if (lived) return true;
  if (record.cgroup && record.group_id != 0) {
    const std::uint64_t now = cgroup::identity_of(*record.cgroup);
    if (now == 0) return true;  // nothing is there
    if (now != record.group_id) return false;
  }
  return !TRY(is_anothers(root, record));
}

}  // namespace skink::cli
