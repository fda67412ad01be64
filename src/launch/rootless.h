// SPDX-License-Identifier: Apache-2.0
// Rootless: what a launch can do without the privileges of the host's root, and getting the rest from a user namespace.
#pragma once

#include "base/result.h"
#include "oci/spec.h"

namespace skink::launch {

/// Nothing of a container can be set up without CAP_SYS_ADMIN over the mounts. When this process has it not, the user
/// namespace that the configuration asks for is made now, for this process itself, which becomes its root; `spec` is
/// then without that namespace, since everything from here on happens inside of it. Ids of others are mapped by
/// newuidmap(1) and newgidmap(1). Errors: denied when the configuration has no user namespace to be made.
Result<void> become_root_of_own_namespace(oci::Spec& spec);

/// The kernel mounts a sysfs only for who is privileged over the network namespace, which a container in a new user
/// namespace that shares its network is not: as with crun it has the host's /sys then, read-only with all below it
/// where it was to be read-only. Before become_root_of_own_namespace.
void share_sysfs(oci::Spec& spec);

/// True when setgroups(2) is denied in the user namespace of a process ("self" or its number).
bool setgroups_denied(std::string_view process);

}  // namespace skink::launch
