// SPDX-License-Identifier: Apache-2.0
// Faults: what skink-init sends as numbers, said in words by the launcher, which has the same plan.
#pragma once

#include "base/error.h"
#include "plan/launch_plan.h"

namespace skink::launch {

/// The words and code for a fault. Numbers that the plan has no place for are an internal error. `output_fd`: what a
/// hook has printed, or -1.
Error describe_fault(const plan::Message& fault, const plan::LaunchPlan& plan, int output_fd = -1);

}  // namespace skink::launch
