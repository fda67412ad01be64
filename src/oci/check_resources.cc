// SPDX-License-Identifier: Apache-2.0
// What check_spec says about linux.resources: above all that no name in it can leave the cgroup's directory.
#include <algorithm>

#include "base/text.h"
#include "oci/check.h"

namespace skink::oci {
namespace {

void check_device_rules(const std::string& path, const std::vector<DeviceRule>& rules, Findings& findings) {
  for (std::size_t i = 0; i < rules.size(); ++i)
    if (rules[i].access.find_first_not_of("rwm") != std::string::npos)
      findings.add(at(path, i) + ".access", brief(rules[i].access), " is not made of r, w and m");
}

void check_memory(const std::string& path, const MemoryLimits& memory, Findings& findings) {
  const std::int64_t limit = memory.limit.value_or(-1), swap = memory.swap.value_or(-1);
  // "swap" is memory and swap together, on every cgroup version.
  if (limit > 0 && swap > 0 && swap < limit)
    findings.add(path + ".swap", swap, " is below the limit ", limit, "; it counts memory and swap together");
}

void check_cpu(const std::string& path, const CpuLimits& cpu, Findings& findings) {
  if (!cpu.cpus.empty() && !is_number_list(cpu.cpus))
    findings.add(path + ".cpus", brief(cpu.cpus), " is not a list of CPUs such as 0-3,7");
  if (!cpu.mems.empty() && !is_number_list(cpu.mems))
    findings.add(path + ".mems", brief(cpu.mems), " is not a list of memory nodes such as 0-3,7");
  const std::int64_t quota = cpu.quota.value_or(-1);
  if (quota > 0 && cpu.burst.value_or(0) > static_cast<std::uint64_t>(quota))
    findings.add(path + ".burst", *cpu.burst, " is above the quota ", quota);
}

void check_block_io(const std::string& path, const BlockIoLimits& limits, Findings& findings) {
  for (std::size_t i = 0; i < limits.weight_devices.size(); ++i)
    if (!limits.weight_devices[i].weight && !limits.weight_devices[i].leaf_weight)
      findings.add(at(path + ".weightDevice", i), "has neither weight nor leafWeight");
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
