// SPDX-License-Identifier: Apache-2.0
// update of skink-oci: new limits for a container that is there. What is not given stays as it is.
#include <fcntl.h>

#include "base/text.h"
#include "cgroup/resctrl.h"
#include "cli/oci_unit.h"
#include "cli/oci_verbs.h"
#include "oci/json.h"

namespace skink::cli {
namespace {

struct UpdateOptions {
  std::string file;  ///< "-": standard input
  oci::MemoryLimits memory;
  oci::CpuLimits cpu;
  std::optional<std::int64_t> pids_limit;
  std::optional<std::uint16_t> block_io_weight;
  bool has_memory = false, has_cpu = false, has_kernel_memory = false;
  oci::IntelRdt intel_rdt;
};

Error not_a_number(std::string_view value) {
  return Error::make(Code::invalid_config, quoted(value), " is not a number in its range");
}

// Bytes, with a unit if one likes: "64m". -1 is no limit.
template <auto Member>
Result<void> set_memory(UpdateOptions& options, std::string_view value) {
  options.memory.*Member = TRY(parse_size(value));
  options.has_memory = true;
  return {};
}

template <auto Member>
Result<void> set_cpu(UpdateOptions& options, std::string_view value) {
  using Number = typename std::remove_reference_t<decltype(options.cpu.*Member)>::value_type;
  const auto number = parse_int<Number>(value);
  if (!number) return not_a_number(value);
  options.cpu.*Member = *number;
  options.has_cpu = true;
  return {};
}

template <auto Member>
Result<void> set_cpuset(UpdateOptions& options, std::string_view value) {
  options.cpu.*Member = std::string(value);
  options.has_cpu = true;
  return {};
}

template <auto Member>
Result<void> set_number(UpdateOptions& options, std::string_view value) {
  using Number = typename std::remove_reference_t<decltype(options.*Member)>::value_type;
  const auto number = parse_int<Number>(value);
  if (!number) return not_a_number(value);
  options.*Member = *number;
  return {};
}

Result<void> set_kernel_memory(UpdateOptions& options, std::string_view /*value*/) {
  options.has_kernel_memory = true;
  return {};
}

template <auto Member>
Result<void> set_intel_rdt(UpdateOptions& options, std::string_view value) {
  options.intel_rdt.*Member = std::string(value);
  return {};
}

using Cpu = oci::CpuLimits;
using Memory = oci::MemoryLimits;

constexpr Option<UpdateOptions> kUpdateOptions[] = {
    {{"resources", 'r', "FILE|-", "a LinuxResources object; - reads it from standard input"},
     set_text<&UpdateOptions::file>},
    {{"memory", 0, "BYTES", "memory limit; -1: none"}, set_memory<&Memory::limit>},
    {{"memory-reservation", 0, "BYTES", "memory that is kept for it"}, set_memory<&Memory::reservation>},
    {{"memory-swap", 0, "BYTES", "memory and swap together; -1: no limit"}, set_memory<&Memory::swap>},
    {{"cpu-quota", 0, "US", "time in a period; -1: no limit"}, set_cpu<&Cpu::quota>},
    {{"cpu-period", 0, "US", "the period"}, set_cpu<&Cpu::period>},
    {{"cpu-burst", 0, "US", "time saved up for later periods"}, set_cpu<&Cpu::burst>},
    {{"cpu-share", 0, "N", "weight, 2 to 262144"}, set_cpu<&Cpu::shares>},
    {{"cpu-idle", 0, "0|1", "1: run only when nothing else does"}, set_cpu<&Cpu::idle>},
    {{"cpu-rt-period", 0, "US", "period of real-time scheduling (cgroup v1)"}, set_cpu<&Cpu::realtime_period>},
    {{"cpu-rt-runtime", 0, "US", "real-time time in a period (cgroup v1)"}, set_cpu<&Cpu::realtime_runtime>},
    {{"cpuset-cpus", 0, "LIST", "processors, \"0-3,8\""}, set_cpuset<&Cpu::cpus>},
    {{"cpuset-mems", 0, "LIST", "memory nodes"}, set_cpuset<&Cpu::mems>},
    {{"pids-limit", 0, "N", "processes and threads; -1: no limit"}, set_number<&UpdateOptions::pids_limit>},
    {{"blkio-weight", 0, "N", "weight of block I/O, 10 to 1000"}, set_number<&UpdateOptions::block_io_weight>},
    {{"kernel-memory", 0, "BYTES", "ignored: no kernel has this limit any more"}, set_kernel_memory},
    {{"kernel-memory-tcp", 0, "BYTES", "ignored likewise"}, set_kernel_memory},
    {{"l3-cache-schema", 0, "TEXT", "of Intel RDT, \"L3:0=7f0;1=1f\""}, set_intel_rdt<&oci::IntelRdt::l3_cache_schema>},
    {{"mem-bw-schema", 0, "TEXT", "likewise, \"MB:0=20;1=70\""}, set_intel_rdt<&oci::IntelRdt::mem_bw_schema>},
};

bool is_null(std::string_view text) {
  constexpr std::string_view kSpace = " \t\r\n";
  const auto first = text.find_first_not_of(kSpace);
  return first != std::string_view::npos && text.substr(first, text.find_last_not_of(kSpace) + 1 - first) == "null";
}

Result<oci::Resources> read_resources(const std::string& file) {
  if (file.empty()) return oci::Resources{};
  UniqueFd opened;
  if (file != "-") opened = TRY(sys::open_at(AT_FDCWD, file.c_str(), O_RDONLY | O_NOCTTY));
  const std::string_view what = file == "-" ? "standard input" : std::string_view(file);
  const std::string text = TRY(sys::read_all(file == "-" ? 0 : opened.get(), oci::kConfigLimit, what));
  // As null counts as absent anywhere: nothing is to change.
  if (is_null(text)) return oci::Resources{};
  oci::Resources resources = TRY_CTX(oci::parse_resources(text), printable(what));
  // Engines send the whole object back. Rules for devices stay as create has made them, as with runc: there is no
  // moment in which a container has more or fewer than those (attack A46).
  resources.devices.clear();
  return resources;
}

template <typename T>
void take(std::optional<T>& target, const std::optional<T>& given) {
  if (given) target = given;
}

// An option wins over the member of the file.
void add_options(const UpdateOptions& options, oci::Resources& resources) {
  if (options.has_memory) {
    oci::MemoryLimits& memory = resources.memory.emplace(resources.memory.value_or(oci::MemoryLimits{}));
    take(memory.limit, options.memory.limit);
    take(memory.reservation, options.memory.reservation);
    take(memory.swap, options.memory.swap);
  }
  if (options.has_cpu) {
    oci::CpuLimits& cpu = resources.cpu.emplace(resources.cpu.value_or(oci::CpuLimits{}));
    take(cpu.quota, options.cpu.quota);
    take(cpu.period, options.cpu.period);
    take(cpu.burst, options.cpu.burst);
    take(cpu.shares, options.cpu.shares);
    take(cpu.idle, options.cpu.idle);
    take(cpu.realtime_period, options.cpu.realtime_period);
    take(cpu.realtime_runtime, options.cpu.realtime_runtime);
    if (!options.cpu.cpus.empty()) cpu.cpus = options.cpu.cpus;
    if (!options.cpu.mems.empty()) cpu.mems = options.cpu.mems;
  }
  take(resources.pids_limit, options.pids_limit);
  if (options.block_io_weight) {
    auto& io = resources.block_io.emplace(resources.block_io.value_or(oci::BlockIoLimits{}));
    io.weight = options.block_io_weight;
  }
}

Result<void> change_intel_rdt(const oci::IntelRdt& rdt, const state::Record& record) {
  if (!rdt.l3_cache_schema && !rdt.mem_bw_schema) return {};
  if (!record.resctrl)
    return Error::make(Code::unsupported, "--l3-cache-schema and --mem-bw-schema: container ", quoted(record.id),
                       " was made without linux.intelRdt");
  const UniqueFd root = TRY(cgroup::open_resctrl());
  return cgroup::Resctrl{root.get()}.change(*record.resctrl, rdt);
}

}  // namespace

Result<int> oci_update(const OciGlobals& globals, Arguments args) {
  UpdateOptions options;
  const auto line = TRY(read_verb(std::span<const Option<UpdateOptions>>(kUpdateOptions), args, options,
                                  "update [--resources FILE|-] [LIMIT...] ID"));
  if (line.help) return 0;
  if (options.has_kernel_memory) globals.log.warning("update: --kernel-memory is ignored: no kernel has it any more");
  oci::Resources resources = TRY_CTX(read_resources(options.file), "--resources");
  add_options(options, resources);
  oci::settle_pids_limit("", resources);
  if (auto findings = oci::check_resources(resources); !findings.empty()) return std::move(findings.front());

  const auto [root, container] = TRY(open_container(globals, line.operands[0]));
  const auto& record = container.record();
  if (container.status() == state::Status::stopped) return not_running(record.id);
  if (!record.cgroup)
    return Error::make(Code::unsupported, "container ", quoted(record.id),
                       " was made without control groups, which hold limits");
  auto group = TRY(cgroup::Group::open(*record.cgroup));
  TRY(change_limits(record, group, resources));
  TRY(change_intel_rdt(options.intel_rdt, record));
  return 0;
}

}  // namespace skink::cli
