// SPDX-License-Identifier: Apache-2.0
// What the verbs for images have in common.
#pragma once

#include <string>
#include <vector>

#include "cli/context.h"

namespace skink::cli {

/// Writes into the history of events what Store::remove() has said of the image `id`.
void tell_removed(const Engine& engine, const std::string& id, const std::vector<std::string>& lines);

/// One name of a group and the verb that it runs.
struct GroupMember {
  const char* name;
  const Verb* verb;
};
/// The verbs of a group, `skink image ls`; nothing for a verb that is none.
std::vector<GroupMember> members_of(const Verb& group);

}  // namespace skink::cli
