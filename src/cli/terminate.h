// SPDX-License-Identifier: Apache-2.0
#pragma once

namespace skink::cli {

/// From now on an allocation that fails ends the process with a line on standard error and `status`, instead of an
/// exception that nobody catches (fault F18).
void give_up_without_memory(int status);

}  // namespace skink::cli
