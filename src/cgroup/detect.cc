// SPDX-License-Identifier: Apache-2.0
#include "cgroup/detect.h"

#include <dirent.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <sys/vfs.h>

#include <algorithm>
#include <cerrno>
#include <optional>

#include "base/text.h"
#include "cgroup/control_file.h"
#include "fs/dir.h"
#include "sys/file.h"
#include "sys/mount.h"

namespace skink::cgroup {
namespace {

constexpr const char* kUsualPlace = "/sys/fs/cgroup";

struct MountLine {
  int id = 0;
  int parent = 0;
  std::string_view root, point, type, super_options;
};

// "36 35 98:0 /root /point rw,noatime shared:1 - type source super-options"; proc_pid_mountinfo(5).
std::optional<MountLine> parse_line(std::string_view line) {
  std::string_view fields[5];
  std::string_view rest = line;
  for (std::string_view& field : fields) {
    const std::size_t end = rest.find(' ');
    if (end == std::string_view::npos) return std::nullopt;
    field = rest.substr(0, end);
    rest.remove_prefix(end + 1);
  }
  const std::size_t dash = rest.find(" - ");
  if (dash == std::string_view::npos) return std::nullopt;
  rest.remove_prefix(dash + 3);
  const auto type = split_once(rest, ' ');
  if (!type) return std::nullopt;
  const auto source = split_once(type->second, ' ');
  const auto id = parse_int<int>(fields[0]);
  const auto parent = parse_int<int>(fields[1]);
  if (!source || !id || !parent) return std::nullopt;
  return MountLine{*id, *parent, fields[3], fields[4], type->first, source->second};
}

bool is_path_prefix(std::string_view prefix, std::string_view path) {
  if (prefix == "/") return true;
  return path.starts_with(prefix) && (path.size() == prefix.size() || path[prefix.size()] == '/');
}

// Walks as a path lookup does: from the root down, always into the mount that covers the place reached. A mount that
// the walk does not end in is hidden (mountinfo lists it all the same).
bool reachable(const MountLine& wanted, const std::vector<MountLine>& mounts) {
  const auto known = [&](int id) { return std::ranges::any_of(mounts, [&](auto& m) { return m.id == id; }); };
  const MountLine* here = nullptr;
  for (std::size_t step = 0; step <= mounts.size(); ++step) {
    const MountLine* next = nullptr;
    for (const MountLine& mount : mounts) {
      const bool below =
          here ? mount.parent == here->id && &mount != here : !known(mount.parent) || mount.parent == mount.id;
      if (!below || !is_path_prefix(mount.point, wanted.point)) continue;
      if (next == nullptr || mount.point.size() < next->point.size()) next = &mount;
    }
    if (next == nullptr) break;
    here = next;
  }
  return here != nullptr && here->id == wanted.id;
}

constexpr std::string_view kControllers[] = {"cpuset",  "cpu",     "cpuacct", "blkio",    "memory",
                                             "devices", "freezer", "net_cls", "net_prio", "perf_event",
                                             "hugetlb", "pids",    "rdma",    "misc",     "debug"};

// The controllers (and "name=") among the mount options, in the kernel's order, which /proc/self/cgroup shares.
std::string controllers_of(std::string_view super_options) {
  std::string out;
  for (const std::string_view option : split(super_options, ',')) {
    const bool controller = std::ranges::find(kControllers, option) != std::end(kControllers);
    if (!controller && !option.starts_with("name=")) continue;
    if (!out.empty()) out += ',';
    out += option;
  }
  return out;
}

void add_hierarchy(Host& host, const MountLine& mount) {
  Hierarchy hierarchy;
  hierarchy.unified = mount.type == "cgroup2";
  if (!hierarchy.unified) hierarchy.controllers = controllers_of(mount.super_options);
  hierarchy.mount_point = sys::unescape_mount_field(mount.point);
  if (!hierarchy.unified && hierarchy.controllers.empty()) return;
  const std::string root = sys::unescape_mount_field(mount.root);
  for (std::size_t i = 0; i < host.hierarchies.size(); ++i) {
    if (host.hierarchies[i].controllers != hierarchy.controllers) continue;
    // The same hierarchy twice: the mount that shows the whole of it is the better one.
    if (host.roots[i] != "/" && root == "/") {
      host.hierarchies[i] = hierarchy;
      host.roots[i] = root;
    }
    return;
  }
  host.hierarchies.push_back(std::move(hierarchy));
  host.roots.push_back(root);
}

Result<std::string> own_path(const Host& host, std::size_t index, std::string_view own_groups) {
  const Hierarchy& hierarchy = host.hierarchies[index];
  const std::string_view root = index < host.roots.size() ? std::string_view{host.roots[index]} : "/";
  const auto own = own_group(own_groups, hierarchy.controllers);
  if (!own)
    return Error::make(Code::unsupported, "/proc/self/cgroup has no line for the hierarchy at ",
                       printable(hierarchy.mount_point), "; give an absolute linux.cgroupsPath");
  if (!is_path_prefix(root, *own))
    return Error::make(Code::unsupported, "this process's own control group ", quoted(*own),
                       " is outside of what is mounted at ", printable(hierarchy.mount_point),
                       "; give an absolute linux.cgroupsPath");
  return std::string(root == "/" ? *own : own->substr(root.size()));
}

}  // namespace

std::optional<std::string_view> own_group(std::string_view groups, std::string_view controllers) {
  // Asked for each hierarchy of a launch: no list of the lines is made.
  while (!groups.empty()) {
    const std::string_view line = groups.substr(0, groups.find('\n'));
    groups.remove_prefix(std::min(line.size() + 1, groups.size()));
    const auto number = split_once(line, ':');
    const auto rest = number ? split_once(number->second, ':') : std::nullopt;
    if (rest && rest->first == controllers) return rest->second;
  }
  return std::nullopt;
}

Result<Host> parse_host(std::string_view mountinfo) {
  std::vector<MountLine> all, groups;
  for (const std::string_view line : split(mountinfo, '\n'))
    if (const auto mount = parse_line(line)) {
      all.push_back(*mount);
      if (mount->type == "cgroup" || mount->type == "cgroup2") groups.push_back(*mount);
    }
  // Only mounts at or above one of ours can cover it; hosts with many containers have thousands of others.
  std::erase_if(all, [&](const MountLine& mount) {
    return std::ranges::none_of(groups,
                                [&](const MountLine& group) { return is_path_prefix(mount.point, group.point); });
  });
  std::erase_if(groups, [&](const MountLine& mount) { return !reachable(mount, all); });
  // Somebody's root file system can have a hierarchy mounted in it where we see it. What is in the usual place counts.
  const auto usual = [](const MountLine& mount) { return is_path_prefix(kUsualPlace, mount.point); };
  if (std::ranges::any_of(groups, usual)) std::erase_if(groups, [&](const MountLine& mount) { return !usual(mount); });
  Host host;
  for (const MountLine& mount : groups) add_hierarchy(host, mount);
  if (host.hierarchies.empty())
    return Error::make(Code::unsupported,
                       "no control group hierarchy is mounted; mount one with: mount -t cgroup2 none /sys/fs/cgroup");
  const auto unified = std::ranges::count_if(host.hierarchies, [](const Hierarchy& h) { return h.unified; });
  const bool only = unified == static_cast<std::ptrdiff_t>(host.hierarchies.size());
  host.layout = unified == 0 ? Layout::v1 : only ? Layout::v2 : Layout::hybrid;
  return host;
}

Result<std::string> checked_path(std::string_view path) {
  constexpr std::size_t kLongestName = 255, kLongestPath = 2048;
  std::string out;
  for (const std::string_view name : split(path, '/')) {
    if (name.empty()) continue;
    if (name == "." || name == "..")
      return Error::make(Code::invalid_config, "control group path ", quoted(path), " has a ", quoted(name), " in it");
    if (name.size() > kLongestName)
      return Error::make(Code::invalid_config, "control group path has a name of ", name.size(), " bytes, ",
                         kLongestName, " is the longest");
    if (std::ranges::any_of(name, [](char c) { return static_cast<unsigned char>(c) < 0x20 || c == 0x7f; }))
      return Error::make(Code::invalid_config, "control group path ", quoted(path), " has a control character in it");
    out += '/';
    out += name;
  }
  if (out.empty())
    return Error::make(Code::invalid_config, "control group path ", quoted(path), " names no group of its own");
  if (out.size() > kLongestPath)
    return Error::make(Code::invalid_config, "control group path has ", out.size(), " bytes, ", kLongestPath,
                       " is the longest");
  return out;
}

Result<Location> locate_below(const Host& host, const std::string& cgroups_path, std::string_view own_groups) {
  const std::string path = TRY_CTX(checked_path(cgroups_path), "linux.cgroupsPath");
  Location location;
  location.layout = host.layout;
  for (std::size_t i = 0; i < host.hierarchies.size(); ++i) {
    std::string place = path;
    if (!cgroups_path.starts_with('/')) {
      std::string own = TRY_CTX(own_path(host, i, own_groups), "linux.cgroupsPath");
      // The caller's own group has a process, so on v2 it could give no controllers to a group in it: beside it.
      if (host.layout == Layout::v2) own.erase(own.rfind('/'));
      place = TRY_CTX(checked_path(own + path), "linux.cgroupsPath");
    }
    location.places.push_back({host.hierarchies[i], std::move(place)});
  }
  return location;
}

std::optional<Host> match_directories(const std::vector<MountedAt>& mounted, std::string_view own_groups) {
  Host host;
  std::ptrdiff_t unified = 0;
  for (const MountedAt& one : mounted) {
    Hierarchy hierarchy;
    hierarchy.mount_point = str(kUsualPlace, '/', one.name);
    hierarchy.unified = one.unified;
    unified += one.unified ? 1 : 0;
    if (!one.unified) {
      hierarchy.controllers = one.name;
      if (!own_group(own_groups, hierarchy.controllers)) hierarchy.controllers = str("name=", one.name);
      if (!own_group(own_groups, hierarchy.controllers)) return std::nullopt;
    }
    host.hierarchies.push_back(std::move(hierarchy));
  }
  if (host.hierarchies.empty() || unified > 1) return std::nullopt;
  // As the kernel lists them elsewhere, the unified one last.
  std::stable_partition(host.hierarchies.begin(), host.hierarchies.end(),
                        [](const Hierarchy& h) { return !h.unified; });
  host.layout = unified == 0 ? Layout::v1 : Layout::hybrid;
  return host;
}

namespace {

enum class Mounted { nothing, v1, unified };

Mounted mounted_on(const std::string& dir) {
  struct statfs info {};
  if (::statfs(dir.c_str(), &info) != 0) return Mounted::nothing;
  const auto magic = static_cast<long>(info.f_type);
  return magic == CGROUP2_SUPER_MAGIC ? Mounted::unified : magic == CGROUP_SUPER_MAGIC ? Mounted::v1 : Mounted::nothing;
}

std::optional<Host> look_at_usual_place() {
  const Mounted what = mounted_on(kUsualPlace);
  if (what == Mounted::unified) return Host{Layout::v2, {{kUsualPlace, "", true}}, {}};
  if (what == Mounted::v1) return std::nullopt;
  const auto top = sys::open_at(AT_FDCWD, kUsualPlace, O_RDONLY | O_DIRECTORY);
  if (!top) return std::nullopt;
  std::string own;
  const auto entries = fs::list(top->get());
  if (!entries || read_control(AT_FDCWD, "/proc/self/cgroup", own) != 0) return std::nullopt;
  std::vector<MountedAt> mounted;
  for (const auto& entry : *entries) {
    if (entry.type != DT_DIR) continue;  // "cpu" is a link to "cpu,cpuacct"
    const Mounted here = mounted_on(str(kUsualPlace, '/', entry.name));
    if (here != Mounted::nothing) mounted.push_back({entry.name, here == Mounted::unified});
  }
  return match_directories(mounted, own);
}

Result<Host> read_mountinfo() {
  std::string mountinfo;
  if (const int err = read_control(AT_FDCWD, "/proc/self/mountinfo", mountinfo); err != 0)
    return Error::from_errno(err, "read /proc/self/mountinfo");
  return parse_host(mountinfo);
}

}  // namespace

Result<Host> detect() {
  if (auto host = look_at_usual_place()) return *std::move(host);
  return read_mountinfo();
}

Result<Location> locate(const Host& host, const std::string& cgroups_path) {
  if (cgroups_path.starts_with('/')) return locate_below(host, cgroups_path, {});
  std::string own;
  if (const int err = read_control(AT_FDCWD, "/proc/self/cgroup", own); err != 0)
    return Error::from_errno(err, "read /proc/self/cgroup");
  // Which group is mounted where matters for what is relative to ours.
  return locate_below(host.roots.empty() ? TRY(read_mountinfo()) : host, cgroups_path, own);
}

}  // namespace skink::cgroup
