// SPDX-License-Identifier: Apache-2.0
// Sources: opens what a LaunchPlan names on the host, once, before the process exists.
#pragma once

#include "launch/encode.h"
#include "launch/launch.h"

namespace skink::launch {

/// Opens bind sources, as detached trees with their propagation set or for the child to clone, namespaces to join, and
/// the root. Mounts that speak of the root by its place on the host are changed (find_inside).
/// The root descriptor is kept in `root` when it had to be opened here. Errors name the JSON path.
/// `groups_follow`: binds of the container's groups are left out, as open_group_sources() opens them when they are
/// made.
Result<Descriptors> open_sources(plan::LaunchPlan& plan, const ContainerRequest& request, UniqueFd& root,
                                 bool groups_follow);

/// Whether a mount binds one of the container's own groups.
bool binds_group(const plan::MountStep& step);
/// Those sources, in the order of the mounts.
Result<void> open_group_sources(const plan::LaunchPlan& plan, std::vector<UniqueFd>& out);

/// Binds what is inside the root by its place on the host: destinations below root.path are meant inside, and sources
/// below it are what the container has there when it is their turn, with its earlier mounts. `resolved` is root.path as
/// the kernel has it.
void find_inside(plan::LaunchPlan& plan, const std::string& root_path, const std::string& resolved);

/// Gives the tree of mounts[index] its id mapping. `what` is for errors.
Result<void> map_tree(int tree_fd, const plan::MountStep& step, std::string_view what);

/// Turns binds of symlinks with the option copy-symlink into links of the same text.
Result<void> copy_symlinks(plan::LaunchPlan& plan, const std::string& bundle);

/// A path of config.json: absolute, or below the bundle.
std::string host_path(const std::string& path, const std::string& bundle);

/// Facts of this host for make_plan.
Result<plan::HostFacts> host_facts(const cgroup::Location* location);

/// Moves a descriptor that stands in 3 .. 3+preserve-1 above that range, where the process's own ones are.
Result<UniqueFd> above(UniqueFd fd, unsigned preserve);

}  // namespace skink::launch
