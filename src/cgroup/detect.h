// SPDX-License-Identifier: Apache-2.0
// Detection as pure functions of the texts that the kernel gives, for detect(), locate() and their tests.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "cgroup/cgroup.h"

namespace skink::cgroup {

/// The hierarchies that /proc/self/mountinfo shows and a path can reach: one that another mount covers is left out.
Result<Host> parse_host(std::string_view mountinfo);

/// A directory of /sys/fs/cgroup, and what is mounted on it.
struct MountedAt {
  std::string name;
  bool unified = false;
};
/// The host by the names of those directories, which are the hierarchies' controllers in the usual layout; `own_groups`
/// is the text of /proc/self/cgroup. nullopt when a name is none of these: then mountinfo has to be read.
std::optional<Host> match_directories(const std::vector<MountedAt>& mounted, std::string_view own_groups);

/// As locate(); `own_groups` is the text of /proc/self/cgroup, used for relative paths only.
Result<Location> locate_below(const Host& host, const std::string& cgroups_path, std::string_view own_groups);

/// The path of the line for these controllers in a /proc/PID/cgroup.
std::optional<std::string_view> own_group(std::string_view groups, std::string_view controllers);

/// A path below a mount point in its one spelling ("/a/b"): no "." or "..", no control bytes, at least one name.
Result<std::string> checked_path(std::string_view path);

}  // namespace skink::cgroup
