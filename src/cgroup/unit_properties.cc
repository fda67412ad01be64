// SPDX-License-Identifier: Apache-2.0
// Limits and annotations as properties of a unit of systemd. man 5 systemd.resource-control.
#include <fcntl.h>

#include <algorithm>
#include <cctype>
#include <iterator>
#include <limits>

#include "base/text.h"
#include "cgroup/control_file.h"
#include "cgroup/convert.h"
#include "cgroup/gvariant.h"
#include "cgroup/unit.h"
#include "cgroup/unit_devices.h"

namespace skink::cgroup {
namespace {

constexpr std::uint64_t kInfinity = std::numeric_limits<std::uint64_t>::max();  // "infinity"
constexpr std::uint64_t kSecond = 1'000'000;                                    // microseconds
constexpr std::uint64_t kUsualPeriod = 100'000;

using Properties = std::vector<Property>;

bool given(const auto& value) { return value && *value != 0; }

bus::Value limit(std::int64_t value) { return bus::u64(value < 0 ? kInfinity : static_cast<std::uint64_t>(value)); }

// "0-2,5" as a bitmap, lowest byte first.
std::optional<std::vector<std::uint8_t>> bitmap(std::string_view list) {
  constexpr unsigned kMost = 8192;
  std::vector<std::uint8_t> out;
  for (std::string_view range : split(list, ',')) {
    while (range.starts_with(' ')) range.remove_prefix(1);
    while (!range.empty() && (range.back() == ' ' || range.back() == '\n')) range.remove_suffix(1);
    if (range.empty()) continue;
    const auto ends = split_once(range, '-');
    const auto first = parse_int<unsigned>(ends ? ends->first : range);
    const auto last = ends ? parse_int<unsigned>(ends->second) : first;
    if (!first || !last || *last < *first || *last >= kMost) return std::nullopt;
    if (out.size() <= *last / 8) out.resize(*last / 8 + 1);
    for (unsigned i = *first; i <= *last; ++i) out[i / 8] |= static_cast<std::uint8_t>(1U << (i % 8));
  }
  return out;
}

Result<void> add_set(Properties& out, const char* name, std::string_view list, std::string_view json) {
  if (list.empty()) return {};
  const auto bits = bitmap(list);
  if (!bits) return Error::make(Code::invalid_config, json, ": ", quoted(list), " is no list of numbers such as 0-3,7");
  out.emplace_back(name, bus::bytes(*bits));
  return {};
}

// systemd keeps whole hundredths of a processor: rounded up, so that it never gives less than what the group gets from
// us. Computed in two steps, since the product of both may not fit.
bus::Value quota_per_second(std::int64_t quota, std::uint64_t period) {
  if (quota < 0) return bus::u64(kInfinity);
  const auto time = static_cast<std::uint64_t>(quota);
  // More processors than there can be: the kernel refuses that for the group, and says so better.
  if (time / period >= kInfinity / kSecond) return bus::u64(kInfinity);
  const std::uint64_t whole = time / period * kSecond, part = time % period * kSecond / period;
  constexpr std::uint64_t kHundredth = kSecond / 100;
  return bus::u64((whole + part + kHundredth - 1) / kHundredth * kHundredth);
}

void add_quota(Properties& out, std::optional<std::int64_t> quota, std::optional<std::uint64_t> period,
               const InForce& now) {
  if (given(period)) out.emplace_back("CPUQuotaPeriodUSec", bus::u64(*period));
  const std::uint64_t counted = given(period) ? *period : now.cpu_period.value_or(kUsualPeriod);
  // systemd keeps a share of a processor: of another period it would be another quota.
  if (!given(quota) && given(period)) quota = now.cpu_quota;
  if (given(quota)) out.emplace_back("CPUQuotaPerSecUSec", quota_per_second(*quota, counted));
}

Result<void> add_cpu(Properties& out, const oci::CpuLimits& cpu, bool v2, unsigned systemd, const InForce& now) {
  constexpr unsigned kKnowsIdle = 252;
  if (v2 && cpu.idle.value_or(0) == 1) {
    if (systemd >= kKnowsIdle) out.emplace_back("CPUWeight", bus::u64(0));
  } else if (given(cpu.shares)) {
    if (v2) out.emplace_back("CPUWeight", bus::u64(weight_of_shares(*cpu.shares)));
    else out.emplace_back("CPUShares", bus::u64(*cpu.shares));
  }
  add_quota(out, cpu.quota, cpu.period, now);
  TRY(add_set(out, "AllowedCPUs", cpu.cpus, "linux.resources.cpu.cpus"));
  return add_set(out, "AllowedMemoryNodes", cpu.mems, "linux.resources.cpu.mems");
}

Result<void> add_memory(Properties& out, const oci::MemoryLimits& memory, bool v2, const InForce& now) {
  if (given(memory.limit)) out.emplace_back(v2 ? "MemoryMax" : "MemoryLimit", limit(*memory.limit));
  if (!v2) return {};
  if (given(memory.reservation))
    out.emplace_back("MemoryLow",
                     bus::u64(*memory.reservation < 0 ? 0 : static_cast<std::uint64_t>(*memory.reservation)));
  const bool lift = given(memory.limit) && *memory.limit < 0 && !given(memory.swap);
  if (lift) out.emplace_back("MemorySwapMax", bus::u64(kInfinity));
  if (!given(memory.swap)) return {};
  const std::int64_t beside = given(memory.limit) ? *memory.limit : now.memory_limit.value_or(0);
  out.emplace_back("MemorySwapMax", limit(TRY_CTX(swap_max(*memory.swap, beside), "linux.resources.memory.swap")));
  return {};
}

// "max" or a number.
std::optional<bus::Value> limit_of(std::string_view text) {
  if (text == "max") return bus::u64(kInfinity);
  const auto number = parse_int<std::uint64_t>(text);
  return number ? std::optional(bus::u64(*number)) : std::nullopt;
}

// "QUOTA PERIOD" of cpu.max; "max" is -1. What is no number is nothing.
struct CpuMax {
  std::optional<std::int64_t> quota;
  std::optional<std::uint64_t> period;
};

CpuMax cpu_max_in(std::string_view text) {
  const auto pair = split_once(text, ' ');
  const std::string_view first = pair ? pair->first : text;
  return {first == "max" ? std::optional<std::int64_t>(-1) : parse_int<std::int64_t>(first),
          pair ? parse_int<std::uint64_t>(pair->second) : std::nullopt};
}

struct UnifiedName {
  std::string_view file;
  const char* property;
};
constexpr UnifiedName kPlainFiles[] = {{"memory.max", "MemoryMax"}, {"memory.high", "MemoryHigh"},
                                       {"memory.low", "MemoryLow"}, {"memory.min", "MemoryMin"},
                                       {"pids.max", "TasksMax"},    {"memory.swap.max", "MemorySwapMax"},
                                       {"cpu.weight", "CPUWeight"}};

// What the file takes is for the kernel to judge: what cannot be read here is written to the group all the same.
Result<void> add_unified(Properties& out, const std::map<std::string, std::string>& unified, unsigned systemd,
                         const InForce& now) {
  for (const auto& [file, value] : unified) {
    const std::string_view text = chomp(value);
    const auto* const plain = std::ranges::find(kPlainFiles, file, &UnifiedName::file);
    if (plain != std::end(kPlainFiles)) {
      if (auto number = limit_of(text)) out.emplace_back(plain->property, *std::move(number));
    } else if (file == "cpu.max") {
      const auto [quota, period] = cpu_max_in(text);
      if (quota) add_quota(out, quota, period, now);
    } else if (file == "io.weight") {
      // A line for one device, "8:0 200", has no property.
      constexpr std::string_view kDefault = "default ";
      if (auto number = limit_of(text.starts_with(kDefault) ? text.substr(kDefault.size()) : text))
        out.emplace_back("IOWeight", *std::move(number));
    } else if (file == "cpu.idle" && text == "1") {
      TRY(add_cpu(out,
                  {.shares = {},
                   .quota = {},
                   .burst = {},
                   .period = {},
                   .realtime_runtime = {},
                   .realtime_period = {},
                   .cpus = {},
                   .mems = {},
                   .idle = 1},
                  true, systemd, {}));
    } else if (file == "cpuset.cpus" || file == "cpuset.mems") {
      TRY(add_set(out, file == "cpuset.cpus" ? "AllowedCPUs" : "AllowedMemoryNodes", text,
                  str("linux.resources.unified[", quoted(file), "]")));
    }
  }
  return {};
}

void add_block_io(Properties& out, const oci::BlockIoLimits& block_io, bool v2) {
  if (!given(block_io.weight)) return;
  if (v2) out.emplace_back("IOWeight", bus::u64(io_weight_of_blkio(*block_io.weight)));
  else out.emplace_back("BlockIOWeight", bus::u64(*block_io.weight));
}

Result<void> add_devices(Properties& out, const std::vector<oci::DeviceRule>& rules) {
  const auto checked = TRY(check_device_rules(rules));
  std::ranges::move(device_properties(checked, text_of(AT_FDCWD, "/proc/devices")), std::back_inserter(out));
  return {};
}

}  // namespace

InForce in_force(const Group& group) {
  InForce now;
  group.each([&](const Place& place, int dir_fd) {
    std::string text;
    const auto read = [&](const char* file) { return read_control(dir_fd, file, text) == 0; };
    if (!place.hierarchy.unified && has_word(place.hierarchy.controllers, "cpu")) {
      if (read("cpu.cfs_quota_us")) now.cpu_quota = parse_int<std::int64_t>(chomp(text));
      if (read("cpu.cfs_period_us")) now.cpu_period = parse_int<std::uint64_t>(chomp(text));
    }
    if (!place.hierarchy.unified) return;
    if (read("cpu.max")) {
      const CpuMax cpu = cpu_max_in(chomp(text));
      now.cpu_quota = cpu.quota;
      now.cpu_period = cpu.period;
    }
    if (read("memory.max")) now.memory_limit = chomp(text) == "max" ? -1 : parse_int<std::int64_t>(chomp(text));
  });
  return now;
}

oci::Resources with_other_half(oci::Resources resources, const InForce& now) {
  if (!resources.cpu) return resources;
  oci::CpuLimits& cpu = *resources.cpu;
  if (given(cpu.period) && !given(cpu.quota)) cpu.quota = now.cpu_quota;
  else if (given(cpu.quota) && !given(cpu.period)) cpu.period = now.cpu_period;
  return resources;
}

Result<std::vector<Property>> limit_properties(const oci::Resources& resources, Layout layout, unsigned systemd,
                                               const InForce& now) {
  const bool v2 = layout == Layout::v2;
  Properties out;
  if (resources.memory) TRY(add_memory(out, *resources.memory, v2, now));
  if (resources.cpu) TRY(add_cpu(out, *resources.cpu, v2, systemd, now));
  // As in the group: 0 is 1, see limits.cc.
  if (resources.pids_limit) out.emplace_back("TasksMax", limit(*resources.pids_limit == 0 ? 1 : *resources.pids_limit));
  if (resources.block_io) add_block_io(out, *resources.block_io, v2);
  if (!v2 && !resources.devices.empty()) TRY(add_devices(out, resources.devices));
  if (v2) TRY(add_unified(out, resources.unified, systemd, now));
  return out;
}

std::vector<Property> scope_properties(const oci::Resources& resources, Layout layout, unsigned systemd) {
  constexpr unsigned kScopesHaveIt = 253;
  const auto killed_as_one = resources.unified.find("memory.oom.group");
  const bool wanted = killed_as_one != resources.unified.end() && chomp(killed_as_one->second) == "1";
  if (layout != Layout::v2 || !wanted || systemd < kScopesHaveIt) return {};
  return {{"OOMPolicy", bus::text("kill")}};
}

namespace {

// A time in seconds as the microseconds that the property takes.
Result<bus::Value> in_microseconds(const bus::Value& value) {
  constexpr std::string_view kIntegers = "ynqiuxt";
  const bool negative = value.type == "d" ? value.real < 0
                                          : std::string_view("nix").find(value.type[0]) != std::string_view::npos &&
                                                static_cast<std::int64_t>(value.number) < 0;
  if (value.type == "d" && !negative && value.real < 1e12)
    return bus::u64(static_cast<std::uint64_t>(value.real * static_cast<double>(kSecond)));
  if (value.type.size() == 1 && kIntegers.find(value.type[0]) != std::string_view::npos && !negative &&
      value.number <= kInfinity / kSecond)
    return bus::u64(value.number * kSecond);
  return Error::make(Code::invalid_config, "not a number of seconds");
}

Result<Property> annotated(std::string_view name, const std::string& text) {
  constexpr std::size_t kShortest = 3;
  const bool letters =
      std::ranges::all_of(name, [](char c) { return std::isalpha(static_cast<unsigned char>(c)) != 0; });
  if (name.size() < kShortest || !letters)
    return Error::make(Code::invalid_config, quoted(name), " is no property's name");
  bus::Value value = TRY(parse_gvariant(text));
  if (!name.ends_with("Sec") || name.ends_with("USec")) return Property(name, std::move(value));
  return Property(str(name.substr(0, name.size() - 3), "USec"), TRY(in_microseconds(value)));
}

}  // namespace

Result<std::vector<Property>> annotated_properties(const std::map<std::string, std::string>& annotations) {
  constexpr std::string_view kPrefix = "org.systemd.property.";
  Properties out;
  for (const auto& [key, text] : annotations)
    if (key.starts_with(kPrefix))
      out.push_back(
          TRY_CTX(annotated(std::string_view(key).substr(kPrefix.size()), text), "annotations[", quoted(key), "]"));
  return out;
}

}  // namespace skink::cgroup
