// SPDX-License-Identifier: Apache-2.0
// The processes of a container as `skink top` shows them: order, columns, JSON.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "base/result.h"
#include "cli/proc.h"
#include "cli/table.h"
#include "oci/json.h"

namespace skink::cli {

/// What the columns need besides a process.
struct TopFacts {
  std::int64_t now_ns = 0;                     ///< Unix time
  std::int64_t since_boot_ns = 0;              ///< fs::monotonic_ns() at that time
  std::uint64_t host_memory = 0;               ///< bytes
  std::map<std::uint32_t, std::string> users;  ///< names of uids on this host; one without is shown as a number
};

struct TopColumn {
  const char* name;  ///< as -o takes it
  const char* heading;
  std::string (*cell)(const Process& process, const TopFacts& facts);
};

/// Columns from names with commas between them. Errors: invalid_config names what is none, and those that there are.
Result<std::vector<const TopColumn*>> parse_columns(std::string_view names);

enum class TopOrder { tree, pid };
/// Sorts by number, or with each process after its parent, children by number. Those whose parent is not there come as
/// the first would.
void sort_processes(std::vector<Process>& processes, TopOrder order);

Row top_heading(const std::vector<const TopColumn*>& columns);
Row top_row(const std::vector<const TopColumn*>& columns, const Process& process, const TopFacts& facts);

/// The documented object of `top --format json`.
oci::Json process_json(const Process& process, const TopFacts& facts);

}  // namespace skink::cli
