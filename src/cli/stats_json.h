// SPDX-License-Identifier: Apache-2.0
// What a container uses as JSON (docs/json.md has every field), by docker's names, and as cells of a table.
#pragma once

#include <optional>

#include "cli/sample.h"
#include "cli/table.h"
#include "oci/json.h"

namespace skink::cli {

/// A sample with what only two of them tell.
struct StatsEntry {
  ContainerSample sample;
  std::optional<double> cpu_percent;
  std::uint64_t host_memory = 0;  ///< bytes; the limit of a container without one
};

/// What to do with a number that this host does not tell: templates find null, --format json has no such member.
enum class Absent { left_out, null };

/// The documented object of `stats --format json`.
oci::Json stats_json(const StatsEntry& entry, Absent absent);

/// Docker's field names in `stats` templates (ID, Name, CPUPerc, MemUsage, ...), after every field of ours that
/// stats_json() may leave out, as null.
oci::Json docker_stats_json(const StatsEntry& entry, bool whole);

/// The table's heading, and a container's row; what is not known is "--".
Row stats_heading();
Row stats_row(const StatsEntry& entry, bool whole);

}  // namespace skink::cli
