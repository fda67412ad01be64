// SPDX-License-Identifier: Apache-2.0
// Notify: hands the listener of a seccomp filter to the supervisor that linux.seccomp.listenerPath names
// (config-linux.md "The Container Process State").
#pragma once

#include <string>

#include "base/result.h"
#include "launch/channel.h"
#include "launch/hooks.h"
#include "oci/spec.h"

namespace skink::launch {

/// Nothing when there is a socket at `path`.
Result<void> check_listener_path(const std::string& path);

/// Takes the listener that message 7 speaks of (beside the message, or by its number out of the process that `pidfd`
/// holds) and sends it with the state to the supervisor. `pid` is of the filtered process.
Result<void> hand_listener_over(const oci::Seccomp& seccomp, const HookState& state, pid_t pid, int pidfd,
                                Received& received);

}  // namespace skink::launch
