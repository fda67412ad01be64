// SPDX-License-Identifier: Apache-2.0
#include "cli/metrics_text.h"

#include <array>
#include <map>
#include <set>

#include "base/text.h"
#include "cli/container_json.h"
#include "cli/exposition.h"

namespace skink::cli {

namespace {

using cgroup::Known;
using cgroup::Sample;

constexpr auto kGauge = MetricFamily::Type::gauge;
constexpr auto kCounter = MetricFamily::Type::counter;
constexpr std::array<std::string_view, 7> kStates = {"created", "running", "paused", "restarting",
                                                     "exited",  "unknown", "corrupt"};

// In the order of kFamilies.
enum FamilyIndex : std::size_t {
  kBuildInfo,
  kContainers,
  kInfo,
  kState,
  kRunning,
  kRestarts,
  kCreated,
  kStarted,
  kFinished,
  kExitCode,
  kExitOom,
  kReceivedBytes,
  kReceivedPackets,
  kReceivedErrors,
  kReceivedDrops,
  kSentBytes,
  kSentPackets,
  kSentErrors,
  kSentDrops,
  kPressureWaiting,
  kPressureStalled,
  kFirstUse,
};

// Families with one sample a container, out of what its groups tell.
struct Use {
  MetricFamily family;
  Known (*value)(const Sample& sample);
};

template <auto Part, auto Member>
Known part_of(const Sample& sample) {
  return (sample.*Part).*Member;
}
template <auto Member>
Known block_io_of(const Sample& sample) {
  return sample.block_io ? Known((*sample.block_io).*Member) : std::nullopt;
}

using cgroup::BlockIoSample;
using cgroup::CpuSample;
using cgroup::MemorySample;

constexpr Use kUses[] = {
    {{kCounter, "skink_container_cpu_usage_seconds", "seconds", "CPU time of all processors together."},
     part_of<&Sample::cpu, &CpuSample::total_ns>},
    {{kCounter, "skink_container_cpu_user_seconds", "seconds", "CPU time in programs."},
     part_of<&Sample::cpu, &CpuSample::user_ns>},
    {{kCounter, "skink_container_cpu_kernel_seconds", "seconds", "CPU time in the kernel."},
     part_of<&Sample::cpu, &CpuSample::kernel_ns>},
    {{kCounter, "skink_container_cpu_periods", "", "Periods of its CPU quota in which it ran."},
     part_of<&Sample::cpu, &CpuSample::periods>},
    {{kCounter, "skink_container_cpu_throttled_periods", "", "Periods in which its CPU quota was used up."},
     part_of<&Sample::cpu, &CpuSample::throttled_periods>},
    {{kCounter, "skink_container_cpu_throttled_seconds", "seconds", "Time that it had to wait for its next period."},
     part_of<&Sample::cpu, &CpuSample::throttled_ns>},
    {{kGauge, "skink_container_memory_usage_bytes", "bytes", "All memory that is charged to it, file cache included."},
     part_of<&Sample::memory, &MemorySample::usage>},
    {{kGauge, "skink_container_memory_used_bytes", "bytes", "The usage without file cache that is as good as free."},
     [](const Sample& sample) { return sample.memory.used(); }},
    {{kGauge, "skink_container_memory_limit_bytes", "bytes", "Its memory limit; no sample without one."},
     part_of<&Sample::memory, &MemorySample::limit>},
    {{kGauge, "skink_container_memory_anon_bytes", "bytes", "Memory of programs that no file is behind."},
     part_of<&Sample::memory, &MemorySample::anon>},
    {{kGauge, "skink_container_memory_file_bytes", "bytes", "File cache, shared memory and tmpfs included."},
     part_of<&Sample::memory, &MemorySample::file>},
    {{kGauge, "skink_container_memory_kernel_bytes", "bytes", "Memory of the kernel for it."},
     part_of<&Sample::memory, &MemorySample::kernel>},
    {{kGauge, "skink_container_memory_swap_bytes", "bytes", "What is swapped out."},
     part_of<&Sample::memory, &MemorySample::swap>},
    {{kGauge, "skink_container_memory_peak_bytes", "bytes", "The highest usage."},
     part_of<&Sample::memory, &MemorySample::peak>},
    {{kCounter, "skink_container_oom_kills", "", "Processes ended by the kernel's OOM killer."},
     [](const Sample& sample) { return Known(sample.oom_kills); }},
    {{kGauge, "skink_container_pids", "", "Processes and threads."}, [](const Sample& sample) { return sample.pids; }},
    {{kGauge, "skink_container_pids_limit", "", "How many there may be; no sample without a limit."},
     [](const Sample& sample) { return sample.pids_limit; }},
    {{kCounter, "skink_container_blkio_read_bytes", "bytes", "Bytes read from block devices."},
     block_io_of<&BlockIoSample::read_bytes>},
    {{kCounter, "skink_container_blkio_written_bytes", "bytes", "Bytes written to block devices."},
     block_io_of<&BlockIoSample::written_bytes>},
    {{kCounter, "skink_container_blkio_reads", "", "Read operations on block devices."},
     block_io_of<&BlockIoSample::reads>},
    {{kCounter, "skink_container_blkio_writes", "", "Write operations on block devices."},
     block_io_of<&BlockIoSample::writes>},
};

constexpr MetricFamily kOthers[] = {
    {kGauge, "skink_build_info", "", "The skink that tells this; always 1."},
    {kGauge, "skink_containers", "", "How many containers are in each state."},
    {kGauge, "skink_container_info", "", "What a container is; always 1."},
    {kGauge, "skink_container_state", "", "1 for the state that the container is in, 0 for the others."},
    {kGauge, "skink_container_running", "", "Whether its program runs (a paused one does)."},
    {kCounter, "skink_container_restarts", "", "How often it was relaunched since it was started."},
    {kGauge, "skink_container_created_timestamp_seconds", "seconds", "Unix time at which it was made."},
    {kGauge, "skink_container_started_timestamp_seconds", "seconds", "Unix time at which its last run began."},
    {kGauge, "skink_container_finished_timestamp_seconds", "seconds", "Unix time at which its last run ended."},
    {kGauge, "skink_container_last_exit_code", "", "How its last run ended: exit status, or 128 + the signal."},
    {kGauge, "skink_container_last_exit_oom", "", "Whether the OOM killer ended the last run."},
    {kCounter, "skink_container_network_receive_bytes", "bytes", "Bytes received."},
    {kCounter, "skink_container_network_receive_packets", "", "Packets received."},
    {kCounter, "skink_container_network_receive_errors", "", "Packets received with an error."},
    {kCounter, "skink_container_network_receive_drops", "", "Packets received and dropped."},
    {kCounter, "skink_container_network_transmit_bytes", "bytes", "Bytes sent."},
    {kCounter, "skink_container_network_transmit_packets", "", "Packets sent."},
    {kCounter, "skink_container_network_transmit_errors", "", "Packets that could not be sent."},
    {kCounter, "skink_container_network_transmit_drops", "", "Packets dropped instead of sent."},
    {kCounter, "skink_container_pressure_waiting_seconds", "seconds",
     "Time in which some task waited for want of the resource (PSI some)."},
    {kCounter, "skink_container_pressure_stalled_seconds", "seconds",
     "Time in which no task could run for want of the resource (PSI full)."},
};
static_assert(std::size(kOthers) == kFirstUse);

constexpr auto kFamilies = [] {
  std::array<MetricFamily, std::size(kOthers) + std::size(kUses)> all{};
  std::size_t at = 0;
  for (const MetricFamily& family : kOthers) all[at++] = family;
  for (const Use& use : kUses) all[at++] = use.family;
  return all;
}();

// The samples of one container.
class Writer {
 public:
  Writer(Exposition& out, const ContainerSample& sample)
      : out_(out),
        sample_(sample),
        labels_(str(metric_label("id", sample.info.id), ',', metric_label("name", sample.info.name))) {}

  void write() {
    write_state();
    write_times();
    write_exit();
    if (sample_.use) write_use(*sample_.use);
    if (sample_.interfaces) write_interfaces(*sample_.interfaces);
  }

 private:
  void add(std::size_t family, std::uint64_t value) { out_.add(family, labels_, str(value)); }
  void add_with(std::size_t family, const std::string& labels, std::string_view value) {
    out_.add(family, str(labels_, ',', labels), value);
  }

  void write_state() {
    const ContainerInfo& info = sample_.info;
    const std::string_view state = state_text(info);
    add_with(kInfo, str(metric_label("image", info.image), ',', metric_label("state", state)), "1");
    for (const std::string_view one : kStates) add_with(kState, metric_label("state", one), one == state ? "1" : "0");
    add(kRunning, state == "running" || state == "paused" ? 1 : 0);
    add(kRestarts, info.restarts);
  }

  void write_times() {
    const auto time = [this](std::size_t family, std::int64_t unix_ns) {
      if (unix_ns > 0) out_.add(family, labels_, seconds_text(static_cast<std::uint64_t>(unix_ns)));
    };
    time(kCreated, sample_.info.created_ns);
    time(kStarted, sample_.info.started_ns);
    time(kFinished, sample_.info.finished_ns);
  }

  void write_exit() {
    const auto& last = sample_.info.last_exit;
    if (!last || !last->known) return;
    out_.add(kExitCode, labels_, str(last->status));
    add(kExitOom, last->oom ? 1 : 0);
  }

  void write_use(const Sample& use) {
    for (std::size_t i = 0; i < std::size(kUses); ++i) {
      const Known value = kUses[i].value(use);
      if (!value) continue;
      const bool is_time = std::string_view(kUses[i].family.unit) == "seconds";
      out_.add(kFirstUse + i, labels_, is_time ? seconds_text(*value) : str(*value));
    }
    write_pressure("cpu", use.cpu_pressure);
    write_pressure("memory", use.memory_pressure);
    write_pressure("io", use.io_pressure);
  }

  void write_pressure(std::string_view resource, const std::optional<cgroup::Pressure>& pressure) {
    constexpr std::uint64_t kMicro = 1000;
    if (!pressure) return;
    add_with(kPressureWaiting, metric_label("resource", resource), seconds_text(pressure->some.total * kMicro));
    add_with(kPressureStalled, metric_label("resource", resource), seconds_text(pressure->full.total * kMicro));
  }

  // Whoever may make interfaces chooses their names, also ones that look alike once they are printable; a family that
  // says the same twice is refused as a whole.
  void write_interfaces(const std::vector<Interface>& interfaces) {
    constexpr std::size_t kMost = 64;
    std::set<std::string> written;
    for (const Interface& one : interfaces) {
      if (written.size() == kMost) return;
      if (written.insert(metric_label("interface", one.name)).second) write_interface(one);
    }
  }

  void write_interface(const Interface& one) {
    const auto write = [&](std::size_t first, const Interface::Counts& counts) {
      std::size_t family = first;
      for (const std::uint64_t count : {counts.bytes, counts.packets, counts.errors, counts.drops})
        add_with(family++, metric_label("interface", one.name), str(count));
    };
    write(kReceivedBytes, one.received);
    write(kSentBytes, one.sent);
  }

  Exposition& out_;
  const ContainerSample& sample_;
  std::string labels_;
};

}  // namespace

std::string metrics_text(const std::vector<ContainerSample>& containers, bool all) {
  Exposition out(kFamilies);
  out.add(kBuildInfo, metric_label("version", SKINK_VERSION), "1");
  std::map<std::string_view, std::uint64_t> in_state;
  for (const ContainerSample& sample : containers) {
    ++in_state[state_text(sample.info)];
    Writer(out, sample).write();
  }
  if (all)
    for (const std::string_view state : kStates)
      out.add(kContainers, metric_label("state", state), str(in_state[state]));
  return out.text();
}

}  // namespace skink::cli
