// SPDX-License-Identifier: Apache-2.0
// What check_spec says about linux.seccomp.
#include <algorithm>

#include "base/text.h"
#include "oci/check.h"

namespace skink::oci {
namespace {

// The number travels in the 16 data bits of the filter's answer; as an errno the kernel cuts it to MAX_ERRNO.
void check_errno(const std::string& path, const std::string& action, std::optional<std::uint32_t> number,
                 Findings& findings) {
  if (!number) return;
  const bool is_errno = action == "SCMP_ACT_ERRNO";
  const std::uint32_t most = is_errno ? 4095 : 65535;
  if (!is_errno && action != "SCMP_ACT_TRACE") findings.add(path, "is for SCMP_ACT_ERRNO and SCMP_ACT_TRACE only");
  else if (*number > most) findings.add(path, *number, " is above ", most);
}

void check_rule(const std::string& path, const SeccompRule& rule, Findings& findings) {
  check_errno(path + ".errnoRet", rule.action, rule.errno_ret, findings);
  if (rule.names.empty()) findings.add(path + ".names", "is empty");
  for (std::size_t i = 0; i < rule.names.size(); ++i)
    if (rule.names[i].empty()) findings.add(at(path + ".names", i), "is empty");
}

}  // namespace

void check_seccomp(const Seccomp& seccomp, Findings& findings) {
  constexpr std::string_view kNotify = "SCMP_ACT_NOTIFY";
  check_errno("linux.seccomp.defaultErrnoRet", seccomp.default_action, seccomp.default_errno_ret, findings);
  for (std::size_t i = 0; i < seccomp.syscalls.size(); ++i)
    check_rule(at("linux.seccomp.syscalls", i), seccomp.syscalls[i], findings);
  // The call that hands the listener over would itself wait for the listener's answer.
  if (seccomp.default_action == kNotify)
    findings.add("linux.seccomp.defaultAction", "SCMP_ACT_NOTIFY can be the action of named calls only");
  const bool notifies = std::any_of(seccomp.syscalls.begin(), seccomp.syscalls.end(),
                                    [&](const SeccompRule& rule) { return rule.action == kNotify; });
  if (notifies && seccomp.listener_path.empty())
    findings.add("linux.seccomp.listenerPath", "is missing; SCMP_ACT_NOTIFY needs it");
  if (!seccomp.listener_path.empty()) check_absolute("linux.seccomp.listenerPath", seccomp.listener_path, findings);
  if (!seccomp.listener_metadata.empty() && seccomp.listener_path.empty())
    findings.add("linux.seccomp.listenerMetadata", "is set without listenerPath");
}

}  // namespace skink::oci
