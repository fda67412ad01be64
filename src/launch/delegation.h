// SPDX-License-Identifier: Apache-2.0
// A container's control group in the hands of its user. config-linux.md "Cgroup ownership"; cgroup-v2.rst "Delegation".
#pragma once

#include "base/result.h"
#include "cgroup/cgroup.h"
#include "plan/launch_plan.h"

namespace skink::launch {

/// Makes the user of the container's process the owner of its group, and of the files in it that the kernel wants
/// delegated, where cgroup v2 is alone, the container has a cgroup namespace of its own and mounts it for writing. Its
/// limits stay the host's. Errors: the kernel refuses it, though not in a user namespace, where it may not be ours to
/// give.
Result<void> delegate_group(const plan::LaunchPlan& plan, const cgroup::Group& group);

}  // namespace skink::launch
