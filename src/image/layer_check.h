// SPDX-License-Identifier: Apache-2.0
// LayerCheck: whether a layer's file is one that skink could have written. The kernel mounts it, and the process that
// wrote it has read a stranger's tar: who took it over could choose each byte (attack A76).
#pragma once

#include <cstdint>

#include "base/result.h"

namespace skink::image {

/// Walks every directory, inode and extended attribute that the superblock leads to, in a confined process that can
/// read this descriptor and nothing else: each number in bounds, each directory reached once, names in order, links and
/// inodes as counted, no device but a whiteout, no attribute but those that layers may have.
Result<void> check_layer_file(int layer_fd);

/// The walk itself, in the calling process, of a file with `size` bytes.
Result<void> walk_layer_file(int layer_fd, std::uint64_t size);

}  // namespace skink::image
