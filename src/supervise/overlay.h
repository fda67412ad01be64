// SPDX-License-Identifier: Apache-2.0
// Overlay: one overlayfs mount by descriptors, on every kernel from 5.14 on.
#pragma once

#include <cstdint>
#include <vector>

#include "base/result.h"
#include "base/unique_fd.h"

namespace skink::supervise {

/// A detached overlay of `lowers` (topmost first), read-only unless upper and work directories are given.
Result<UniqueFd> mount_overlay(const std::vector<int>& lowers, int upper_fd = -1, int work_fd = -1);

/// What an overlay of `lowers` would show as the regular file `name` in the top directory `dir`, found without the
/// mount (to make one and take it away costs two grace periods of the kernel): an O_PATH descriptor, an empty one when
/// nothing is there, or unsupported when it takes the kernel to say (a link on the way, anything odd).
Result<UniqueFd> find_in_layers(const std::vector<int>& lowers, const char* dir, const char* name);

/// A small detached tmpfs, mode 0755.
Result<UniqueFd> mount_scaffold_tmpfs();
/// A detached tmpfs of at most `bytes` (--storage-opt size=).
Result<UniqueFd> mount_sized_tmpfs(std::int64_t bytes);

}  // namespace skink::supervise
