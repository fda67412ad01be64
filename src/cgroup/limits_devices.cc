// SPDX-License-Identifier: Apache-2.0
// linux.resources.devices: devices.allow and devices.deny of cgroup v1, a program on cgroup v2.
#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>

#include "base/text.h"
#include "cgroup/device_program.h"
#include "cgroup/limits.h"
#include "cgroup/tree.h"
#include "sys/file.h"

namespace skink::cgroup {
namespace {

struct Line {
  bool allow = false;
  std::string text;
  std::size_t index = 0;  ///< of the rule in the configuration
};

std::string v1_text(const DeviceMatch& rule, char type) {
  std::string out = str(type, " ", rule.major ? str(*rule.major) : "*", ":", rule.minor ? str(*rule.minor) : "*", " ");
  if ((rule.access & BPF_DEVCG_ACC_READ) != 0) out += 'r';
  if ((rule.access & BPF_DEVCG_ACC_WRITE) != 0) out += 'w';
  if ((rule.access & BPF_DEVCG_ACC_MKNOD) != 0) out += 'm';
  return out;
}

// Does `part` share devices and access with `whole`?
bool overlap(const DeviceMatch& a, const DeviceMatch& b) {
  const bool type = a.type == 'a' || b.type == 'a' || a.type == b.type;
  const bool major = !a.major || !b.major || *a.major == *b.major;
  const bool minor = !a.minor || !b.minor || *a.minor == *b.minor;
  return type && major && minor && (a.access & b.access) != 0;
}

bool same_devices(const DeviceMatch& a, const DeviceMatch& b) {
  return a.type == b.type && a.major == b.major && a.minor == b.minor;
}

// v1 keeps one default and a list of exceptions to it. A rule for the default's side only takes away exceptions with
// the very same numbers: a narrower or wider one would be accepted by the kernel and change nothing.
Result<void> check_v1_can(const std::vector<DeviceMatch>& exceptions, const DeviceMatch& rule, std::size_t index) {
  for (const DeviceMatch& exception : exceptions)
    if (overlap(exception, rule) && !same_devices(exception, rule))
      return Error::make(Code::unsupported, "linux.resources.devices[", index, "]: cgroup v1 cannot ",
                         rule.allow ? "allow" : "deny", " ", quoted(v1_text(rule, rule.type)), " again after ",
                         quoted(v1_text(exception, exception.type)),
                         "; put the wide rule first and the narrow ones after it without overlap");
  return {};
}

// Type "a" with numbers or less than all access means everything to v1, whatever else the line says.
std::vector<DeviceMatch> by_type(const DeviceMatch& rule) {
  if (rule.type != 'a') return {rule};
  DeviceMatch block = rule, character = rule;
  block.type = 'b';
  character.type = 'c';
  return {block, character};
}

Result<std::vector<Line>> v1_lines(const std::vector<DeviceMatch>& rules) {
  std::vector<Line> lines;
  std::vector<DeviceMatch> exceptions;
  bool by_default = true;  // a new group allows what its parent does
  for (std::size_t i = 0; i < rules.size(); ++i) {
    if (rules[i].all()) {
      lines.push_back({rules[i].allow, "a", i});
      exceptions.clear();
      by_default = rules[i].allow;
      continue;
    }
    for (const DeviceMatch& rule : by_type(rules[i])) {
      if (rule.allow == by_default) TRY(check_v1_can(exceptions, rule, i));
      else exceptions.push_back(rule);
      lines.push_back({rule.allow, v1_text(rule, rule.type), i});
    }
  }
  return lines;
}

Result<void> apply_v1(const Target& target, const std::vector<DeviceMatch>& rules) {
  const std::vector<Line> lines = TRY(v1_lines(rules));
  UniqueFd files[2];
  for (const Line& line : lines) {
    const char* const name = line.allow ? "devices.allow" : "devices.deny";
    UniqueFd& file = files[line.allow ? 1 : 0];
    if (!file) file = TRY_CTX(sys::open_at(target.fd, name, O_WRONLY | O_NOFOLLOW), show(*target.place));
    if (::write(file.get(), line.text.data(), line.text.size()) < 0)
      return Error::from_errno(errno, "linux.resources.devices[", line.index, "]: write ", quoted(line.text), " to ",
                               show(*target.place), "/", name);
  }
  return {};
}

Result<void> apply_v2(const Target& target, const std::vector<DeviceMatch>& rules) {
  const UniqueFd program = TRY_CTX(load_device_program(device_program(rules)), "linux.resources.devices");
  TRY_CTX(attach_device_program(target.fd, program.get()), "linux.resources.devices: ", show(*target.place));
  return {};
}

}  // namespace

Result<void> apply_devices(const Targets& targets, const std::vector<oci::DeviceRule>& rules) {
  const std::vector<DeviceMatch> checked = TRY(check_device_rules(rules));
  if (const Target* const v1 = targets.v1("devices")) return apply_v1(*v1, checked);
  if (const Target* const v2 = targets.unified()) return apply_v2(*v2, checked);
  return Error::make(Code::unsupported, "linux.resources.devices: this host has no devices controller");
}

}  // namespace skink::cgroup
