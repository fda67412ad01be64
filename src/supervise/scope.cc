// SPDX-License-Identifier: Apache-2.0
#include "supervise/scope.h"

#include <fcntl.h>
#include <sys/stat.h>

#include <algorithm>
#include <array>
#include <bit>
#include <chrono>
#include <limits>

#include "base/text.h"
#include "fs/dir.h"
#include "sys/file.h"

namespace skink::supervise {
namespace {

constexpr std::string_view kSlice = "skink.slice";
constexpr std::string_view kContainerGroup = "/container";
constexpr std::string_view kKeepersGroup = "/supervisor";
constexpr const char* kMemoryMin = "MemoryMin";  // memory.min, man 5 systemd.resource-control
constexpr const char* kMemoryMinFile = "memory.min";
// What a container may need for as long as it takes to stop. Only those that are up: a scope would wait for one that is
// only going to be, and whoever starts a container on the way there with it.
constexpr std::array kStoppedAfter = {"local-fs.target", "remote-fs.target", "network.target"};
// Microseconds, beyond the container's own time to stop: the usual 10 s make it 90 s, which is systemd's own default.
constexpr std::uint64_t kSpareTime = 80'000'000;

std::string scope_of(const std::string& id) { return str("skink-", id, ".scope"); }

// sd_booted(3).
bool is_run_by_systemd() {
  const auto directory = sys::stat_at(AT_FDCWD, "/run/systemd/system", AT_SYMLINK_NOFOLLOW);
  return directory && S_ISDIR(directory->st_mode) && cgroup::bus::callers_manager() == cgroup::bus::Manager::system;
}

// The place of the scope that a container's own group is in; nothing when it is in none.
std::optional<cgroup::Place> scope_place(const cgroup::Location& location, const std::string& id) {
  const std::string end = str('/', scope_of(id), kContainerGroup);
  if (location.layout != cgroup::Layout::v2 || location.places.size() != 1) return std::nullopt;
  cgroup::Place place = location.places.front();
  if (!place.path.ends_with(end)) return std::nullopt;
  place.path.resize(place.path.size() - kContainerGroup.size());
  return place;
}

// A group's protection counts as far as the group above it has that much for all below it. What is too much for them it
// divides among their containers, so it grows with the scopes, by doubling: systemd has to be asked for it.
void protect_slice(const cgroup::Place& scope) {
  const std::string path = str(scope.hierarchy.mount_point, '/', kSlice);
  const auto slice = sys::open_at(AT_FDCWD, path.c_str(), O_RDONLY | O_DIRECTORY | O_NOFOLLOW);
  const auto entries = slice ? fs::list(slice->get()) : Result<std::vector<fs::Entry>>(slice.error());
  const auto text = slice ? fs::read_file(slice->get(), kMemoryMinFile, 64) : Result<std::string>(slice.error());
  if (!entries || !text) return;
  const auto scopes = static_cast<std::uint64_t>(
      std::ranges::count_if(*entries, [](const fs::Entry& one) { return one.name.ends_with(".scope"); }));
  const auto present = parse_int<std::uint64_t>(std::string_view(*text).substr(0, text->find('\n')));
  if (!present || *present >= scopes * kProtectedMemory) return;  // no number: "max"
  cgroup::Unit unit;
  unit.name = std::string(kSlice);
  // What it refuses changes nothing else.
  (void)cgroup::change_unit(unit, {{kMemoryMin, cgroup::bus::u64(std::bit_ceil(scopes) * kProtectedMemory)}});
}

Result<void> start_scope(const Container& container, pid_t first) {
  cgroup::Unit unit;
  unit.name = scope_of(container.id);
  unit.slice = kSlice;
  const auto reached = TRY(cgroup::active_of({kStoppedAfter.begin(), kStoppedAfter.end()}));
  const auto properties = properties_of_scope(container.stop_timeout_ns, reached);
  const std::string& what = container.image.empty() ? container.bundle : container.image;
  const std::string description = printable(str("skink container ", container.name, " (", what, ")"));
  auto started = cgroup::start_unit(unit, first, description, properties);
  if (!started && started.error().code() == Code::exists) {
    // Nobody supervises the container, so what is left of its last scope is only about to go.
    TRY(cgroup::stop_unit(unit));
    started = cgroup::start_unit(unit, first, description, properties);
  }
  if (!started) return std::move(started).error();
  return {};
}

// systemd and we see the end of a scope at different times: it may be gone while those who were in it are still dying.
bool is_given_up(const std::string& id) {
  cgroup::Unit unit;
  unit.name = scope_of(id);
  const auto active = cgroup::active_of({unit.name});
  return active && active->empty();
}

// The keepers' group, with a process in it: what has one is not removed.
Result<GuardGroup> enter_keepers_group(cgroup::Place scope) {
  scope.path += kKeepersGroup;
  GuardGroup entered;
  entered.group = TRY(cgroup::Group::adopt({cgroup::Layout::v2, {std::move(scope)}}));
  entered.placeholder = TRY(cgroup::Placeholder::start(entered.group->clone_fd()));
  return entered;
}

bool has_processes(const cgroup::Place& scope) {
  const auto group = cgroup::Group::open({cgroup::Layout::v2, {scope}});
  const auto processes = group ? group->processes() : Result<std::vector<pid_t>>(std::vector<pid_t>{});
  return processes && !processes->empty();
}

}  // namespace

std::vector<cgroup::Property> properties_of_scope(std::int64_t stop_timeout_ns,
                                                  const std::vector<std::string>& stopped_after) {
  using namespace cgroup;
  const auto time = static_cast<std::uint64_t>(std::max<std::int64_t>(stop_timeout_ns, 0)) / 1000;
  // At shutdown systemd stops it with everything else, and the supervisor then stops its container.
  // Its signal goes to every process of the scope, so it is one that means nothing to any but the supervisor.
  // How long that may take and how many processes there may be is the container's own setting; systemd's defaults
  // (DefaultTimeoutStopSec, DefaultTasksMax) would cut it short, and the keepers with it.
  std::vector<bus::Value> after;
  for (const std::string& unit : stopped_after) after.push_back(bus::text(unit));
  return {{"DefaultDependencies", bus::boolean(true)},
          {"After", bus::array("s", std::move(after))},
          {"KillSignal", bus::i32(kScopeStopSignal)},
          {"TimeoutStopUSec", bus::u64(time + kSpareTime)},
          {"TasksMax", bus::u64(std::numeric_limits<std::uint64_t>::max())},
          {kMemoryMin, bus::u64(kProtectedMemory)}};
}

Result<cgroup::Location> plan_plain_groups(const std::string& id) {
  return cgroup::locate(TRY(cgroup::detect()), str("/skink/", id));
}

Result<cgroup::Location> plan_groups(const std::string& id) {
  auto possible = TRY(possible_groups(id));
  return std::move(is_run_by_systemd() ? possible.back() : possible.front());
}

Result<std::vector<cgroup::Location>> possible_groups(const std::string& id) {
  const auto host = TRY(cgroup::detect());
  std::vector<cgroup::Location> possible = {TRY(cgroup::locate(host, str("/skink/", id)))};
  // On the older layouts systemd leaves some hierarchies alone: two masters for one container.
  if (host.layout == cgroup::Layout::v2)
    possible.push_back(TRY(cgroup::locate(host, str('/', kSlice, '/', scope_of(id), kContainerGroup))));
  return possible;
}

bool is_own_location(const cgroup::Location& location, const std::string& id) {
  if (scope_place(location, id)) return true;
  return std::ranges::all_of(location.places,
                             [&](const cgroup::Place& place) { return place.path.ends_with(str("/skink/", id)); });
}

Result<cgroup::Location> read_groups(int run_dir_fd, const std::string& id) {
  auto location = TRY(cgroup::parse_location(TRY(fs::read_file(run_dir_fd, kCgroupFile, kRecordLimit))));
  if (!is_own_location(location, id)) return Error::make(Code::corrupt, "the record of its groups names others");
  return location;
}

void protect_keepers(const cgroup::Location& location, const std::string& id) {
  const auto scope = scope_place(location, id);
  if (!scope) return;
  const std::string path = str(scope->hierarchy.mount_point, scope->path, kKeepersGroup, '/', kMemoryMinFile);
  const auto file = sys::open_at(AT_FDCWD, path.c_str(), O_WRONLY | O_NOFOLLOW);
  if (file) (void)sys::write_all(file->get(), str(kProtectedMemory), path);
}

Result<GuardGroup> enter_scope(const Container& container, const cgroup::Location& location) {
  constexpr std::chrono::seconds kLongestDeath{5};
  const auto scope = scope_place(location, container.id);
  if (!scope) return GuardGroup{};
  if (has_processes(*scope)) {
    // Order: in it before systemd is asked, which gives up none that has a process.
    auto entered = enter_keepers_group(*scope);
    if (entered && !is_given_up(container.id)) return entered;
    entered = GuardGroup{};
    // Somebody who lives on in it needs keepers more than they need a unit.
    if (!cgroup::Group::remove({cgroup::Layout::v2, {*scope}}, kLongestDeath)) return enter_keepers_group(*scope);
  }
  const auto first = TRY(cgroup::Placeholder::start());
  TRY(start_scope(container, first.pid()));
  protect_slice(*scope);
  // Order: out of the scope's own group, where `first` is, before there is a guard, or the supervisor finds a process
  // there and can switch no controller on for the container.
  return enter_keepers_group(*scope);
}

}  // namespace skink::supervise
