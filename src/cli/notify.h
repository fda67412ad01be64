// SPDX-License-Identifier: Apache-2.0
// Telling a service manager how we are: the datagram of sd_notify(3).
#pragma once

#include <string>

#include "base/result.h"

namespace skink::cli {

/// Sends `state` ("READY=1", lines) to NOTIFY_SOCKET: a path, or with '@' a name in the abstract name space. Without
/// the variable nothing happens. Errors: invalid_config for an address that is none, os when nobody takes it.
Result<void> notify_service(const std::string& state);

}  // namespace skink::cli
