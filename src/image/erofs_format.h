// SPDX-License-Identifier: Apache-2.0
// EROFS on disk, as far as our layers use it: uncompressed, flat files with inline tails, extended inodes, inline
// extended attributes (Linux fs/erofs/erofs_fs.h, Documentation/filesystems/erofs.rst).
#pragma once

#include <bit>
#include <cstdint>
#include <functional>
#include <string>
#include <utility>
#include <vector>

#include "base/result.h"

namespace skink::image::erofs {

static_assert(std::endian::native == std::endian::little, "everything in EROFS is little-endian");

inline constexpr std::uint32_t kBlock = 4096;  ///< the page size: older kernels take no other
inline constexpr std::uint32_t kBlockBits = 12;
inline constexpr std::uint32_t kSlot = 32;  ///< an inode's number is its offset in the file by this
inline constexpr std::uint32_t kSuperOffset = 1024;
inline constexpr std::uint32_t kMagic = 0xE0F5E1E2;
inline constexpr std::uint32_t kHasMtimes = 2;  ///< of compatible_features

struct SuperBlock {
  std::uint32_t magic = kMagic;
  std::uint32_t checksum = 0;
  std::uint32_t compatible_features = kHasMtimes;
  std::uint8_t block_bits = kBlockBits;
  std::uint8_t extra_slots = 0;
  std::uint16_t root_nid = 0;
  std::uint64_t inodes = 0;
  std::uint64_t build_time = 0;
  std::uint32_t build_time_ns = 0;
  std::uint32_t blocks = 0;
  std::uint32_t meta_block = 0;
  std::uint32_t xattr_block = 0;  ///< where shared attributes are counted from
  std::uint8_t uuid[16] = {};
  std::uint8_t volume_name[16] = {};
  std::uint32_t incompatible_features = 0;
  std::uint8_t rest[44] = {};
};
static_assert(sizeof(SuperBlock) == 128);

enum class Layout : std::uint16_t { plain = 0, inline_tail = 2 };
constexpr std::uint16_t format_of(Layout layout) {
  return static_cast<std::uint16_t>(1U | (std::uint32_t(layout) << 1));
}

/// The 64-byte form, the only one with nanoseconds and 32-bit owners.
struct Inode {
  std::uint16_t format = format_of(Layout::plain);
  std::uint16_t xattr_count = 0;  ///< 0, or 1 for the header and 1 for each 4 bytes behind it
  std::uint16_t mode = 0;
  std::uint16_t reserved = 0;
  std::uint64_t size = 0;
  std::uint32_t start = 0;  ///< first block of the data, or the device number
  std::uint32_t number = 0;
  std::uint32_t uid = 0;
  std::uint32_t gid = 0;
  std::int64_t mtime = 0;
  std::uint32_t mtime_ns = 0;
  std::uint32_t links = 1;
  std::uint8_t rest[16] = {};
};
static_assert(sizeof(Inode) == 64);

struct XattrHeader {
  std::uint32_t name_filter = 0;
  std::uint8_t shared_count = 0;
  std::uint8_t rest[7] = {};
};
static_assert(sizeof(XattrHeader) == 12);

struct XattrEntry {
  std::uint8_t name_length = 0;
  std::uint8_t name_index = 0;
  std::uint16_t value_size = 0;
};
static_assert(sizeof(XattrEntry) == 4);

struct __attribute__((packed)) DirEntry {
  std::uint64_t nid = 0;
  std::uint16_t name_offset = 0;  ///< in the block; of the first entry also the size of the table
  std::uint8_t type = 0;
  std::uint8_t reserved = 0;
};
static_assert(sizeof(DirEntry) == 12);

/// What an entry of a directory says of its inode (FT_* of the kernel's include/linux/fs_types.h).
enum class FileType : std::uint8_t { none = 0, regular = 1, directory = 2, character = 3, fifo = 5, symlink = 7 };

/// What only skink reads, in the first 1024 bytes, which EROFS leaves to others.
struct LayerHeader {
  char magic[8] = {'s', 'k', 'i', 'n', 'k', 'L', 'y', '1'};
  std::uint64_t bytes = 0;           ///< of all files
  std::uint64_t implied_offset = 0;  ///< paths of implied directories, sorted, each ended by a NUL
  std::uint64_t implied_length = 0;
  std::uint64_t covering_offset = 0;  ///< of directories with whiteouts, likewise; none in files of before
  std::uint64_t covering_length = 0;
};
static_assert(sizeof(LayerHeader) == 48);

using Xattrs = std::vector<std::pair<std::string, std::string>>;
/// Bytes of extended attributes behind the header: what an inode's count can say.
inline constexpr std::size_t kXattrsOfInodeMost = 0xfffeU * 4;
/// Extended attributes as they lie behind the header, one after the other; the later of two with one name wins.
/// Names that EROFS has no prefix for, and what is too long, are errors.
Result<std::string> pack_xattrs(const Xattrs& xattrs);
/// That an inode's attributes do not fit, with this one.
Error too_many_xattrs(std::string_view name);
using ReadAt = std::function<Result<void>(std::uint64_t offset, void* into, std::size_t count)>;
/// Reads the one at `at`, which ends at `end` at the latest: where the next one begins. Adds it to `into` when it is
/// user.* or an ACL.
Result<std::uint64_t> read_shown_xattr(const ReadAt& read_at, std::uint64_t at, std::uint64_t end, Xattrs& into);
/// Size of the header and of `xattrs` behind it as they follow an inode.
constexpr std::size_t xattr_room(std::size_t packed) { return packed == 0 ? 0 : sizeof(XattrHeader) + packed; }

Result<Inode> read_inode(const ReadAt& read_at, std::uint64_t nid);
/// `count` bytes of an inode's data; beyond its end is an error.
Result<std::string> read_data(const ReadAt& read_at, std::uint64_t nid, const Inode& inode, std::uint64_t from,
                              std::size_t count);
/// Size of what lies between an inode and its inline tail.
std::size_t xattr_size(const Inode& inode);

}  // namespace skink::image::erofs
