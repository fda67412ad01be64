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

/// A small detached tmpfs, mode 0755.
Result<UniqueFd> mount_scaffold_tmpfs();
/// A detached tmpfs of at most `bytes` (--storage-opt size=).
Result<UniqueFd> mount_sized_tmpfs(std::int64_t bytes);

}  // namespace skink::supervise
