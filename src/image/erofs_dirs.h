// SPDX-License-Identifier: Apache-2.0
// What ends an EROFS layer: the directories, link counts, and the blocks at the front that lead to them.
#pragma once

#include <string_view>

#include "image/block_file.h"
#include "image/layer.h"
#include "image/layer_tree.h"

namespace skink::image::erofs {

/// Whether the last bytes of an inode's data (less than a block) can lie behind it.
bool fits_inline(std::size_t xattrs, std::size_t tail);
/// Writes an inode with its packed attributes and the tail of its data, which follows it, or the data before it when it
/// is too long for that. Sets format, xattr_count and (where the tail is all data) start. Answers its offset.
Result<std::uint64_t> write_inode(BlockFile& file, Inode inode, std::string_view xattrs, std::string_view tail);

struct LayerFacts {
  LayerUuid uuid{};
  std::uint64_t bytes = 0;  ///< of all files
};
/// The last call: it ends the file and fills block 0.
Result<void> write_directories(BlockFile& file, LayerTree& tree, const LayerFacts& facts);

}  // namespace skink::image::erofs
