// SPDX-License-Identifier: Apache-2.0
#include "cli/oci_unit.h"

#include <algorithm>
#include <chrono>

#include "base/text.h"

namespace skink::cli {
namespace {

constexpr std::chrono::milliseconds kKillDeadline{10'000};

bool wants_idle(const oci::Resources& resources) {
  return (resources.cpu && resources.cpu->idle.value_or(0) == 1) || resources.unified.contains("cpu.idle");
}

// Which property says "idle" depends on the version; nothing else does.
Result<std::vector<cgroup::Property>> limits(const oci::Resources& resources, const cgroup::Unit& unit,
                                             const cgroup::InForce& now) {
  const auto host = TRY(cgroup::detect());
  const unsigned version = wants_idle(resources) ? TRY(cgroup::systemd_version(unit.manager)) : 0;
  return cgroup::limit_properties(resources, host.layout, version, now);
}

}  // namespace

bool is_unit_path(std::string_view cgroups_path) {
  return !cgroups_path.starts_with('/') && std::ranges::count(cgroups_path, ':') == 2;
}

Result<cgroup::Unit> unit_of(std::string_view cgroups_path, std::string_view id) {
  return cgroup::parse_unit(cgroups_path, id, cgroup::bus::callers_manager());
}

Result<UnitGroup> make_unit_group(state::Container& container, const oci::Spec& spec, oci::Resources resources) {
  state::Record record = container.record();
  const cgroup::Unit& unit = *record.unit;
  // Where one process is all that is allowed, the container's would not come in beside the placeholder.
  std::optional<std::int64_t> pids_limit;
  if (resources.pids_limit && (*resources.pids_limit == 0 || *resources.pids_limit == 1))
    pids_limit = std::exchange(resources.pids_limit, 2);
  auto properties = TRY(limits(resources, unit, {}));
  for (auto& property : TRY(cgroup::annotated_properties(spec.annotations))) properties.push_back(std::move(property));
  auto placeholder = TRY(cgroup::Placeholder::start());
  // Killed from here on, we leave nothing: the placeholder ends with us, and with it the scope.
  record.cgroup =
      TRY_CTX(cgroup::start_unit(unit, placeholder.pid(), str("skink container ", record.id), std::move(properties)),
              "linux.cgroupsPath");
  TRY(container.save(record));
  auto group = TRY(cgroup::Group::adopt(*record.cgroup));
  TRY(group.apply(resources));
  return UnitGroup{std::move(group), std::move(placeholder), pids_limit};
}

Result<void> leave_to_container(UnitGroup& made, cgroup::Group& group, const cgroup::Unit& unit) {
  made.placeholder.end();
  if (!made.pids_limit) return {};
  oci::Resources resources;
  resources.pids_limit = made.pids_limit;
  TRY(group.apply(resources));
  return cgroup::change_unit(unit, TRY(limits(resources, unit, {})));
}

Result<void> change_limits(const state::Record& record, cgroup::Group& group, const oci::Resources& resources) {
  const cgroup::InForce before = cgroup::in_force(group);
  TRY(group.apply(resources));
  if (!record.unit) return {};
  TRY(cgroup::change_unit(*record.unit, TRY(limits(resources, *record.unit, before))));
  return group.apply(resources);
}

Result<void> end_unit(const state::Record& record) {
  if (auto group = cgroup::Group::open(*record.cgroup)) TRY(group->kill_all(kKillDeadline));
  const auto stopped = cgroup::stop_unit(*record.unit);
  // Without a systemd to ask there is no unit either, and the groups are only directories.
  if (!stopped && stopped.error().code() != Code::unsupported) return stopped;
  return cgroup::Group::remove(*record.cgroup, kKillDeadline);
}

}  // namespace skink::cli
