// SPDX-License-Identifier: Apache-2.0
// The part of a seccomp program that stands in front of libseccomp's: what that library cannot express. Pure.
#pragma once

#include <linux/filter.h>

#include <cstdint>
#include <optional>
#include <string_view>
#include <vector>

namespace skink::security {

/// How an argument is compared; all of its 64 bits count.
enum class Compare { ne, lt, le, eq, ge, gt, masked_eq };

struct Condition {
  unsigned index = 0;  ///< argument 0 to 5
  Compare op = Compare::eq;
  std::uint64_t value = 0;  ///< the mask for masked_eq
  std::uint64_t value_two = 0;
};

/// One call number with one answer, when every condition holds.
struct FrontRule {
  std::uint32_t number = 0;
  std::uint32_t action = 0;  ///< SECCOMP_RET_* with its data
  std::vector<Condition> conditions;
};

/// The rules of one ABI. x32 has the audit architecture of x86_64 and numbers of its own (bit 30).
struct FrontAbi {
  std::uint32_t audit_arch = 0;
  bool x32 = false;
  std::vector<FrontRule> rules;             ///< the first that matches decides
  std::optional<std::uint32_t> last_known;  ///< numbers above answer ENOSYS; absent: no such rule
};

inline constexpr std::uint32_t kX32Bit = 0x40000000;

/// Instructions that answer what the rules decide and fall off their end for everything else.
std::vector<sock_filter> front_program(const std::vector<FrontAbi>& abis);

/// The number of a call that came after the ones that libseccomp 2.5 knows; these numbers are the same on every
/// architecture that skink knows. Nothing for other names.
std::optional<std::uint32_t> newer_syscall(std::string_view name);

}  // namespace skink::security
