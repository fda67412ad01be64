// SPDX-License-Identifier: Apache-2.0
// linux.resources.memory on cgroup v1 and v2.
#include "base/text.h"
#include "cgroup/control_file.h"
#include "cgroup/convert.h"
#include "cgroup/limits.h"

namespace skink::cgroup {
namespace {

constexpr std::string_view kMemory = "linux.resources.memory.";

Setting memory_setting(std::string_view member, const char* file, std::string value) {
  return {str(kMemory, member), file, std::move(value)};
}

// As the engines mean it, 0 is "not given": there is no container in 0 bytes.
bool is_given(const std::optional<std::int64_t>& value) { return value && *value != 0; }

Result<void> check_values(const oci::MemoryLimits& memory) {
  if (memory.swappiness && *memory.swappiness > 100)
    return Error::make(Code::invalid_config, kMemory, "swappiness: ", *memory.swappiness, " is not from 0 to 100");
  if (is_given(memory.swap) && *memory.swap > 0 && is_given(memory.limit) && *memory.limit > *memory.swap)
    return Error::make(Code::invalid_config, kMemory, "swap: ", *memory.swap, " is less than the memory limit of ",
                       *memory.limit, "; it counts memory and swap together");
  return {};
}

// checkBeforeUpdate: v2 would take a limit below what is in use and end processes until it fits.
Result<void> check_usage(const Target& target, const oci::MemoryLimits& memory) {
  if (!memory.check_before_update.value_or(false) || !memory.limit || *memory.limit <= 0) return {};
  std::string text;
  const char* const file = target.unified() ? "memory.current" : "memory.usage_in_bytes";
  if (const int err = read_control(target.fd, file, text); err != 0)
    return Error::from_errno(err, kMemory, "checkBeforeUpdate: read ", file);
  const auto used = parse_int<std::int64_t>(chomp(text));
  if (used && *used <= *memory.limit) return {};
  return Error::make(Code::busy, kMemory, "limit: ", *memory.limit, " is less than the ", printable(chomp(text)),
                     " bytes in use (checkBeforeUpdate)");
}

Result<void> limits_v1(const Target& target, const oci::MemoryLimits& memory) {
  constexpr const char* kLimit = "memory.limit_in_bytes";
  constexpr const char* kBoth = "memory.memsw.limit_in_bytes";
  std::vector<Setting> settings;
  if (is_given(memory.limit)) settings.push_back(memory_setting("limit", kLimit, str(*memory.limit)));
  // No limit on swap is what a kernel without swap accounting has anyway; "no memory limit" means both.
  const bool lift = is_given(memory.limit) && *memory.limit < 0 && !is_given(memory.swap);
  const bool no_limit = is_given(memory.swap) ? *memory.swap < 0 : lift;
  if ((is_given(memory.swap) || lift) && (!no_limit || has_control(target.fd, kBoth)))
    settings.push_back(memory_setting("swap", kBoth, lift ? "-1" : str(*memory.swap)));
  return settle(target, std::move(settings));
}

Result<void> rest_v1(const Target& target, const oci::MemoryLimits& memory) {
  if (is_given(memory.reservation))
    TRY(put(target, memory_setting("reservation", "memory.soft_limit_in_bytes", str(*memory.reservation))));
  if (is_given(memory.kernel) && *memory.kernel > 0)
    TRY(put(target, memory_setting("kernel", "memory.kmem.limit_in_bytes", str(*memory.kernel))));
  if (is_given(memory.kernel_tcp))
    TRY(put(target, memory_setting("kernelTCP", "memory.kmem.tcp.limit_in_bytes", str(*memory.kernel_tcp))));
  if (memory.swappiness) TRY(put(target, memory_setting("swappiness", "memory.swappiness", str(*memory.swappiness))));
  if (memory.disable_oom_killer)
    TRY(put(target, memory_setting("disableOOMKiller", "memory.oom_control", *memory.disable_oom_killer ? "1" : "0")));
  return {};
}

// The limit that `swap` is counted from: the one given beside it, or the one in force.
std::int64_t limit_beside(const Target& target, const oci::MemoryLimits& memory) {
  if (is_given(memory.limit)) return *memory.limit;
  std::string text;
  if (read_control(target.fd, "memory.max", text) != 0) return 0;
  return parse_int<std::int64_t>(chomp(text)).value_or(0);
}

Result<void> swap_v2(const Target& target, const oci::MemoryLimits& memory) {
  const bool lift = is_given(memory.limit) && *memory.limit < 0 && !is_given(memory.swap);
  if (!is_given(memory.swap) && !lift) return {};
  const std::int64_t most = lift ? -1 : TRY_CTX(swap_max(*memory.swap, limit_beside(target, memory)), kMemory, "swap");
  // A kernel without swap accounting has no file, and nothing to write when there is no limit, or no swap.
  if (most <= 0 && !has_control(target.fd, "memory.swap.max")) return {};
  return put(target, memory_setting("swap", "memory.swap.max", or_max(most)));
}

Result<void> refuse_v1_only(const oci::MemoryLimits& memory) {
  if (memory.swappiness) return only_v1(str(kMemory, "swappiness"));
  if (memory.disable_oom_killer.value_or(false)) return only_v1(str(kMemory, "disableOOMKiller"));
  if (is_given(memory.kernel) && *memory.kernel > 0) return only_v1(str(kMemory, "kernel"));
  if (is_given(memory.kernel_tcp) && *memory.kernel_tcp > 0) return only_v1(str(kMemory, "kernelTCP"));
  return {};
}

Result<void> all_v2(const Target& target, const oci::MemoryLimits& memory) {
  TRY(refuse_v1_only(memory));
  // Swap is counted from the limit beside it or in force, so it comes first.
  TRY(swap_v2(target, memory));
  if (is_given(memory.limit)) TRY(put(target, memory_setting("limit", "memory.max", or_max(*memory.limit))));
  // The v1 soft limit without a limit protects nothing; memory.low says that with 0.
  if (is_given(memory.reservation))
    TRY(put(target,
            memory_setting("reservation", "memory.low", *memory.reservation < 0 ? "0" : str(*memory.reservation))));
  return {};
}

// The member to name when the host has no memory controller; nullptr when nothing asks for one.
const char* first_member(const oci::MemoryLimits& memory) {
  if (is_given(memory.limit)) return "limit";
  if (is_given(memory.swap)) return "swap";
  if (is_given(memory.reservation)) return "reservation";
  if (memory.swappiness) return "swappiness";
  if (memory.disable_oom_killer) return "disableOOMKiller";
  if (is_given(memory.kernel) && *memory.kernel > 0) return "kernel";
  return is_given(memory.kernel_tcp) ? "kernelTCP" : nullptr;
}

}  // namespace

Result<void> apply_memory(const Targets& targets, const oci::MemoryLimits& memory) {
  const char* const member = first_member(memory);
  if (member == nullptr) return {};
  TRY(check_values(memory));
  const Target target = TRY(targets.need(str(kMemory, member), "memory"));
  TRY(check_usage(target, memory));
  if (target.unified()) return all_v2(target, memory);
  TRY(limits_v1(target, memory));
  return rest_v1(target, memory);
}

}  // namespace skink::cgroup
