// SPDX-License-Identifier: Apache-2.0
#include "image/block_file.h"

#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

namespace skink::image::erofs {
namespace {

// Small files of one size leave room that those of other sizes fill, if they come soon enough.
constexpr std::size_t kOpenMost = 64;
constexpr std::uint64_t kBlocksMost = 0xffffffff;

bool is_zero(std::string_view bytes) {
  return bytes.front() == '\0' && std::memcmp(bytes.data(), bytes.data() + 1, bytes.size() - 1) == 0;
}

Result<void> pwrite_all(int fd, std::uint64_t offset, std::string_view bytes) {
  while (!bytes.empty()) {
    const ssize_t done = ::pwrite(fd, bytes.data(), bytes.size(), static_cast<off_t>(offset));
    if (done < 0 && errno == EINTR) continue;
    if (done < 0) return Error::from_errno(errno, "write of the layer");
    bytes.remove_prefix(static_cast<std::size_t>(done));
    offset += static_cast<std::uint64_t>(done);
  }
  return {};
}

Result<void> pread_all(int fd, std::uint64_t offset, char* into, std::size_t count) {
  while (count > 0) {
    const ssize_t got = ::pread(fd, into, count, static_cast<off_t>(offset));
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return Error::from_errno(errno, "read of the layer");
    // Beyond what was written so far lies what is zero.
    if (got == 0) {
      std::memset(into, 0, count);
      break;
    }
    into += got;
    offset += static_cast<std::uint64_t>(got);
    count -= static_cast<std::size_t>(got);
  }
  return {};
}

}  // namespace

Result<std::uint32_t> BlockFile::reserve(std::uint64_t blocks) {
  const std::uint64_t first = end_;
  if (blocks > kBlocksMost - end_) return Error::from_errno(EFBIG, "a layer of more than 16 TiB");
  end_ += blocks;
  return static_cast<std::uint32_t>(first);
}

// Pieces of zeros become holes: lastlog and the like of images are large and empty.
Result<void> BlockFile::write_out(std::uint64_t offset, std::string_view bytes) {
  std::size_t from = 0;
  std::size_t to = 0;
  for (; to < bytes.size(); to = std::min<std::size_t>(to + kBlock, bytes.size())) {
    if (!is_zero(bytes.substr(to, kBlock))) continue;
    TRY(pwrite_all(fd_, offset + from, bytes.substr(from, to - from)));
    from = std::min<std::size_t>(to + kBlock, bytes.size());
  }
  return pwrite_all(fd_, offset + from, bytes.substr(from));
}

Result<std::uint32_t> BlockFile::append(std::string_view bytes) {
  const std::uint32_t first = TRY(reserve((bytes.size() + kBlock - 1) / kBlock));
  TRY(write_out(std::uint64_t{first} * kBlock, bytes));
  return first;
}

// A new shared block; the fullest of too many goes to the file.
Result<BlockFile::Open*> BlockFile::open_block() {
  if (open_.size() == kOpenMost) {
    const auto fullest =
        std::max_element(open_.begin(), open_.end(), [](const auto& a, const auto& b) { return a->used < b->used; });
    TRY(pwrite_all(fd_, (*fullest)->offset, {(*fullest)->bytes.data(), kBlock}));
    open_.erase(fullest);
  }
  auto block = std::make_unique<Open>();
  block->offset = std::uint64_t{TRY(reserve(1))} * kBlock;
  return open_.emplace_back(std::move(block)).get();
}

Result<std::uint64_t> BlockFile::place(std::size_t size) {
  Open* best = nullptr;
  for (const auto& block : open_)
    if (block->used + size <= kBlock && (best == nullptr || block->used > best->used)) best = block.get();
  if (best == nullptr) best = TRY(open_block());
  const std::uint64_t offset = best->offset + best->used;
  best->used = (best->used + static_cast<std::uint32_t>(size) + kSlot - 1) / kSlot * kSlot;
  return offset;
}

BlockFile::Open* BlockFile::find_open(std::uint64_t offset) {
  for (const auto& block : open_)
    if (offset / kBlock == block->offset / kBlock) return block.get();
  return nullptr;
}

Result<void> BlockFile::write_at(std::uint64_t offset, std::string_view bytes) {
  // What crosses blocks was reserved, so no part of it is open.
  if (Open* block = find_open(offset); block != nullptr) {
    std::memcpy(block->bytes.data() + offset % kBlock, bytes.data(), bytes.size());
    return {};
  }
  return pwrite_all(fd_, offset, bytes);
}

Result<void> BlockFile::read_at(std::uint64_t offset, void* into, std::size_t count) {
  if (const Open* block = find_open(offset); block != nullptr) {
    if (count > kBlock - offset % kBlock) return Error::make(Code::internal, "a read across shared blocks");
    std::memcpy(into, block->bytes.data() + offset % kBlock, count);
    return {};
  }
  return pread_all(fd_, offset, static_cast<char*>(into), count);
}

Result<std::uint32_t> BlockFile::finish() {
  for (const auto& block : open_) TRY(pwrite_all(fd_, block->offset, {block->bytes.data(), kBlock}));
  open_.clear();
  if (::ftruncate(fd_, static_cast<off_t>(end_ * kBlock)) != 0) return Error::from_errno(errno, "truncate the layer");
  return static_cast<std::uint32_t>(end_);
}

}  // namespace skink::image::erofs
