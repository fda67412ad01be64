// SPDX-License-Identifier: Apache-2.0
#include "cli/oci_unit.h"

#include <fcntl.h>

#include <algorithm>
#include <chrono>

#include "base/text.h"
#include "sys/file.h"

namespace skink::cli {
namespace {

constexpr std::chrono::milliseconds kUnitDeadline{10'000};

// Which properties say these two depends on the version; nothing else does.
bool wants_version(const oci::Resources& resources) {
  return (resources.cpu && resources.cpu->idle.value_or(0) == 1) || resources.unified.contains("cpu.idle") ||
         resources.unified.contains("memory.oom.group");
}

Result<std::vector<cgroup::Property>> limits(const oci::Resources& resources, const cgroup::Unit& unit,
                                             const cgroup::InForce& now, bool is_new = false) {
  const auto host = TRY(cgroup::detect());
  const unsigned version = wants_version(resources) ? TRY(cgroup::systemd_version(unit.manager)) : 0;
  auto properties = TRY(cgroup::limit_properties(resources, host.layout, version, now));
  if (!is_new || unit.is_slice()) return properties;
  for (auto& property : cgroup::scope_properties(resources, host.layout, version))
    properties.push_back(std::move(property));
  return properties;
}

// For people; and a slice, which outlives its maker, is told from one of the same name by it.
std::string description_of(const state::Container& container) {
  const state::Record& record = container.record();
  std::string text = str("skink container ", record.id);
  if (!record.unit->is_slice()) return text;
  const auto directory = sys::readlink_at(AT_FDCWD, str("/proc/self/fd/", container.dir_fd()).c_str());
  return str(text, " in ", directory ? printable(*directory) : "");
}

// systemd does not say which property it does not like; it is seldom one of ours.
Error with_annotations(Error error, const std::vector<cgroup::Property>& annotated) {
  if (annotated.empty() || error.code() != Code::os) return error;
  std::string names;
  for (const auto& property : annotated) names += str(names.empty() ? "" : ", ", property.first);
  return Error::make(Code::os, error.text(), "; annotations ask for ", names);
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
  // Until the container's own process is there, the placeholder and, where a namespace is joined, the stage that joins
  // count as well.
  constexpr std::int64_t kForLaunch = 3;
  std::optional<std::int64_t> pids_limit;
  if (const auto file = resources.unified.find("pids.max"); file != resources.unified.end())
    if (const auto number = parse_int<std::int64_t>(file->second); number && *number >= 0 && *number < kForLaunch) {
      resources.unified.erase(file);
      resources.pids_limit = number;
    }
  if (resources.pids_limit && *resources.pids_limit >= 0 && *resources.pids_limit < kForLaunch)
    pids_limit = std::exchange(resources.pids_limit, kForLaunch);
  auto properties = TRY(limits(resources, unit, {}, true));
  const auto annotated = TRY(cgroup::annotated_properties(spec.annotations));
  properties.insert(properties.end(), annotated.begin(), annotated.end());
  auto placeholder = TRY(cgroup::Placeholder::start());
  // Killed from here on, we leave nothing: the placeholder ends with us, and with it the scope.
  auto started = cgroup::start_unit(unit, placeholder.pid(), description_of(container), std::move(properties));
  if (!started) return with_annotations(std::move(started).error(), annotated).context("linux.cgroupsPath");
  record.cgroup = *std::move(started);
  TRY(container.save(record));
  auto group = TRY(cgroup::Group::adopt(*record.cgroup));
  TRY(group.apply(resources));
  return UnitGroup{std::move(group), std::move(placeholder), pids_limit};
}

std::function<Result<void>(pid_t)> attach_by_systemd(const state::Record& record, const cgroup::Group& group) {
  if (!record.unit || record.unit->is_slice() || !record.cgroup || record.cgroup->layout != cgroup::Layout::v2)
    return {};
  const std::string top = record.cgroup->places.front().path, path = group.location().places.front().path;
  const std::string below = path.starts_with(top + "/") ? path.substr(top.size()) : "";
  return [unit = *record.unit, below](pid_t pid) { return cgroup::move_into_unit(unit, below, pid); };
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
  return group.apply(cgroup::with_other_half(resources, before));
}

Result<void> end_unrecorded_unit(const state::Container& container) {
  const cgroup::Unit& unit = *container.record().unit;
  // A scope has ended with its placeholder.
  if (!unit.is_slice()) return {};
  const auto ours = cgroup::is_described(unit, description_of(container));
  if (!ours && ours.error().code() == Code::unsupported && ours.error().errnum() != ECONNREFUSED) return {};
  return TRY(ours) ? cgroup::stop_unit(unit) : Result<void>{};
}

Result<void> end_unit(const state::Record& record) {
  if (auto group = cgroup::Group::open(*record.cgroup)) TRY(group->kill_all(kUnitDeadline));
  // A scope ends with its group, and its name is free for somebody else's then. Without a record of it there is only
  // the name.
  const bool is_over =
      !record.unit->is_slice() && !record.cgroup->places.empty() && cgroup::identity_of(*record.cgroup) == 0;
  const auto stopped = is_over ? Result<void>{} : cgroup::stop_unit(*record.unit);
  // A scope without processes ends by itself, as soon as there is a systemd that sees it: that it cannot be asked now
  // does not keep the container. A slice would stay, unless it is gone with systemd.
  if (!stopped && record.unit->is_slice() && stopped.error().code() != Code::unsupported) return stopped;
  TRY(cgroup::Group::remove(*record.cgroup, kUnitDeadline));
  cgroup::drop_empty_slices(*record.cgroup);
  return {};
}

}  // namespace skink::cli
