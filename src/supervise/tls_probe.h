// SPDX-License-Identifier: Apache-2.0
// The https:// probe: one request over TLS, made by a helper of the supervisor, so that neither the library's memory
// nor its faults are the supervisor's. Like the kubelet's, it takes any certificate.
#pragma once

#include <sys/types.h>

#include "supervise/probe.h"

namespace skink::supervise {

/// For a helper, before it reads what a container says: it becomes nobody, with a filter that leaves it the descriptors
/// that are open, waiting and memory. `parent` is the process that it dies with. False: then it must not go on.
bool give_up_rights(pid_t parent);

/// Over a socket that is connected or about to be, non-blocking. Waits as long as it takes: its caller kills it when
/// its time is over. What was answered, or why not.
ProbeResult ask_over_tls(int socket_fd, const Probe& probe);

}  // namespace skink::supervise
