// SPDX-License-Identifier: Apache-2.0
// BlockFile: a file that grows by blocks, front to back, where small pieces share blocks.
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "image/erofs_format.h"

namespace skink::image::erofs {

class BlockFile {
 public:
  /// The file is empty, ours, and open for reading and writing; it is borrowed.
  explicit BlockFile(int file_fd) : fd_(file_fd) {}

  /// Whole blocks at the end of the file, that is the number of the first; `bytes` may fill the last one in part.
  /// Blocks of nothing but zeros are left as holes.
  Result<std::uint32_t> append(std::string_view bytes);
  /// Blocks at the end of the file that write_at() fills later.
  Result<std::uint32_t> reserve(std::uint64_t blocks);
  /// Room for a piece of at most a block that lies in one block, at a multiple of kSlot: its offset.
  Result<std::uint64_t> place(std::size_t size);
  Result<void> write_at(std::uint64_t offset, std::string_view bytes);
  Result<void> read_at(std::uint64_t offset, void* into, std::size_t count);
  /// Writes what is still in memory and gives the file its length: the number of its blocks. Block 0 is for write_at().
  Result<std::uint32_t> finish();

 private:
  // A shared block that is not full yet.
  struct Open {
    std::uint64_t offset = 0;
    std::uint32_t used = 0;
    std::array<char, kBlock> bytes{};
  };
  Result<void> write_out(std::uint64_t offset, std::string_view bytes);
  Result<Open*> open_block();
  Open* find_open(std::uint64_t offset);

  int fd_;
  std::uint64_t end_ = 1;  // in blocks; the first holds the superblock
  std::vector<std::unique_ptr<Open>> open_;
};

}  // namespace skink::image::erofs
