// SPDX-License-Identifier: Apache-2.0
#include "cgroup/sample.h"

#include <string>

#include "base/text.h"
#include "cgroup/control_file.h"
#include "fs/dir.h"

namespace skink::cgroup {
namespace {

constexpr std::uint64_t kMicro = 1000;  // nanoseconds

Known times(Known value, std::uint64_t factor) { return value ? Known(*value * factor) : std::nullopt; }

Known keyed_number(std::string_view text, std::string_view key) { return number_in(keyed(text, key)); }

// Only where nothing has been told so far: on hybrid hosts both hierarchies may tell.
void fill(Known& into, Known value) {
  if (!into) into = value;
}

void read_throttling(std::string_view text, std::string_view time_key, std::uint64_t unit, CpuSample& cpu) {
  fill(cpu.periods, keyed_number(text, "nr_periods"));
  fill(cpu.throttled_periods, keyed_number(text, "nr_throttled"));
  fill(cpu.throttled_ns, times(keyed_number(text, time_key), unit));
}

void memory_v1(int fd, MemorySample& memory) {
  const std::string stat = text_of(fd, "memory.stat");
  memory.usage = read_number(fd, "memory.usage_in_bytes");
  memory.limit = below_no_limit(read_number(fd, "memory.limit_in_bytes"));
  memory.peak = read_number(fd, "memory.max_usage_in_bytes");
  memory.kernel = read_number(fd, "memory.kmem.usage_in_bytes");
  // "rss" is anonymous memory alone; what is shared counts as cache. The totals include the groups below.
  memory.anon = keyed_number(stat, "total_rss");
  memory.file = keyed_number(stat, "total_cache");
  memory.inactive_file = keyed_number(stat, "total_inactive_file");
  memory.swap = keyed_number(stat, "total_swap");
}

// "kernel" is the sum, from Linux 5.18 on.
Known kernel_memory(std::string_view stat) {
  if (const Known sum = keyed_number(stat, "kernel")) return sum;
  Known sum;
  for (const char* key : {"kernel_stack", "pagetables", "percpu", "sock", "vmalloc", "slab"})
    if (const Known part = keyed_number(stat, key)) sum = sum.value_or(0) + *part;
  return sum;
}

void memory_unified(int fd, MemorySample& memory) {
  const std::string stat = text_of(fd, "memory.stat");
  memory.usage = read_number(fd, "memory.current");
  memory.limit = read_number(fd, "memory.max");
  memory.peak = read_number(fd, "memory.peak");
  memory.kernel = kernel_memory(stat);
  memory.anon = keyed_number(stat, "anon");
  memory.file = keyed_number(stat, "file");
  memory.inactive_file = keyed_number(stat, "inactive_file");
  memory.swap = read_number(fd, "memory.swap.current");
}

BlockIoSample sum_of(const BlockIoUsage& io) {
  BlockIoSample sum;
  for (const auto& entry : io.bytes) {
    if (entry.op == "Read") sum.read_bytes += entry.value;
    if (entry.op == "Write") sum.written_bytes += entry.value;
  }
  for (const auto& entry : io.operations) {
    if (entry.op == "Read") sum.reads += entry.value;
    if (entry.op == "Write") sum.writes += entry.value;
  }
  return sum;
}

void read_pids(int fd, Sample& sample) {
  fill(sample.pids, read_number(fd, "pids.current"));
  fill(sample.pids_limit, read_number(fd, "pids.max"));
}

}  // namespace

Known MemorySample::used() const {
  if (!usage || !inactive_file) return usage;
  return *usage > *inactive_file ? *usage - *inactive_file : 0;
}

void sample_v1(std::string_view controllers, int dir_fd, Sample& sample) {
  if (has_word(controllers, "cpuacct")) {
    sample.at_ns = fs::monotonic_ns();
    sample.cpu.total_ns = read_number(dir_fd, "cpuacct.usage");
    sample.cpu.user_ns = read_number(dir_fd, "cpuacct.usage_user");
    sample.cpu.kernel_ns = read_number(dir_fd, "cpuacct.usage_sys");
  }
  if (has_word(controllers, "cpu")) read_throttling(text_of(dir_fd, "cpu.stat"), "throttled_time", 1, sample.cpu);
  if (has_word(controllers, "memory")) memory_v1(dir_fd, sample.memory);
  if (has_word(controllers, "pids")) read_pids(dir_fd, sample);
  if (!has_word(controllers, "blkio")) return;
  BlockIoUsage io;
  read_block_io_v1(dir_fd, io);
  sample.block_io = sum_of(io);
}

void sample_unified(int dir_fd, Sample& sample) {
  const std::string has = text_of(dir_fd, "cgroup.controllers");
  const bool times_told = sample.cpu.total_ns.has_value();
  if (!times_told) sample.at_ns = fs::monotonic_ns();
  const std::string cpu = text_of(dir_fd, "cpu.stat");
  // A group without the cpu controller has the times all the same.
  if (!times_told) {
    sample.cpu.total_ns = times(keyed_number(cpu, "usage_usec"), kMicro);
    sample.cpu.user_ns = times(keyed_number(cpu, "user_usec"), kMicro);
    sample.cpu.kernel_ns = times(keyed_number(cpu, "system_usec"), kMicro);
  }
  if (has_word(has, "cpu")) read_throttling(cpu, "throttled_usec", kMicro, sample.cpu);
  if (has_word(has, "memory")) memory_unified(dir_fd, sample.memory);
  if (has_word(has, "pids")) read_pids(dir_fd, sample);
  sample.cpu_pressure = parse_pressure(text_of(dir_fd, "cpu.pressure"));
  sample.memory_pressure = parse_pressure(text_of(dir_fd, "memory.pressure"));
  sample.io_pressure = parse_pressure(text_of(dir_fd, "io.pressure"));
  if (!has_word(has, "io")) return;
  BlockIoUsage io;
  read_block_io_v2(dir_fd, io);
  sample.block_io = sum_of(io);
}

Result<Sample> take_sample(const Group& group) {
  Sample sample;
  bool any = false;
  group.each([&](const Place& place, int dir_fd) {
    any = true;
    if (!place.hierarchy.unified) sample_v1(place.hierarchy.controllers, dir_fd, sample);
  });
  if (!any) return Error::make(Code::not_found, "the control group is gone");
  group.each([&](const Place& place, int dir_fd) {
    if (place.hierarchy.unified) sample_unified(dir_fd, sample);
  });
  sample.oom_kills = group.oom_kills();
  return sample;
}

std::optional<double> cpu_percent(const Sample& before, const Sample& after) {
  if (!before.cpu.total_ns || !after.cpu.total_ns || after.at_ns <= before.at_ns) return std::nullopt;
  if (*after.cpu.total_ns < *before.cpu.total_ns) return std::nullopt;
  return 100.0 * static_cast<double>(*after.cpu.total_ns - *before.cpu.total_ns) /
         static_cast<double>(after.at_ns - before.at_ns);
}

}  // namespace skink::cgroup
