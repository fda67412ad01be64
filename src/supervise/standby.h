// SPDX-License-Identifier: Apache-2.0
// Which containers can have a standby; the rest is the supervisor's (standby.cc).
#pragma once

#include <string_view>

#include "oci/spec.h"

namespace skink::supervise {

/// Whether a container has a pid namespace to itself: all its processes end with the first one.
bool has_own_pids(const oci::Spec& spec);

/// Why a container with this configuration can have no standby; empty when it can.
std::string_view why_no_standby(const oci::Spec& spec, bool tty);

}  // namespace skink::supervise
