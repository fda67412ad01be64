// SPDX-License-Identifier: Apache-2.0
// Device rules: checked, as a BPF_PROG_TYPE_CGROUP_DEVICE program for cgroup v2, and attached.
#pragma once

#include <linux/bpf.h>

#include <cstdint>
#include <optional>
#include <vector>

#include "base/result.h"
#include "base/unique_fd.h"
#include "oci/spec.h"

namespace skink::cgroup {

inline constexpr unsigned kAllAccess = BPF_DEVCG_ACC_MKNOD | BPF_DEVCG_ACC_READ | BPF_DEVCG_ACC_WRITE;

/// One rule in the kernel's terms.
struct DeviceMatch {
  bool allow = false;
  char type = 'a';  ///< a: both c and b
  std::optional<std::uint32_t> major, minor;
  unsigned access = 0;  ///< BPF_DEVCG_ACC_*
  /// Everything: any device, any access.
  [[nodiscard]] bool all() const;
};

/// The rules of a configuration, or what is wrong with one, by its JSON path. -1 is any number, as engines write it.
Result<std::vector<DeviceMatch>> check_device_rules(const std::vector<oci::DeviceRule>& rules);

/// The program: for each kind of access that is asked for the last rule that speaks of it decides; what no rule speaks
/// of is allowed, as in a group without rules.
[[nodiscard]] std::vector<bpf_insn> device_program(const std::vector<DeviceMatch>& rules);

/// bpf(BPF_PROG_LOAD).
Result<UniqueFd> load_device_program(const std::vector<bpf_insn>& program);
/// Attaches `program_fd` to the group. One of ours that is there already is replaced in one step, so that at no moment
/// nothing is in force (attack A46); programs of others stay and must allow as well.
Result<void> attach_device_program(int group_fd, int program_fd);

}  // namespace skink::cgroup
