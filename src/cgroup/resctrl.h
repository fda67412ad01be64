// SPDX-License-Identifier: Apache-2.0
// Intel RDT: a container's class of service and monitoring group below a mounted resctrl file system.
// config-linux.md "IntelRdt"; kernel Documentation/filesystems/resctrl.rst.
#pragma once

#include <sys/stat.h>
#include <sys/types.h>

#include <string>

#include "base/result.h"
#include "base/unique_fd.h"
#include "oci/spec.h"

namespace skink::cgroup {

/// What a container has below resctrl. Pure data, kept in the state file BEFORE anything is made.
struct ResctrlGroup {
  std::string name;         ///< of the class of service; "/" is the default one, the root
  std::string monitor;      ///< of the monitoring group inside it; empty: none
  bool made_by_us = false;  ///< the class goes with the container
  bool operator==(const ResctrlGroup&) const = default;
};

/// The resctrl file system of this mount namespace, from /proc/self/mountinfo.
Result<UniqueFd> open_resctrl();

/// The operations on a tree; a test gives one of its own, in which new directories have to be filled.
struct Resctrl {
  int root_fd = -1;
  int (*make_directory)(int, const char*, mode_t) = ::mkdirat;

  /// What the container `id` will have: nothing is made yet, and what has to be there already is looked for.
  [[nodiscard]] Result<ResctrlGroup> plan(const oci::IntelRdt& rdt, const std::string& id) const;
  /// Makes the directories and writes the schemata. What exists with other values is refused.
  Result<void> make(const ResctrlGroup& group, const oci::IntelRdt& rdt) const;
  Result<void> add(const ResctrlGroup& group, pid_t pid) const;
  /// Writes new schemata to the class of a container that exists; members that are not given stay as they are.
  Result<void> change(const ResctrlGroup& group, const oci::IntelRdt& rdt) const;
  /// Removes what is ours. Idempotent.
  Result<void> remove(const ResctrlGroup& group) const;
};

/// True when every number that the schema line `wanted` ("L3:0=7f0;1=1f") names has that value in `schemata`, the text
/// of such a file.
bool schema_holds(std::string_view wanted, std::string_view schemata);

}  // namespace skink::cgroup
