// SPDX-License-Identifier: Apache-2.0
#include <linux/mount.h>

#include "base/text.h"
#include "plan/launch_plan.h"

namespace skink::plan {
namespace {

std::string octal(std::uint32_t value) {
  std::string text;
  do {
    text.insert(text.begin(), static_cast<char>('0' + value % 8));
    value /= 8;
  } while (value != 0);
  return text;
}

std::string attributes(std::uint64_t set) {
  std::string text;
  const auto add = [&](std::uint64_t bit, std::string_view word) {
    if ((set & bit) != 0) text += str(text.empty() ? "" : ",", word);
  };
  add(MOUNT_ATTR_RDONLY, "ro");
  add(MOUNT_ATTR_NOSUID, "nosuid");
  add(MOUNT_ATTR_NODEV, "nodev");
  add(MOUNT_ATTR_NOEXEC, "noexec");
  add(MOUNT_ATTR_NOATIME, "noatime");
  add(MOUNT_ATTR_STRICTATIME, "strictatime");
  return text.empty() ? "-" : text;
}

std::string describe_mount(const MountStep& step) {
  if (step.kind == MountKind::link)
    return str("link ", printable(step.destination), '/', printable(step.type), " -> ", printable(step.source));
  const std::string kind = step.kind == MountKind::tree ? "bind" : step.kind == MountKind::fs ? step.type : "remount";
  std::string line = str("mount ", printable(kind), ' ', step.source.empty() ? "-" : printable(step.source), " on ",
                         printable(step.destination), ' ', attributes(step.options.attr_set));
  for (const auto& [key, value] : step.options.params)
    line += value ? str(' ', printable(key), '=', printable(*value)) : str(' ', printable(key));
  if ((step.flags & kMountCopyUp) != 0) line += " copy-up";
  return line;
}

std::string capability_names(std::uint64_t mask) {
  std::string text;
  for (int number = 0; number < 64; ++number)
    if ((mask >> number & 1) != 0) text += str(text.empty() ? "" : ",", oci::capability_name(number));
  return text.empty() ? "none" : text;
}

}  // namespace

std::string describe(const LaunchPlan& plan) {
  std::string out;
  const auto line = [&](const auto&... pieces) { out += str(pieces..., '\n'); };
  for (const auto& join : plan.joins) line("join ", namespace_name(join.type), " namespace ", printable(join.path));
  for (const auto type : {oci::NamespaceType::user, oci::NamespaceType::pid, oci::NamespaceType::network,
                          oci::NamespaceType::ipc, oci::NamespaceType::uts, oci::NamespaceType::mount})
    if ((plan.clone_flags & namespace_flag(type)) != 0 ||
        (type == oci::NamespaceType::network && (plan.flags & kMakeNetwork) != 0))
      line("new ", namespace_name(type), " namespace");
  if ((plan.flags & kNewCgroupNamespace) != 0) line("new cgroup namespace");
  if (plan.new_time_namespace) line("new time namespace");
  for (const auto& mount : plan.mounts) line(describe_mount(mount));
  for (const auto& device : plan.devices)
    line("device ", printable(device.path), ' ', device.major, ':', device.minor, " mode ", octal(device.mode & 07777));
  for (const auto& link : plan.links) line("link ", printable(link.path), " -> ", printable(link.target));
  for (const auto& sysctl : plan.sysctls) line("sysctl ", printable(sysctl.key), " = ", printable(sysctl.value));
  for (const auto& path : plan.readonly) line("read-only ", printable(path));
  for (const auto& path : plan.masked) line("mask ", printable(path));
  line("root ", (plan.flags & kRootReadonly) != 0 ? "read-only" : "writable");
  if (!plan.hostname.empty()) line("hostname ", printable(plan.hostname));
  for (const auto& limit : plan.process.rlimits)
    line("limit ", oci::rlimit_name(limit.resource), ' ', limit.soft, ' ', limit.hard);
  line("bounding capabilities ", capability_names(plan.capabilities.bounding));
  line("effective capabilities ", capability_names(plan.capabilities.effective));
  line("user ", plan.process.user.uid, ':', plan.process.user.gid);
  if ((plan.flags & kNoNewPrivileges) != 0) line("no new privileges");
  if (plan.seccomp) line("seccomp filter of ", plan.seccomp->bpf.size() / 8, " instructions");
  line("directory ", printable(plan.process.cwd));
  std::string command;
  for (const auto& word : plan.process.args) command += str(' ', quoted(word));
  line("execute", command);
  return out;
}

}  // namespace skink::plan
