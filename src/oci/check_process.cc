// SPDX-License-Identifier: Apache-2.0
// What check_spec says about the process.
#include <sched.h>

#include "base/text.h"
#include "oci/check.h"

namespace skink::oci {
namespace {

void check_rlimits(const std::vector<Rlimit>& limits, Findings& findings) {
  for (std::size_t i = 0; i < limits.size(); ++i) {
    const std::string_view name = rlimit_name(limits[i].resource);
    if (limits[i].soft > limits[i].hard)
      findings.add(at("process.rlimits", i) + ".soft", limits[i].soft, " is above the hard limit ", limits[i].hard,
                   " of ", name);
    for (std::size_t j = 0; j < i; ++j)
      if (limits[j].resource == limits[i].resource)
        findings.add(at("process.rlimits", i) + ".type", name, " is in entry ", j, " already");
  }
}

// sched(7): each policy has parameters of its own, and the kernel takes no others; but a nice value is one of any
// process (config.md), and is kept for when it has an ordinary policy again.
void check_scheduler(const Scheduler& scheduler, Findings& findings) {
  const bool real_time = scheduler.policy == SCHED_FIFO || scheduler.policy == SCHED_RR;
  const bool deadline = scheduler.policy == SCHED_DEADLINE;
  const bool has_times = scheduler.runtime != 0 || scheduler.deadline != 0 || scheduler.period != 0;
  if (real_time && scheduler.priority < 1)
    findings.add("process.scheduler.priority", scheduler.priority, " is not from 1 to 99, which this policy needs");
  if (!real_time && scheduler.priority != 0)
    findings.add("process.scheduler.priority", "is for SCHED_FIFO and SCHED_RR only");
  if (!deadline && has_times)
    findings.add("process.scheduler", "runtime, deadline and period are for SCHED_DEADLINE only");
  const std::uint64_t period = scheduler.period == 0 ? scheduler.deadline : scheduler.period;
  // __checkparam_dl() of the kernel.
  constexpr std::uint64_t kLeastRuntime = 1'024, kLeastPeriod = 100'000, kMostPeriod = 4'194'304'000;
  if (deadline && scheduler.runtime != 0 && scheduler.runtime < kLeastRuntime)
    findings.add("process.scheduler.runtime", scheduler.runtime, " is below ", kLeastRuntime, " nanoseconds");
  if (deadline && (period < kLeastPeriod || period > kMostPeriod))
    findings.add(scheduler.period == 0 ? "process.scheduler.deadline" : "process.scheduler.period", period,
                 " is not from ", kLeastPeriod, " to ", kMostPeriod, " nanoseconds");
  if (deadline && (scheduler.runtime == 0 || scheduler.runtime > scheduler.deadline || scheduler.deadline > period))
    findings.add("process.scheduler", "SCHED_DEADLINE needs 0 < runtime <= deadline <= period");
}

void check_affinity(std::string_view name, const std::optional<std::string>& cpus, Findings& findings) {
  if (cpus && !cpus->empty() && !is_number_list(*cpus))
    findings.add(str("process.execCPUAffinity.", name), brief(*cpus), " is not a list of CPUs such as 0-3,7");
}

}  // namespace

void check_process(const Process& process, bool cwd_required, Findings& findings) {
  if (process.args.empty()) findings.add("process.args", "is missing or empty; the first entry is the program to run");
  else if (process.args.front().empty()) findings.add("process.args[0]", "is empty; it is the program to run");
  if (process.cwd.empty()) {
    if (cwd_required) findings.add("process.cwd", "is missing");
  } else check_absolute("process.cwd", process.cwd, findings);
  check_env("process.env", process.env, findings);
  constexpr std::size_t kMostGroups = 65'536;  // NGROUPS_MAX
  if (process.user.additional_gids.size() > kMostGroups)
    findings.add("process.user.additionalGids", "has more than the kernel's ", kMostGroups, " entries");
  check_rlimits(process.rlimits, findings);
  if (process.scheduler) check_scheduler(*process.scheduler, findings);
  if (has_control(process.apparmor_profile)) findings.add("process.apparmorProfile", "has a control byte in it");
  if (has_control(process.selinux_label)) findings.add("process.selinuxLabel", "has a control byte in it");
  if (!process.exec_cpu_affinity) return;
  check_affinity("initial", process.exec_cpu_affinity->initial, findings);
  check_affinity("final", process.exec_cpu_affinity->final, findings);
}

std::vector<Error> check_process(const Process& process) {
  Findings findings;
  check_process(process, false, findings);
  return findings.take();
}

}  // namespace skink::oci
