// SPDX-License-Identifier: Apache-2.0
// Device rules as properties of a unit, for cgroup v1. man 5 systemd.resource-control, DevicePolicy= and DeviceAllow=.
#pragma once

#include <string_view>
#include <utility>
#include <vector>

#include "cgroup/device_program.h"
#include "cgroup/unit.h"

namespace skink::cgroup {

/// v1's device controller has one owner, and systemd writes its files again when it looks at the unit again: without
/// these it would allow everything. (On v2 our program and one of systemd's must both allow, so it needs none.)
/// systemd's rules only allow: what they cannot say exactly is said so that nothing is allowed that the rules deny.
/// `registered` is /proc/devices.
std::vector<Property> device_properties(const std::vector<DeviceMatch>& rules, std::string_view registered);

}  // namespace skink::cgroup
