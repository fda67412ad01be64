// SPDX-License-Identifier: Apache-2.0
// What is different for root of a user namespace that is not the host's (podman without root): control groups that
// nobody delegated.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "cgroup/cgroup.h"
#include "oci/spec.h"

namespace skink::cli {

/// The groups at `named` (linux.cgroupsPath; empty: /skink-ID, in a user's session beside its own group), or nothing
/// for who may not make them: a user of a host that delegates none to him. Then limits in `resources` are an error, and
/// device rules are not needed: nobody in a user namespace makes device nodes.
Result<std::optional<cgroup::Location>> place_for_caller(const std::string& named, const std::string& id,
                                                         const oci::Resources* resources);

/// The members of linux.resources that need control groups; rules for devices are none, as every container has some.
std::vector<std::string_view> limits_in(const oci::Resources& resources);

}  // namespace skink::cli
