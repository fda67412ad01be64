// SPDX-License-Identifier: Apache-2.0
// Trees of groups: opening and making directories of a hierarchy component by component, and walking what is below.
#pragma once

#include <sys/types.h>

#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "base/unique_fd.h"
#include "cgroup/cgroup.h"

namespace skink::cgroup {

/// Parent path and last name of a checked path: "/a/b" is {"a", "b"}, "/b" is {"", "b"}.
struct PathParts {
  std::string parent, name;
};
[[nodiscard]] PathParts split_path(const std::string& path);

/// For people: mount point and path.
[[nodiscard]] std::string show(const Place& place);

/// The mount point, as O_PATH. not_found when nothing, or no control group file system, is there (a location from a
/// state file can be older than the mounts).
Result<UniqueFd> open_mount(const Hierarchy& hierarchy);
/// `path` (relative, or empty for `from_fd` itself) below a directory of a hierarchy, as O_PATH: no link is followed
/// and no mount crossed (attack A47).
Result<UniqueFd> open_below(int from_fd, const std::string& path);
/// The directory that the group of a place is in, and the group itself, as O_PATH.
Result<UniqueFd> open_parent(const Place& place);
Result<UniqueFd> open_place(const Place& place);

/// What a walk does in each group and after it.
struct Visitor {
  /// On the way down, with a descriptor of the group. Empty: nothing.
  std::function<void(int dir_fd)> enter;
  /// After all below the child `name` of `parent_fd` has been walked. Empty: nothing.
  std::function<void(int parent_fd, const char* name)> leave;
};
/// Walks the group `dir_fd` and all below it, depth first, without recursion and with few descriptors however deep a
/// container nested its groups (fault F30). Groups that vanish meanwhile are passed over.
Result<void> walk_groups(int dir_fd, const Visitor& visitor);

/// The members of one group as `file` ("cgroup.procs") lists them, added to `pids`. A group that is gone has none.
[[nodiscard]] int read_members(int dir_fd, std::vector<pid_t>& pids);
/// The members of a group and of all below it.
Result<void> read_tree(int dir_fd, std::vector<pid_t>& pids);

/// Makes the group of `place` and its missing parents. Answers the new directory and the names that were made, deepest
/// last, so that a failure can undo them.
struct Made {
  UniqueFd fd;
  std::vector<std::string> paths;  ///< relative to the mount point, "skink", "skink/0123"
};
Result<Made> make_place(const Place& place);
/// Removes what a make_place() made, as far as it is empty.
void undo_place(const Place& place, const std::vector<std::string>& made);

/// Removes an empty group; EBUSY and the like as the kernel's number, 0 when it is gone.
[[nodiscard]] int remove_group(int parent_fd, const char* name);

}  // namespace skink::cgroup
