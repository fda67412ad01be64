// SPDX-License-Identifier: Apache-2.0
// Sample: the few numbers that people watch of a group, with one meaning on v1, v2 and hybrid hosts, at the price of a
// few small files. What this host does not tell is absent, never 0. (usage.h has everything, as runc's events have it.)
#pragma once

#include <cstdint>
#include <optional>

#include "cgroup/cgroup.h"
#include "cgroup/usage.h"

namespace skink::cgroup {

using Known = std::optional<std::uint64_t>;

/// Nanoseconds and counts, all of them totals since the group was made.
struct CpuSample {
  Known total_ns, user_ns, kernel_ns;
  Known periods, throttled_periods, throttled_ns;  ///< 0 without a quota
};

/// Bytes. The group's, those below it included.
struct MemorySample {
  Known usage;          ///< all that is charged to it
  Known inactive_file;  ///< of that, file cache that the kernel takes back first
  Known anon, file, kernel, swap;
  Known limit;  ///< absent: none of its own
  Known peak;   ///< the highest usage; v2 from Linux 5.19 on
  /// What `docker stats` shows: the usage without the cache that is as good as free.
  [[nodiscard]] Known used() const;
};

/// Totals over all devices.
struct BlockIoSample {
  std::uint64_t read_bytes = 0, written_bytes = 0, reads = 0, writes = 0;
};

struct Sample {
  std::int64_t at_ns = 0;  ///< fs::monotonic_ns() when the CPU time was read
  CpuSample cpu;
  MemorySample memory;
  std::optional<BlockIoSample> block_io;
  Known pids, pids_limit;  ///< tasks, threads included, as the kernel counts them
  std::uint64_t oom_kills = 0;
  std::optional<Pressure> cpu_pressure, memory_pressure, io_pressure;  ///< of the unified hierarchy alone
};

/// What the group uses now. Errors: not_found when it is gone.
Result<Sample> take_sample(const Group& group);

/// One directory of a group: its controllers (v1), or the unified hierarchy's, which adds what no v1 hierarchy told.
void sample_v1(std::string_view controllers, int dir_fd, Sample& sample);
void sample_unified(int dir_fd, Sample& sample);

/// Between two samples, 100 for each processor that was busy all the time. Nothing where CPU time is not told, no time
/// has passed, or the group is another one by now (its total went down).
std::optional<double> cpu_percent(const Sample& before, const Sample& after);

}  // namespace skink::cgroup
