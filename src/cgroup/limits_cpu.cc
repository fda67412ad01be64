// SPDX-License-Identifier: Apache-2.0
// linux.resources.cpu on cgroup v1 and v2: the cpu and the cpuset controller.
#include "base/text.h"
#include "cgroup/control_file.h"
#include "cgroup/convert.h"
#include "cgroup/limits.h"

namespace skink::cgroup {
namespace {

constexpr std::string_view kJson = "linux.resources.cpu.";

Setting setting(std::string_view member, const char* file, std::string value) {
  return {str(kJson, member), file, std::move(value)};
}

bool given(const std::optional<std::uint64_t>& value) { return value && *value != 0; }
bool given(const std::optional<std::int64_t>& value) { return value && *value != 0; }

// The kernel cuts these to what it takes and says nothing.
Result<void> check_shares(const oci::CpuLimits& cpu) {
  if (!given(cpu.shares) || (*cpu.shares >= 2 && *cpu.shares <= 262144)) return {};
  return Error::make(Code::invalid_config, kJson, "shares: ", *cpu.shares, " is not from 2 to 262144");
}

Result<void> cpu_v1(const Target& target, const oci::CpuLimits& cpu) {
  TRY(check_shares(cpu));
  // An idle group takes no shares: they go in before it becomes idle, or after it ceases to be.
  std::vector<Setting> weight;
  if (given(cpu.shares)) weight.push_back(setting("shares", "cpu.shares", str(*cpu.shares)));
  if (cpu.idle) weight.push_back(setting("idle", "cpu.idle", str(*cpu.idle)));
  TRY(settle(target, std::move(weight)));

  std::vector<Setting> quota;
  if (given(cpu.period)) quota.push_back(setting("period", "cpu.cfs_period_us", str(*cpu.period)));
  if (given(cpu.quota)) quota.push_back(setting("quota", "cpu.cfs_quota_us", str(*cpu.quota)));
  if (cpu.burst) quota.push_back(setting("burst", "cpu.cfs_burst_us", str(*cpu.burst)));
  TRY(settle(target, std::move(quota)));

  std::vector<Setting> realtime;
  if (given(cpu.realtime_period))
    realtime.push_back(setting("realtimePeriod", "cpu.rt_period_us", str(*cpu.realtime_period)));
  if (given(cpu.realtime_runtime))
    realtime.push_back(setting("realtimeRuntime", "cpu.rt_runtime_us", str(*cpu.realtime_runtime)));
  return settle(target, std::move(realtime));
}

// "QUOTA PERIOD" for cpu.max. Half of it keeps the other half: a period alone must not lift the quota.
Result<std::string> cpu_max(const Target& target, const oci::CpuLimits& cpu) {
  std::string quota = given(cpu.quota) ? or_max(*cpu.quota) : "";
  if (quota.empty()) {
    std::string text;
    if (const int err = read_control(target.fd, "cpu.max", text); err != 0)
      return Error::from_errno(err, kJson, "period: read cpu.max");
    quota = text.substr(0, text.find(' '));
  }
  return given(cpu.period) ? str(quota, " ", *cpu.period) : quota;
}

Result<void> cpu_v2(const Target& target, const oci::CpuLimits& cpu) {
  if (given(cpu.realtime_period)) return only_v1(str(kJson, "realtimePeriod"));
  if (given(cpu.realtime_runtime)) return only_v1(str(kJson, "realtimeRuntime"));
  std::vector<Setting> weight;
  if (given(cpu.shares)) weight.push_back(setting("shares", "cpu.weight", str(weight_of_shares(*cpu.shares))));
  if (cpu.idle) weight.push_back(setting("idle", "cpu.idle", str(*cpu.idle)));
  TRY(settle(target, std::move(weight)));

  std::vector<Setting> quota;
  if (given(cpu.quota) || given(cpu.period))
    quota.push_back(setting(given(cpu.quota) ? "quota" : "period", "cpu.max", TRY(cpu_max(target, cpu))));
  if (cpu.burst) quota.push_back(setting("burst", "cpu.max.burst", str(*cpu.burst)));
  return settle(target, std::move(quota));
}

// The unified cpuset takes any list and uses the parent's where none of it is there; that is no limit at all.
Result<void> check_effective(const Target& target, const Setting& wanted) {
  std::string text;
  if (!target.unified() || read_control(target.fd, (wanted.file + ".effective").c_str(), text) != 0) return {};
  if (list_within(chomp(text), wanted.value)) return {};
  return Error::make(Code::invalid_config, wanted.json, ": of ", quoted(wanted.value), " the host gives only ",
                     printable(chomp(text)));
}

Result<void> cpuset(const Targets& targets, const Setting& wanted) {
  const Target target = TRY(targets.need(wanted.json, "cpuset"));
  TRY(put(target, wanted));
  return check_effective(target, wanted);
}

const char* first_member(const oci::CpuLimits& cpu) {
  if (given(cpu.shares)) return "shares";
  if (given(cpu.quota)) return "quota";
  if (given(cpu.period)) return "period";
  if (cpu.burst) return "burst";
  if (cpu.idle) return "idle";
  if (given(cpu.realtime_period)) return "realtimePeriod";
  return given(cpu.realtime_runtime) ? "realtimeRuntime" : nullptr;
}

}  // namespace

Result<void> apply_cpu(const Targets& targets, const oci::CpuLimits& cpu) {
  if (const char* const member = first_member(cpu)) {
    const Target target = TRY(targets.need(str(kJson, member), "cpu"));
    TRY(target.unified() ? cpu_v2(target, cpu) : cpu_v1(target, cpu));
  }
  if (!cpu.cpus.empty()) TRY(cpuset(targets, setting("cpus", "cpuset.cpus", cpu.cpus)));
  if (!cpu.mems.empty()) TRY(cpuset(targets, setting("mems", "cpuset.mems", cpu.mems)));
  return {};
}

}  // namespace skink::cgroup
