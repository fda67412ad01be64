// SPDX-License-Identifier: Apache-2.0
// Usage: how much room a file or a tree takes on its file system.
#pragma once

#include <cstdint>

#include "base/result.h"

namespace skink::fs {

/// Bytes on the disk (st_blocks, stat(2)) of `name` below `dir_fd` with everything in it: a file of several names
/// counts once, links are not followed, other mounts not entered. Nothing there is 0, and so is what goes meanwhile.
Result<std::int64_t> disk_usage(int dir_fd, const char* name);

}  // namespace skink::fs
