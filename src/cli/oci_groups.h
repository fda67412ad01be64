// SPDX-License-Identifier: Apache-2.0
// Whose processes are in a container's control groups: two containers can be given one place, one after the other.
#pragma once

#include "state/state.h"

namespace skink::cli {

/// Whether what is in the recorded groups (or in the unit) is this container's. `lives`: its first process does, or did
/// when the caller began. Of one that has ended it is not when another container's record names the same place.
bool owns_its_groups(const state::Root& root, const state::Record& record, bool lives);

/// Whether anything lives in the recorded groups.
bool has_processes(const state::Record& record);

}  // namespace skink::cli
