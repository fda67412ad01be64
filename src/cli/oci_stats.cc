// SPDX-License-Identifier: Apache-2.0
#include "cli/oci_stats.h"

#include "oci/json.h"

namespace skink::cli {
namespace {

using oci::Json;

Json list(const cgroup::Numbers& numbers) {
  Json json = Json::array();
  for (const auto value : numbers) json.push_back(value);
  return json;
}

Json stall(const cgroup::Stall& stall) {
  Json json;
  json["avg10"] = stall.avg10;
  json["avg60"] = stall.avg60;
  json["avg300"] = stall.avg300;
  json["total"] = stall.total;
  return json;
}

void add_pressure(Json& json, const std::optional<cgroup::Pressure>& pressure) {
  if (!pressure) return;
  json["psi"]["some"] = stall(pressure->some);
  json["psi"]["full"] = stall(pressure->full);
}

Json cpu(const cgroup::CpuUsage& cpu) {
  Json json;
  Json& usage = json["usage"];
  usage["total"] = cpu.total;
  usage["percpu"] = list(cpu.each);
  usage["percpu_kernel"] = list(cpu.each_kernel);
  usage["percpu_user"] = list(cpu.each_user);
  usage["kernel"] = cpu.kernel;
  usage["user"] = cpu.user;
  Json& throttling = json["throttling"];
  throttling["periods"] = cpu.periods;
  throttling["throttledPeriods"] = cpu.throttled_periods;
  throttling["throttledTime"] = cpu.throttled_time;
  add_pressure(json, cpu.pressure);
  return json;
}

Json cpuset(const cgroup::CpusetUsage& cpuset) {
  Json json;
  json["cpus"] = list(cpuset.cpus);
  json["mems"] = list(cpuset.mems);
  for (const char* name : {"cpu_exclusive", "mem_hardwall", "mem_exclusive", "memory_migrate", "memory_spread_page",
                           "memory_spread_slab", "memory_pressure", "sched_load_balance", "sched_relax_domain_level"}) {
    const auto found = cpuset.switches.find(name);
    json[name] = found == cpuset.switches.end() ? 0 : found->second;
  }
  return json;
}

Json entry(const cgroup::MemoryEntry& entry) {
  Json json;
  json["limit"] = entry.limit;
  json["usage"] = entry.usage;
  json["max"] = entry.max;
  json["failcnt"] = entry.failures;
  return json;
}

Json memory(const cgroup::MemoryUsage& memory) {
  Json json;
  json["cache"] = memory.cache;
  json["usage"] = entry(memory.memory);
  json["swap"] = entry(memory.swap);
  json["kernel"] = entry(memory.kernel);
  json["kernelTCP"] = entry(memory.kernel_tcp);
  json["raw"] = Json::object();
  for (const auto& [key, value] : memory.raw) json["raw"][key] = value;
  add_pressure(json, memory.pressure);
  return json;
}

Json block_io_list(const std::vector<cgroup::BlockIoEntry>& entries) {
  Json json = Json::array();
  for (const auto& entry : entries) {
    Json one;
    one["major"] = entry.major;
    one["minor"] = entry.minor;
    if (!entry.op.empty()) one["op"] = entry.op;
    one["value"] = entry.value;
    json.push_back(std::move(one));
  }
  return json;
}

Json block_io(const cgroup::BlockIoUsage& io) {
  Json json;
  json["ioServiceBytesRecursive"] = block_io_list(io.bytes);
  json["ioServicedRecursive"] = block_io_list(io.operations);
  json["ioQueueRecursive"] = block_io_list(io.queued);
  json["ioServiceTimeRecursive"] = block_io_list(io.service_time);
  json["ioWaitTimeRecursive"] = block_io_list(io.wait_time);
  json["ioMergedRecursive"] = block_io_list(io.merged);
  json["ioTimeRecursive"] = block_io_list(io.time);
  json["sectorsRecursive"] = block_io_list(io.sectors);
  add_pressure(json, io.pressure);
  return json;
}

Json hugepages(const std::map<std::string, cgroup::HugepageUsage>& sizes) {
  Json json = Json::object();
  for (const auto& [size, page] : sizes) {
    Json& one = json[size];
    one["usage"] = page.usage;
    one["max"] = page.max;
    one["failcnt"] = page.failures;
  }
  return json;
}

}  // namespace

std::string stats_event(const std::string& id, const cgroup::Usage& usage) {
  Json data;
  data["cpu"] = cpu(usage.cpu);
  data["cpuset"] = cpuset(usage.cpuset);
  data["memory"] = memory(usage.memory);
  data["pids"]["current"] = usage.pids;
  data["pids"]["limit"] = usage.pids_limit;
  data["blkio"] = block_io(usage.block_io);
  data["hugetlb"] = hugepages(usage.hugepages);
  data["intel_rdt"] = Json::object();
  data["network_interfaces"] = nullptr;
  Json event;
  event["type"] = "stats";
  event["id"] = id;
  event["data"] = std::move(data);
  return oci::dump_json(event) + "\n";
}

}  // namespace skink::cli
