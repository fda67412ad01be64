// SPDX-License-Identifier: Apache-2.0
// Id maps of a new user namespace, written by the parent (man 7 user_namespaces).
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <optional>
#include <vector>

#include "base/result.h"
#include "base/unique_fd.h"
#include "plan/launch_plan.h"

namespace skink::launch {

/// A new user namespace without mappings, which the specification leaves open: as with crun its root is the caller, and
/// nobody else is in it.
void map_own_ids(oci::Spec& spec);

/// Writes uid_map, setgroups and gid_map of `pid`. Without privilege over the parent namespace setgroups is denied
/// first.
Result<void> write_id_maps(pid_t pid, const plan::LaunchPlan& plan);

/// Ids of a user namespace, as ids of ours.
struct IdMaps {
  std::vector<oci::IdMapping> uids, gids;
};
/// Those of the one that the container will be in: its own, or what the kernel says of the one that it joins.
Result<IdMaps> maps_of(const plan::LaunchPlan& plan);
/// What `id` is outside; nothing when it is not mapped.
std::optional<std::uint32_t> host_id(const std::vector<oci::IdMapping>& maps, std::uint32_t id);

/// A user namespace with these maps and no process in it, for an idmapped mount (man 2 mount_setattr).
Result<UniqueFd> make_user_namespace(const std::vector<oci::IdMapping>& uids, const std::vector<oci::IdMapping>& gids);
/// Raises hard limits of `pid` to those of process.rlimits, as far as we may: in a user namespace the process itself,
/// which sets the limits, has no CAP_SYS_RESOURCE that counts for it.
void raise_hard_limits(pid_t pid, const plan::LaunchPlan& plan);

/// Writes /proc/PID/oom_score_adj. Lowering it needs CAP_SYS_RESOURCE.
Result<void> write_oom_score(pid_t pid, int value);

}  // namespace skink::launch
