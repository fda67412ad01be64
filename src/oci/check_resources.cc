// SPDX-License-Identifier: Apache-2.0
// What check_spec says about linux.resources: above all that no name in it can leave the cgroup's directory.
#include <algorithm>
#include <limits>

#include "base/text.h"
#include "oci/check.h"

namespace skink::oci {
namespace {

// What the kernel takes: sched/core.c, kernel/cgroup/pids.c, block/bfq-cgroup.c. It refuses the rest when the group is
// made, or cuts it without a word.
constexpr std::uint64_t kLeastTime = 1'000, kMostPeriod = 1'000'000, kUsualPeriod = 1'000'000;
constexpr std::int64_t kMostPids = 4'194'304;
constexpr unsigned kLeastWeight = 10, kMostWeight = 1'000;
constexpr std::uint32_t kMostCpu = 8'191, kMostNode = 1'023;

// Everything that is there, and 0 stands for what is not.
template <typename T>
bool is_outside(const std::optional<T>& value, std::uint64_t least, std::uint64_t most) {
  const auto number = static_cast<std::uint64_t>(value.value_or(0));
  return number != 0 && (number < least || number > most);
}

void check_device_rules(const std::string& path, const std::vector<DeviceRule>& rules, Findings& findings) {
  constexpr std::int64_t kMost = std::numeric_limits<std::uint32_t>::max();
  const auto is_number = [](std::optional<std::int64_t> number) {
    return number.value_or(0) >= 0 && number.value_or(0) <= kMost;
  };
  for (std::size_t i = 0; i < rules.size(); ++i) {
    if (rules[i].access.find_first_not_of("rwm") != std::string::npos && !rules[i].denies_whatever_it_says())
      findings.add(at(path, i) + ".access", brief(rules[i].access), " is not made of r, w and m");
    if (!is_number(rules[i].major)) findings.add(at(path, i) + ".major", *rules[i].major, " is no number of a device");
    if (!is_number(rules[i].minor)) findings.add(at(path, i) + ".minor", *rules[i].minor, " is no number of a device");
  }
}

void check_memory(const std::string& path, const MemoryLimits& memory, Findings& findings) {
  const std::int64_t limit = memory.limit.value_or(-1), swap = memory.swap.value_or(-1);
  // "swap" is memory and swap together, on every cgroup version.
  if (limit > 0 && swap > 0 && swap < limit)
    findings.add(path + ".swap", swap, " is below the limit ", limit, "; it counts memory and swap together");
}

// 2^44 ns, max_cfs_runtime.
constexpr std::int64_t kMostQuota = 17'592'186'044;

void check_realtime(const std::string& path, const CpuLimits& cpu, Findings& findings) {
  const std::uint64_t period = cpu.realtime_period.value_or(0) == 0 ? kUsualPeriod : *cpu.realtime_period;
  const std::int64_t runtime = cpu.realtime_runtime.value_or(0);
  if (runtime > 0 && static_cast<std::uint64_t>(runtime) > period)
    findings.add(path + ".realtimeRuntime", runtime, " is above the period of ", period, " microseconds");
  // In nanoseconds it has to fit 64 bits.
  if (period > std::numeric_limits<std::uint64_t>::max() / 1'000)
    findings.add(path + ".realtimePeriod", period, " is more than the kernel can count");
}

void check_cpu(const std::string& path, const CpuLimits& cpu, Findings& findings) {
  if (!cpu.cpus.empty() && !is_number_list(cpu.cpus, kMostCpu))
    findings.add(path + ".cpus", brief(cpu.cpus), " is not a list of CPUs such as 0-3,7, up to ", kMostCpu);
  if (!cpu.mems.empty() && !is_number_list(cpu.mems, kMostNode))
    findings.add(path + ".mems", brief(cpu.mems), " is not a list of memory nodes such as 0-3,7, up to ", kMostNode);
  // Not the shares: where they become a weight (cgroup v2), what is beyond their bounds is the least or the most.
  if (is_outside(cpu.period, kLeastTime, kMostPeriod))
    findings.add(path + ".period", *cpu.period, " is not from ", kLeastTime, " to ", kMostPeriod, " microseconds");
  check_realtime(path, cpu, findings);
  const std::int64_t quota = cpu.quota.value_or(-1);
  if (quota > 0 && static_cast<std::uint64_t>(quota) < kLeastTime)
    findings.add(path + ".quota", quota, " is below ", kLeastTime, " microseconds");
  if (quota > kMostQuota) findings.add(path + ".quota", quota, " is above ", kMostQuota, " microseconds");
  if (quota > 0 && cpu.burst.value_or(0) > static_cast<std::uint64_t>(quota))
    findings.add(path + ".burst", *cpu.burst, " is above the quota ", quota);
}

void check_weight(const std::string& path, std::optional<std::uint16_t> weight, Findings& findings) {
  if (is_outside(weight, kLeastWeight, kMostWeight))
    findings.add(path, *weight, " is not from ", kLeastWeight, " to ", kMostWeight);
}

void check_block_io(const std::string& path, const BlockIoLimits& limits, Findings& findings) {
  check_weight(path + ".weight", limits.weight, findings);
  check_weight(path + ".leafWeight", limits.leaf_weight, findings);
  for (std::size_t i = 0; i < limits.weight_devices.size(); ++i) {
    const WeightDevice& device = limits.weight_devices[i];
    const std::string place = at(path + ".weightDevice", i);
    if (!device.weight && !device.leaf_weight) findings.add(place, "has neither weight nor leafWeight");
    check_weight(place + ".weight", device.weight, findings);
    check_weight(place + ".leafWeight", device.leaf_weight, findings);
  }
}

/// "64KB", "2MB", "1GB": part of a file name in the cgroup (attack A81).
bool is_page_size(std::string_view text) {
  if (text.size() < 3 || text.back() != 'B') return false;
  const char unit = text[text.size() - 2];
  const std::string_view digits = text.substr(0, text.size() - 2);
  return (unit == 'K' || unit == 'M' || unit == 'G') && digits.front() != '0' && digits.front() != '-' &&
         parse_int<std::uint32_t>(digits).has_value();
}

void check_hugepages(const std::string& path, const std::vector<HugepageLimit>& limits, Findings& findings) {
  for (std::size_t i = 0; i < limits.size(); ++i)
    if (!is_page_size(limits[i].page_size))
      findings.add(at(path, i) + ".pageSize", brief(limits[i].page_size), " is not a size such as 2MB");
}

void check_network(const std::string& path, const NetworkLimits& network, Findings& findings) {
  for (std::size_t i = 0; i < network.priorities.size(); ++i)
    if (!is_interface_name(network.priorities[i].first))
      findings.add(at(path + ".priorities", i) + ".name", brief(network.priorities[i].first),
                   " is not the name of a network interface");
}

// "mlx5_1 hca_handle=3": the name is the start of a line that the kernel parses.
void check_rdma(const std::string& path, const std::map<std::string, RdmaLimit>& rdma, Findings& findings) {
  for (const auto& [device, limit] : rdma) {
    if (!is_file_name(device) || device.find(' ') != std::string::npos)
      findings.add(at(path, device), "is not the name of a device");
    if (!limit.hca_handles && !limit.hca_objects)
      findings.add(at(path, device), "has neither hcaHandles nor hcaObjects");
  }
}

// Each key is a file in the cgroup. The three that move or kill processes are no configuration.
void check_unified(const std::string& path, const std::map<std::string, std::string>& unified, Findings& findings) {
  for (const auto& [file, value] : unified) {
    if (!is_file_name(file) || file.find('.') == std::string::npos)
      findings.add(at(path, file), "is not the name of a cgroup file such as memory.high");
    if (file == "cgroup.procs" || file == "cgroup.threads" || file == "cgroup.kill")
      findings.add(at(path, file), "is not a setting");
  }
}

}  // namespace

void check_resources(const std::string& path, const Resources& resources, Findings& findings) {
  check_device_rules(path + "devices", resources.devices, findings);
  if (resources.pids_limit.value_or(0) > kMostPids)
    findings.add(path + "pids.limit", *resources.pids_limit, " is above ", kMostPids,
                 ", the most that Linux can have; -1 is no limit");
  if (resources.memory) check_memory(path + "memory", *resources.memory, findings);
  if (resources.cpu) check_cpu(path + "cpu", *resources.cpu, findings);
  if (resources.block_io) check_block_io(path + "blockIO", *resources.block_io, findings);
  check_hugepages(path + "hugepageLimits", resources.hugepages, findings);
  if (resources.network) check_network(path + "network", *resources.network, findings);
  check_rdma(path + "rdma", resources.rdma, findings);
  check_unified(path + "unified", resources.unified, findings);
}

std::vector<Error> check_resources(const Resources& resources) {
  Findings findings;
  check_resources("", resources, findings);
  return findings.take();
}

}  // namespace skink::oci
