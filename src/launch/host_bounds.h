// SPDX-License-Identifier: Apache-2.0
// Bounds that this host sets to what a process may ask for, where the kernel would answer only when it is nearly made.
#pragma once

#include "base/result.h"
#include "oci/spec.h"

namespace skink::launch {

/// invalid_config with the JSON path for a limit of open files above fs.nr_open, which setrlimit(2) refuses to anybody.
Result<void> check_host_bounds(const oci::Process& process);

}  // namespace skink::launch
