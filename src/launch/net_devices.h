// SPDX-License-Identifier: Apache-2.0
// Net devices: moves interfaces of the host into the container's network namespace (config-linux.md "Network Devices").
#pragma once

#include <map>
#include <string>

#include "base/result.h"

namespace skink::launch {

/// Host name to name inside; an empty one is the host's, "%d" in it a number of the kernel's choice.
using NetDevices = std::map<std::string, std::string>;

/// Nothing when each of them is an interface of this network namespace.
Result<void> check_net_devices(const NetDevices& devices);

/// Moves them, gives them their names and their permanent global addresses, and sets them up. This process must have
/// one thread: it enters the other namespace for a moment. What has been moved when one fails stays where it is: the
/// kernel gives physical interfaces back when the namespace ends.
Result<void> move_net_devices(const NetDevices& devices, int network_fd);

}  // namespace skink::launch
