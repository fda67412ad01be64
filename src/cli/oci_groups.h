// SPDX-License-Identifier: Apache-2.0
// Whose processes are in a container's control groups: two containers can be given one place, one after the other.
#pragma once

#include "state/state.h"

namespace skink::cli {

/// Whether what is in the recorded groups (or in the unit) is this container's. `lived`: its first process did when the
/// caller began. Of one that had ended it is not when the groups are others by now, or a younger container of `root` is
/// in the same place, or may be. For want of descriptors it cannot say: the error. Reads every record: for the rare
/// case that something is left where a dead one was.
Result<bool> owns_its_groups(const state::Root& root, const state::Record& record, bool lived);

/// Whether anything lives in the recorded groups.
bool has_processes(const state::Record& record);

}  // namespace skink::cli
