// SPDX-License-Identifier: Apache-2.0
// Which mappings an idmapped mount has: its own, those of its option, or the container's.
#pragma once

#include "base/result.h"
#include "oci/spec.h"
#include "plan/launch_plan.h"

namespace skink::plan {

/// Fills in the mappings of `step`, which is `mount`'s; nothing where it is not to be idmapped.
Result<void> plan_idmap(const oci::Spec& spec, const oci::Mount& mount, MountStep& step);

}  // namespace skink::plan
