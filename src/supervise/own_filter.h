// SPDX-License-Identifier: Apache-2.0
// The supervisor's own seccomp filter. What it starts inherits it (seccomp(2)), and that is the container, so it
// refuses nothing but what the container's own filter refuses anyway: see docs/decisions/supervisor-filter.md.
#pragma once

#include <linux/audit.h>
#include <linux/filter.h>

#include <cstdint>
#include <vector>

#include "oci/spec.h"

namespace skink::supervise {

/// The calls of this machine, as a filter sees them in seccomp_data.arch.
#if defined(__x86_64__)
inline constexpr std::uint32_t kArchitecture = AUDIT_ARCH_X86_64;
#elif defined(__aarch64__)
inline constexpr std::uint32_t kArchitecture = AUDIT_ARCH_AARCH64;
#else
#error "which architecture is this for seccomp?"
#endif

/// The program for a container with that spec. Empty when there is to be none: it has no filter of its own, or has
/// hooks, which are programs of the host and start from here.
std::vector<sock_filter> own_filter(const oci::Spec& spec);

/// Gives up those calls for good, unless a predecessor has done that: under a guard that it made its filter stands
/// already. False: they are still there (no privilege, or the kernel has no filters).
bool give_up_calls(const std::vector<sock_filter>& program);

}  // namespace skink::supervise
