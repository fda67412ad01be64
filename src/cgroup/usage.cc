// SPDX-License-Identifier: Apache-2.0
#include "cgroup/usage.h"

#include <fcntl.h>
#include <unistd.h>

#include <limits>

#include "base/text.h"
#include "cgroup/control_file.h"
#include "fs/dir.h"
#include "sys/file.h"

namespace skink::cgroup {
namespace {

constexpr std::uint64_t kNoLimit = std::numeric_limits<std::uint64_t>::max();

std::uint64_t value_of(int dir_fd, const char* name) { return read_number(dir_fd, name).value_or(0); }

// A v2 limit: a number, or "max".
std::uint64_t limit_of(int dir_fd, const char* name) {
  const std::string text = text_of(dir_fd, name);
  return chomp(text) == "max" ? kNoLimit : number_in(text).value_or(0);
}

// "0-3,8" as 0 1 2 3 8.
Numbers list_of(std::string_view text) {
  constexpr std::uint64_t kMost = 8192;  // NR_CPUS, MAX_NUMNODES
  Numbers numbers;
  for (const std::string_view piece : split(chomp(text), ',')) {
    const auto ends = split_once(piece, '-');
    const auto from = number_in(ends ? ends->first : piece);
    const auto to = ends ? number_in(ends->second) : from;
    if (!from || !to || *to >= kMost) continue;
    for (std::uint64_t i = *from; i <= *to; ++i) numbers.push_back(i);
  }
  return numbers;
}

Numbers words_of(std::string_view text) {
  Numbers numbers;
  for (const std::string_view word : split(chomp(text), ' '))
    if (const auto value = number_in(word)) numbers.push_back(*value);
  return numbers;
}

std::map<std::string, std::uint64_t> flat(std::string_view text) {
  std::map<std::string, std::uint64_t> out;
  for (const std::string_view line : split(text, '\n')) {
    const auto pair = split_once(line, ' ');
    const auto value = pair ? number_in(pair->second) : std::nullopt;
    if (value) out[std::string(pair->first)] = *value;
  }
  return out;
}

// "avg10=0.00": the value of one word of a line.
std::string_view word_value(std::string_view line, std::string_view key) {
  for (const std::string_view word : split(line, ' '))
    if (word.size() > key.size() && word.starts_with(key) && word[key.size()] == '=')
      return word.substr(key.size() + 1);
  return {};
}

// "12.34", always with two decimals.
double share(std::string_view text) {
  const auto parts = split_once(text, '.');
  const auto whole = number_in(parts ? parts->first : text);
  const auto hundredths = parts ? number_in(parts->second) : std::nullopt;
  return static_cast<double>(whole.value_or(0)) + static_cast<double>(hundredths.value_or(0)) / 100.0;
}

template <typename Step>
void each_line(int dir_fd, const char* file, Step step) {
  const std::string text = text_of(dir_fd, file);
  for (const std::string_view line : split(text, '\n'))
    if (!line.empty()) step(line);
}

std::optional<Pressure> pressure_of(int dir_fd, const char* name) { return parse_pressure(text_of(dir_fd, name)); }

void cpuacct_v1(int fd, CpuUsage& cpu) {
  cpu.total = value_of(fd, "cpuacct.usage");
  cpu.each = words_of(text_of(fd, "cpuacct.usage_percpu"));
  const auto in_ticks = flat(text_of(fd, "cpuacct.stat"));
  const long hertz = ::sysconf(_SC_CLK_TCK);
  const std::uint64_t tick = hertz > 0 ? 1'000'000'000ULL / static_cast<std::uint64_t>(hertz) : 10'000'000;
  for (const auto& [key, value] : in_ticks) (key == "user" ? cpu.user : cpu.kernel) = value * tick;
  // "cpu user system", then a line for each processor.
  each_line(fd, "cpuacct.usage_all", [&](std::string_view line) {
    const Numbers row = words_of(line);
    if (row.size() != 3) return;
    cpu.each_user.push_back(row[1]);
    cpu.each_kernel.push_back(row[2]);
  });
}

void throttling(std::string_view text, std::string_view time_key, std::uint64_t unit, CpuUsage& cpu) {
  cpu.periods = number_in(keyed(text, "nr_periods")).value_or(cpu.periods);
  cpu.throttled_periods = number_in(keyed(text, "nr_throttled")).value_or(cpu.throttled_periods);
  if (const auto time = number_in(keyed(text, time_key))) cpu.throttled_time = *time * unit;
}

void cpuset_v1(int fd, CpusetUsage& cpuset) {
  cpuset.cpus = list_of(text_of(fd, "cpuset.cpus"));
  cpuset.mems = list_of(text_of(fd, "cpuset.mems"));
  for (const char* name : {"cpu_exclusive", "mem_hardwall", "mem_exclusive", "memory_migrate", "memory_spread_page",
                           "memory_spread_slab", "memory_pressure", "sched_load_balance", "sched_relax_domain_level"})
    if (const auto value = parse_int<std::int64_t>(chomp(text_of(fd, str("cpuset.", std::string_view(name)).c_str()))))
      cpuset.switches[name] = *value;
}

MemoryEntry memory_entry_v1(int fd, const std::string& stem) {
  const auto file = [&](const char* tail) { return value_of(fd, str(stem, std::string_view(tail)).c_str()); };
  return {file(".limit_in_bytes"), file(".usage_in_bytes"), file(".max_usage_in_bytes"), file(".failcnt")};
}

void memory_v1(int fd, MemoryUsage& memory) {
  memory.raw = flat(text_of(fd, "memory.stat"));
  if (const auto cache = memory.raw.find("cache"); cache != memory.raw.end()) memory.cache = cache->second;
  memory.memory = memory_entry_v1(fd, "memory");
  memory.swap = memory_entry_v1(fd, "memory.memsw");
  memory.kernel = memory_entry_v1(fd, "memory.kmem");
  memory.kernel_tcp = memory_entry_v1(fd, "memory.kmem.tcp");
}

// "8:0 Read 4096", "8:0 4096", and at the end "Total 4096".
std::vector<BlockIoEntry> block_io_v1(int fd, std::initializer_list<const char*> files) {
  std::vector<BlockIoEntry> entries;
  for (const char* file : files) {
    each_line(fd, file, [&](std::string_view line) {
      const auto words = split(line, ' ');
      const auto device = split_once(words[0], ':');
      const auto major = device ? number_in(device->first) : std::nullopt;
      const auto minor = device ? number_in(device->second) : std::nullopt;
      const auto value = number_in(words.back());
      if (!major || !minor || !value || words.size() < 2 || words.size() > 3) return;
      entries.push_back({*major, *minor, std::string(words.size() == 3 ? words[1] : ""), *value});
    });
    if (!entries.empty()) break;
  }
  return entries;
}

void all_block_io_v1(int fd, BlockIoUsage& io) {
  read_block_io_v1(fd, io);
  io.queued = block_io_v1(fd, {"blkio.bfq.io_queued_recursive", "blkio.io_queued_recursive"});
  io.service_time = block_io_v1(fd, {"blkio.bfq.io_service_time_recursive", "blkio.io_service_time_recursive"});
  io.wait_time = block_io_v1(fd, {"blkio.bfq.io_wait_time_recursive", "blkio.io_wait_time_recursive"});
  io.merged = block_io_v1(fd, {"blkio.bfq.io_merged_recursive", "blkio.io_merged_recursive"});
  io.time = block_io_v1(fd, {"blkio.bfq.time_recursive", "blkio.time_recursive"});
  io.sectors = block_io_v1(fd, {"blkio.bfq.sectors_recursive", "blkio.sectors_recursive"});
}

// Which sizes there are is in the names of the files: "hugetlb.2MB.current".
void hugepages(int fd, bool unified, std::map<std::string, HugepageUsage>& pages) {
  const auto here = sys::open_at(fd, ".", O_RDONLY | O_DIRECTORY);
  const auto entries = here ? fs::list(here->get()) : Result<std::vector<fs::Entry>>{std::vector<fs::Entry>{}};
  if (!entries) return;
  const std::string_view tail = unified ? ".current" : ".usage_in_bytes";
  for (const auto& entry : *entries) {
    if (!entry.name.starts_with("hugetlb.") || !entry.name.ends_with(tail)) continue;
    const std::string size = entry.name.substr(8, entry.name.size() - 8 - tail.size());
    if (size.find('.') != std::string::npos) continue;  // .rsvd
    const std::string stem = "hugetlb." + size;
    HugepageUsage& page = pages[size];
    page.usage = value_of(fd, entry.name.c_str());
    page.max = unified ? limit_of(fd, (stem + ".max").c_str()) : value_of(fd, (stem + ".max_usage_in_bytes").c_str());
    page.failures = unified ? number_in(keyed(text_of(fd, (stem + ".events").c_str()), "max")).value_or(0)
                            : value_of(fd, (stem + ".failcnt").c_str());
  }
}

void memory_v2(int fd, MemoryUsage& memory) {
  memory.raw = flat(text_of(fd, "memory.stat"));
  if (const auto file = memory.raw.find("file"); file != memory.raw.end()) memory.cache = file->second;
  memory.memory = {limit_of(fd, "memory.max"), value_of(fd, "memory.current"), value_of(fd, "memory.peak"),
                   number_in(keyed(text_of(fd, "memory.events"), "max")).value_or(0)};
  // v1 counts memory and swap together; so do those who read this.
  const std::uint64_t swap_limit = limit_of(fd, "memory.swap.max");
  const bool none = swap_limit == kNoLimit || memory.memory.limit == kNoLimit;
  memory.swap = {none ? kNoLimit : memory.memory.limit + swap_limit,
                 memory.memory.usage + value_of(fd, "memory.swap.current"), 0,
                 number_in(keyed(text_of(fd, "memory.swap.events"), "fail")).value_or(0)};
  memory.pressure = pressure_of(fd, "memory.pressure");
}

void cpu_v2(int fd, CpuUsage& cpu) {
  constexpr std::uint64_t kNsEach = 1000;
  const std::string text = text_of(fd, "cpu.stat");
  // A group without the cpu controller has the times all the same.
  if (cpu.total == 0) {
    cpu.total = number_in(keyed(text, "usage_usec")).value_or(0) * kNsEach;
    cpu.user = number_in(keyed(text, "user_usec")).value_or(0) * kNsEach;
    cpu.kernel = number_in(keyed(text, "system_usec")).value_or(0) * kNsEach;
  }
  throttling(text, "throttled_usec", kNsEach, cpu);
  cpu.pressure = pressure_of(fd, "cpu.pressure");
}

}  // namespace

// BFQ and CFQ count by themselves; where neither schedules, the throttling layer does.
void read_block_io_v1(int fd, BlockIoUsage& io) {
  io.bytes = block_io_v1(fd, {"blkio.bfq.io_service_bytes_recursive", "blkio.io_service_bytes_recursive",
                              "blkio.throttle.io_service_bytes_recursive", "blkio.throttle.io_service_bytes"});
  io.operations = block_io_v1(fd, {"blkio.bfq.io_serviced_recursive", "blkio.io_serviced_recursive",
                                   "blkio.throttle.io_serviced_recursive", "blkio.throttle.io_serviced"});
}

// "8:0 rbytes=1 wbytes=2 rios=3 wios=4 dbytes=5 dios=6"
void read_block_io_v2(int fd, BlockIoUsage& io) {
  struct Key {
    const char* key;
    const char* op;
    std::vector<BlockIoEntry>& list;
  };
  const Key keys[] = {{"rbytes", "Read", io.bytes},     {"wbytes", "Write", io.bytes},
                      {"dbytes", "Discard", io.bytes},  {"rios", "Read", io.operations},
                      {"wios", "Write", io.operations}, {"dios", "Discard", io.operations}};
  each_line(fd, "io.stat", [&](std::string_view line) {
    const auto head = split_once(line, ' ');
    const auto device = head ? split_once(head->first, ':') : std::nullopt;
    const auto major = device ? number_in(device->first) : std::nullopt;
    const auto minor = device ? number_in(device->second) : std::nullopt;
    if (!major || !minor) return;
    for (const Key& key : keys)
      if (const auto value = number_in(word_value(head->second, key.key)))
        key.list.push_back({*major, *minor, key.op, *value});
  });
}

std::optional<Pressure> parse_pressure(std::string_view text) {
  Pressure pressure;
  bool any = false;
  for (const std::string_view line : split(text, '\n')) {
    const bool some = line.starts_with("some ");
    if (!some && !line.starts_with("full ")) continue;
    Stall& stall = some ? pressure.some : pressure.full;
    stall = {share(word_value(line, "avg10")), share(word_value(line, "avg60")), share(word_value(line, "avg300")),
             number_in(word_value(line, "total")).value_or(0)};
    any = true;
  }
  if (!any) return std::nullopt;
  return pressure;
}

void read_usage_v1(const std::string& controllers, int dir_fd, Usage& usage) {
  if (has_word(controllers, "cpuacct")) cpuacct_v1(dir_fd, usage.cpu);
  if (has_word(controllers, "cpu")) throttling(text_of(dir_fd, "cpu.stat"), "throttled_time", 1, usage.cpu);
  if (has_word(controllers, "cpuset")) cpuset_v1(dir_fd, usage.cpuset);
  if (has_word(controllers, "memory")) memory_v1(dir_fd, usage.memory);
  if (has_word(controllers, "blkio")) all_block_io_v1(dir_fd, usage.block_io);
  if (has_word(controllers, "hugetlb")) hugepages(dir_fd, false, usage.hugepages);
  if (!has_word(controllers, "pids")) return;
  usage.pids = value_of(dir_fd, "pids.current");
  usage.pids_limit = value_of(dir_fd, "pids.max");
}

// On hybrid hosts: only the controllers that this hierarchy has, and the pressure, which is nowhere else.
void read_usage_unified(int dir_fd, Usage& usage) {
  const std::string has = text_of(dir_fd, "cgroup.controllers");
  cpu_v2(dir_fd, usage.cpu);
  if (has_word(has, "memory")) memory_v2(dir_fd, usage.memory);
  else usage.memory.pressure = pressure_of(dir_fd, "memory.pressure");
  if (has_word(has, "io")) read_block_io_v2(dir_fd, usage.block_io);
  usage.block_io.pressure = pressure_of(dir_fd, "io.pressure");
  if (has_word(has, "hugetlb")) hugepages(dir_fd, true, usage.hugepages);
  if (has_word(has, "cpuset")) {
    usage.cpuset.cpus = list_of(text_of(dir_fd, "cpuset.cpus.effective"));
    usage.cpuset.mems = list_of(text_of(dir_fd, "cpuset.mems.effective"));
  }
  if (!has_word(has, "pids")) return;
  usage.pids = value_of(dir_fd, "pids.current");
  usage.pids_limit = value_of(dir_fd, "pids.max");
}

Result<Usage> usage_of(const Location& location) {
  const Group group = TRY(Group::open(location));
  Usage usage;
  group.each([&](const Place& place, int dir_fd) {
    if (!place.hierarchy.unified) read_usage_v1(place.hierarchy.controllers, dir_fd, usage);
  });
  group.each([&](const Place& place, int dir_fd) {
    if (place.hierarchy.unified) read_usage_unified(dir_fd, usage);
  });
  return usage;
}

}  // namespace skink::cgroup
