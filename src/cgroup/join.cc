// SPDX-License-Identifier: Apache-2.0
// Where a process that joins a container has to be put.
#include <fcntl.h>

#include <algorithm>
#include <cerrno>

#include "base/text.h"
#include "cgroup/cgroup.h"
#include "cgroup/control_file.h"
#include "cgroup/detect.h"
#include "cgroup/tree.h"
#include "sys/file.h"

namespace skink::cgroup {
namespace {

// cgroup-v2.rst "No Internal Process Constraint": it is about domain controllers, these four can have processes beside
// groups.
bool has_domain_controllers(std::string_view subtree_control) {
  for (const auto word : split(chomp(subtree_control), ' '))
    if (!word.empty() && word != "cpu" && word != "cpuset" && word != "pids" && word != "perf_event") return true;
  return false;
}

// Whether a process can be put into the group of this place: it is there, and not only for groups below it.
Result<bool> takes_processes(const Place& place) {
  const auto dir = open_place(place);
  if (!dir && dir.error().code() == Code::not_found) return false;
  if (!dir) return dir.error();
  if (!place.hierarchy.unified) return true;
  std::string text;
  if (read_control(dir->get(), "cgroup.subtree_control", text) != 0) return true;
  return !has_domain_controllers(text);
}

bool is_for(const Hierarchy& hierarchy, const std::string& controller) {
  if (controller.empty()) return true;
  if (hierarchy.unified) return controller == "unified";
  return has_word(hierarchy.controllers, controller) || has_word(hierarchy.controllers, "name=" + controller);
}

bool climbs(std::string_view path) {
  for (const auto name : split(path, '/'))
    if (name == "..") return true;
  return false;
}

Result<void> descend(Place& place, const SubGroup& group) {
  if (climbs(group.path))
    return Error::make(Code::invalid_config, quoted(group.path),
                       ": bad sub cgroup path: it leads out of the container's");
  if (group.path.find_first_not_of('/') == std::string::npos) return {};
  place.path += TRY(checked_path(group.path));
  const auto dir = open_place(place);
  if (dir) return {};
  return Error::make(dir.error().code(), "adding pid to cgroup ", printable(show(place)), ": ",
                     dir.error().code() == Code::not_found ? "no such file or directory" : dir.error().text());
}

}  // namespace

Result<Location> beside(const Location& base, pid_t member) {
  Location location = base;
  std::string groups;
  for (Place& place : location.places) {
    if (TRY_CTX(takes_processes(place), "control group ", show(place))) continue;
    if (groups.empty()) {
      const std::string file = str("/proc/", member, "/cgroup");
      const int err = read_control(AT_FDCWD, file.c_str(), groups);
      if (err == ESRCH || err == ENOENT) return Error::make(Code::not_found, "process ", member, " is gone");
      if (err != 0) return Error::from_errno(err, "read ", file);
    }
    const auto now = own_group(groups, place.hierarchy.controllers);
    if (!now) return Error::make(Code::not_found, "control group ", show(place), " is gone");
    place.path = TRY(checked_path(*now));
  }
  return location;
}

bool holds(const Location& location, pid_t pid) {
  const auto unified = std::ranges::find_if(location.places, [](const Place& p) { return p.hierarchy.unified; });
  const auto place = unified != location.places.end() ? unified : location.places.begin();
  std::string groups;
  const std::string file = str("/proc/", pid, "/cgroup");
  if (place == location.places.end() || read_control(AT_FDCWD, file.c_str(), groups) != 0) return false;
  const auto group = own_group(groups, place->hierarchy.controllers);
  return group && (*group == place->path || group->starts_with(place->path + "/"));
}

Result<Location> below(const Location& base, const std::vector<SubGroup>& groups) {
  Location location = base;
  for (const SubGroup& group : groups) {
    bool known = false;
    for (Place& place : location.places) {
      if (!is_for(place.hierarchy, group.controller)) continue;
      known = true;
      // "cpu,cpuacct:sub" names one place twice.
      const auto& own = base.places[static_cast<std::size_t>(&place - location.places.data())].path;
      if (place.path == own) TRY(descend(place, group));
      else if (place.path != own + TRY(checked_path(group.path)))
        return Error::make(Code::invalid_config, quoted(group.controller), " is given twice for ", show(place));
    }
    if (!known) return Error::make(Code::invalid_config, "unknown controller ", quoted(group.controller));
  }
  return location;
}

Result<Home> open_home() {
  Home home;
  std::string own;
  if (const int err = read_control(AT_FDCWD, "/proc/self/cgroup", own); err != 0)
    return Error::from_errno(err, "read /proc/self/cgroup");
  const auto lines = split(chomp(own), '\n');
  if (std::ranges::all_of(lines, [](std::string_view line) { return line.ends_with(":/"); })) return home;
  for (const auto& hierarchy : TRY(detect()).hierarchies) {
    const auto path = own_group(own, hierarchy.controllers);
    if (!path || *path == "/") continue;
    auto mount = open_mount(hierarchy);
    if (!mount) continue;
    // Order: only the real root has no type. The top of a container's own namespace is a group like others: with a
    // process in it, it could give no controllers to ours.
    if (hierarchy.unified && has_control(mount->get(), "cgroup.type")) continue;
    if (hierarchy.unified) {
      home.unified = std::move(*mount);
      continue;
    }
    // One that cannot be opened (a read-only mount) is one to stay in.
    auto file = sys::open_at(mount->get(), "tasks", O_WRONLY);
    if (file) home.join_files.push_back(std::move(*file));
  }
  return home;
}

}  // namespace skink::cgroup
