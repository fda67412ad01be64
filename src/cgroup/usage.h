// SPDX-License-Identifier: Apache-2.0
// Usage: everything that the kernel tells about a group, for the events of skink-oci, from v1 and unified files alike.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "cgroup/cgroup.h"

namespace skink::cgroup {

using Numbers = std::vector<std::uint64_t>;

/// One line of a pressure file: shares of time in percent, and microseconds.
struct Stall {
  double avg10 = 0, avg60 = 0, avg300 = 0;
  std::uint64_t total = 0;
};
struct Pressure {
  Stall some, full;
};

/// Nanoseconds, and counts of periods.
struct CpuUsage {
  std::uint64_t total = 0, kernel = 0, user = 0;
  Numbers each, each_kernel, each_user;  ///< by processor; v1 only
  std::uint64_t periods = 0, throttled_periods = 0, throttled_time = 0;
  std::optional<Pressure> pressure;
};

/// cpuset: the lists as numbers, and the v1 switches by the names of their files ("cpu_exclusive").
struct CpusetUsage {
  Numbers cpus, mems;
  std::map<std::string, std::int64_t> switches;
};

/// Bytes; `limit` is what the kernel says for "none" when there is none.
struct MemoryEntry {
  std::uint64_t limit = 0, usage = 0, max = 0, failures = 0;
};
struct MemoryUsage {
  std::uint64_t cache = 0;
  MemoryEntry memory;
  MemoryEntry swap;  ///< memory and swap together, as v1 counts
  MemoryEntry kernel, kernel_tcp;
  std::map<std::string, std::uint64_t> raw;  ///< memory.stat
  std::optional<Pressure> pressure;
};

struct BlockIoEntry {
  std::uint64_t major = 0, minor = 0;
  std::string op;  ///< Read, Write, Sync, Async, Discard, Total; or none
  std::uint64_t value = 0;
};
struct BlockIoUsage {
  std::vector<BlockIoEntry> bytes, operations, queued, service_time, wait_time, merged, time, sectors;
  std::optional<Pressure> pressure;
};

struct HugepageUsage {
  std::uint64_t usage = 0, max = 0, failures = 0;
};

struct Usage {
  CpuUsage cpu;
  CpusetUsage cpuset;
  MemoryUsage memory;
  std::uint64_t pids = 0, pids_limit = 0;  ///< limit 0: none
  BlockIoUsage block_io;
  std::map<std::string, HugepageUsage> hugepages;  ///< by size, "2MB"
};

/// What the group at `location` uses now; what is not there counts as nothing.
Result<Usage> usage_of(const Location& location);

/// One directory of a group: its controllers ("" on the unified hierarchy) and what it holds. What a file does not tell
/// stays as it is in `usage`.
void read_usage_v1(const std::string& controllers, int dir_fd, Usage& usage);
void read_usage_unified(int dir_fd, Usage& usage);

/// The same of `bytes` and `operations` alone, from the files of blkio (v1) and io (unified).
void read_block_io_v1(int dir_fd, BlockIoUsage& io);
void read_block_io_v2(int dir_fd, BlockIoUsage& io);

/// The text of a pressure file.
std::optional<Pressure> parse_pressure(std::string_view text);

}  // namespace skink::cgroup
