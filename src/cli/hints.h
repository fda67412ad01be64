// SPDX-License-Identifier: Apache-2.0
// Hints: what people are told when a container failed for a reason that can be seen from outside.
#pragma once

#include <string>
#include <string_view>

#include "cli/context.h"

namespace skink::cli {

/// Whether the last words of a program tell of a write to the read-only root (EROFS in the C library's words).
bool tells_of_read_only_root(std::string_view output);

/// Notes on standard error why the container's last run failed, where that can be seen: memory, the read-only root.
void explain_failure(Context& context, Engine& engine, const std::string& id);

/// What the container wrote last, standard output and error together.
std::string last_output(Engine& engine, const std::string& id);

}  // namespace skink::cli
