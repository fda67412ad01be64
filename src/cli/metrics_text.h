// SPDX-License-Identifier: Apache-2.0
// The metrics of containers: which there are, and where each number comes from.
#pragma once

#include <string>
#include <vector>

#include "cli/sample.h"

namespace skink::cli {

/// All of them as OpenMetrics text, "# EOF" at its end. What a host does not tell of a container has no sample. `all`:
/// these are all containers, so they are counted too.
std::string metrics_text(const std::vector<ContainerSample>& containers, bool all);

}  // namespace skink::cli
