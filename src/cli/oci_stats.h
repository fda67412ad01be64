// SPDX-License-Identifier: Apache-2.0
// What a container uses, as the JSON of runc's events.
#pragma once

#include <string>

#include "cgroup/usage.h"

namespace skink::cli {

/// One line: {"type":"stats","id":ID,"data":{...}}.
std::string stats_event(const std::string& id, const cgroup::Usage& usage);

}  // namespace skink::cli
