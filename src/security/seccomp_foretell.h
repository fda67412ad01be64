// SPDX-License-Identifier: Apache-2.0
// What a filter will say of a call, told from its program alone.
#pragma once

#include <cstdint>
#include <span>
#include <string_view>

namespace skink::security {

/// Whether a filter (struct sock_filter[] as bytes) allows each of these calls of an architecture (AUDIT_ARCH_*),
/// whatever the arguments are. False also when it cannot be told.
bool always_allows(std::string_view bpf, std::uint32_t audit_arch, std::span<const std::uint32_t> calls);

}  // namespace skink::security
