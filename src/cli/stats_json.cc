// SPDX-License-Identifier: Apache-2.0
#include "cli/stats_json.h"

#include <cmath>

#include "base/text.h"
#include "cli/container_json.h"
#include "cli/human.h"

namespace skink::cli {

namespace {

using cgroup::Known;
using oci::Json;

constexpr std::string_view kUnknown = "--";

// Adds members to one object, or none where nothing is known.
class Members {
 public:
  explicit Members(Absent absent) : absent_(absent) {}

  template <typename T>
  Members& add(const char* key, const std::optional<T>& value) {
    if (value) json_[key] = *value;
    else if (absent_ == Absent::null) json_[key] = nullptr;
    return *this;
  }
  Members& add(const char* key, Members inner) {
    if (!inner.json_.empty()) json_[key] = std::move(inner.json_);
    return *this;
  }
  Json take() && { return std::move(json_); }

 private:
  Absent absent_;
  Json json_ = Json::object();
};

// As people read it, not as the processor divides.
std::optional<double> rounded(const std::optional<double>& value) {
  return value ? std::optional(std::round(*value * 100.0) / 100.0) : std::nullopt;
}

// Loopback is nobody's traffic with others.
std::optional<Interface> whole_network(const ContainerSample& sample) {
  if (!sample.interfaces) return std::nullopt;
  Interface sum;
  const auto add = [](Interface::Counts& to, const Interface::Counts& from) {
    to.bytes += from.bytes;
    to.packets += from.packets;
    to.errors += from.errors;
    to.drops += from.drops;
  };
  for (const Interface& one : *sample.interfaces) {
    if (one.name == "lo") continue;
    add(sum.received, one.received);
    add(sum.sent, one.sent);
  }
  return sum;
}

std::optional<double> memory_percent(const StatsEntry& entry) {
  if (!entry.sample.use) return std::nullopt;
  const auto& memory = entry.sample.use->memory;
  const Known used = memory.used();
  const std::uint64_t limit = memory.limit.value_or(entry.host_memory);
  if (!used || limit == 0) return std::nullopt;
  return 100.0 * static_cast<double>(*used) / static_cast<double>(limit);
}

Members cpu_members(const StatsEntry& entry, const cgroup::CpuSample& cpu, Absent absent) {
  Members members(absent);
  members.add("percent", rounded(entry.cpu_percent)).add("usage_ns", cpu.total_ns).add("user_ns", cpu.user_ns);
  members.add("kernel_ns", cpu.kernel_ns).add("periods", cpu.periods);
  members.add("throttled_periods", cpu.throttled_periods).add("throttled_ns", cpu.throttled_ns);
  return members;
}

Members memory_members(const StatsEntry& entry, const cgroup::MemorySample& memory, Absent absent) {
  Members members(absent);
  members.add("used", memory.used()).add("usage", memory.usage).add("limit", memory.limit);
  members.add("percent", rounded(memory_percent(entry))).add("anon", memory.anon).add("file", memory.file);
  members.add("kernel", memory.kernel).add("inactive_file", memory.inactive_file);
  members.add("swap", memory.swap).add("peak", memory.peak);
  return members;
}

Members network_members(const ContainerSample& sample, Absent absent) {
  const auto sum = whole_network(sample);
  const auto of = [&](const Interface::Counts Interface::*way, std::uint64_t Interface::Counts::*count) {
    return sum ? Known((*sum).*way.*count) : std::nullopt;
  };
  Members members(absent);
  members.add("received_bytes", of(&Interface::received, &Interface::Counts::bytes));
  members.add("received_packets", of(&Interface::received, &Interface::Counts::packets));
  members.add("sent_bytes", of(&Interface::sent, &Interface::Counts::bytes));
  members.add("sent_packets", of(&Interface::sent, &Interface::Counts::packets));
  return members;
}

Members block_io_members(const std::optional<cgroup::BlockIoSample>& io, Absent absent) {
  const auto of = [&](std::uint64_t cgroup::BlockIoSample::*count) { return io ? Known((*io).*count) : std::nullopt; };
  Members members(absent);
  members.add("read_bytes", of(&cgroup::BlockIoSample::read_bytes));
  members.add("written_bytes", of(&cgroup::BlockIoSample::written_bytes));
  members.add("reads", of(&cgroup::BlockIoSample::reads)).add("writes", of(&cgroup::BlockIoSample::writes));
  return members;
}

Members stall_members(const std::optional<cgroup::Stall>& stall, Absent absent) {
  constexpr std::uint64_t kMicro = 1000;
  const auto of = [&](double cgroup::Stall::*avg) { return stall ? std::optional((*stall).*avg) : std::nullopt; };
  Members members(absent);
  members.add("avg10", of(&cgroup::Stall::avg10)).add("avg60", of(&cgroup::Stall::avg60));
  members.add("avg300", of(&cgroup::Stall::avg300));
  members.add("total_ns", stall ? Known(stall->total * kMicro) : std::nullopt);
  return members;
}

Members pressure_members(const std::optional<cgroup::Pressure>& pressure, Absent absent) {
  const auto of = [&](cgroup::Stall cgroup::Pressure::*kind) {
    return pressure ? std::optional((*pressure).*kind) : std::nullopt;
  };
  Members members(absent);
  members.add("some", stall_members(of(&cgroup::Pressure::some), absent));
  members.add("full", stall_members(of(&cgroup::Pressure::full), absent));
  return members;
}

std::string size_or_unknown(const Known& bytes) {
  return bytes ? human_limit(static_cast<std::int64_t>(*bytes)) : std::string(kUnknown);
}

std::string percent_or_unknown(const std::optional<double>& value) {
  return value ? str(two_decimals(*value), '%') : std::string(kUnknown);
}

std::string two_sizes(std::uint64_t first, std::uint64_t second) {
  return str(human_size(static_cast<std::int64_t>(first)), " / ", human_size(static_cast<std::int64_t>(second)));
}

std::string memory_text(const StatsEntry& entry) {
  if (!entry.sample.use) return std::string(kUnknown);
  const auto& memory = entry.sample.use->memory;
  return str(size_or_unknown(memory.used()), " / ", size_or_unknown(memory.limit.value_or(entry.host_memory)));
}

std::string memory_parts(const StatsEntry& entry) {
  if (!entry.sample.use) return std::string(kUnknown);
  const auto& memory = entry.sample.use->memory;
  return str(size_or_unknown(memory.anon), " / ", size_or_unknown(memory.file), " / ", size_or_unknown(memory.kernel));
}

std::string network_text(const StatsEntry& entry) {
  const auto sum = whole_network(entry.sample);
  return sum ? two_sizes(sum->received.bytes, sum->sent.bytes) : std::string(kUnknown);
}

std::string block_io_text(const StatsEntry& entry) {
  if (!entry.sample.use || !entry.sample.use->block_io) return std::string(kUnknown);
  return two_sizes(entry.sample.use->block_io->read_bytes, entry.sample.use->block_io->written_bytes);
}

std::string pids_text(const StatsEntry& entry) {
  if (!entry.sample.use || !entry.sample.use->pids) return std::string(kUnknown);
  const auto& limit = entry.sample.use->pids_limit;
  return str(*entry.sample.use->pids, limit ? str(" / ", *limit) : std::string());
}

std::string pressure_text(const StatsEntry& entry) {
  if (!entry.sample.use) return std::string(kUnknown);
  const auto& use = *entry.sample.use;
  if (!use.cpu_pressure && !use.memory_pressure && !use.io_pressure) return std::string(kUnknown);
  const auto some = [](const std::optional<cgroup::Pressure>& pressure) {
    return pressure ? two_decimals(pressure->some.avg10) : std::string(kUnknown);
  };
  return str(some(use.cpu_pressure), " / ", some(use.memory_pressure), " / ", some(use.io_pressure));
}

}  // namespace

Json stats_json(const StatsEntry& entry, Absent absent) {
  const ContainerSample& sample = entry.sample;
  const cgroup::Sample use = sample.use.value_or(cgroup::Sample{});
  Members pids(absent), pressure(absent), members(absent);
  pids.add("current", use.pids).add("limit", use.pids_limit);
  pressure.add("cpu", pressure_members(use.cpu_pressure, absent));
  pressure.add("memory", pressure_members(use.memory_pressure, absent));
  pressure.add("io", pressure_members(use.io_pressure, absent));
  members.add("id", std::optional(sample.info.id)).add("name", std::optional(sample.info.name));
  members.add("state", std::optional(std::string(state_text(sample.info))));
  members.add("cpu", cpu_members(entry, use.cpu, absent)).add("memory", memory_members(entry, use.memory, absent));
  members.add("network", network_members(sample, absent)).add("block_io", block_io_members(use.block_io, absent));
  members.add("pids", std::move(pids)).add("oom_kills", sample.use ? Known(use.oom_kills) : std::nullopt);
  members.add("pressure", std::move(pressure));
  return std::move(members).take();
}

Json docker_stats_json(const StatsEntry& entry, bool whole) {
  const ContainerInfo& info = entry.sample.info;
  Json json = stats_json(entry, Absent::null);
  json["ID"] = json["Container"] = whole ? info.id : short_id(info.id);
  json["Name"] = info.name;
  json["CPUPerc"] = percent_or_unknown(entry.cpu_percent);
  json["MemUsage"] = memory_text(entry);
  json["MemPerc"] = percent_or_unknown(memory_percent(entry));
  json["NetIO"] = network_text(entry);
  json["BlockIO"] = block_io_text(entry);
  json["PIDs"] = pids_text(entry);
  return json;
}

Row stats_heading() {
  return {"CONTAINER ID", "NAME",      "CPU %", "MEM USAGE / LIMIT", "MEM %", "ANON / FILE / KERNEL",
          "NET I/O",      "BLOCK I/O", "PIDS",  "PSI CPU / MEM / IO"};
}

Row stats_row(const StatsEntry& entry, bool whole) {
  const ContainerInfo& info = entry.sample.info;
  return {whole ? printable(info.id) : short_id(info.id),
          shortened(info.name, 0),
          percent_or_unknown(entry.cpu_percent),
          memory_text(entry),
          percent_or_unknown(memory_percent(entry)),
          memory_parts(entry),
          network_text(entry),
          block_io_text(entry),
          pids_text(entry),
          pressure_text(entry)};
}

}  // namespace skink::cli
