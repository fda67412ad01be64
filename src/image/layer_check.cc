// SPDX-License-Identifier: Apache-2.0
#include "image/layer_check.h"

#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <limits>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "base/text.h"
#include "image/erofs_format.h"
#include "image/layer_files.h"
#include "image/path.h"
#include "image/posix_acl.h"
#include "image/worker.h"
#include "sys/file.h"

namespace skink::image {
namespace {

using erofs::DirEntry;
using erofs::FileType;
using erofs::Inode;
using erofs::kBlock;
using erofs::kSlot;
using erofs::Layout;
using erofs::SuperBlock;
using erofs::XattrEntry;
using erofs::XattrHeader;

// More than the importer takes entries of a tar, with the directories that they imply.
constexpr std::uint64_t kInodesMost = 3'000'000;
constexpr std::size_t kTargetMost = 4096;
constexpr std::size_t kEntryNameMost = 255;

Error wrong(std::string_view what) {
  return Error::make(Code::internal, "the layer's file is none that skink writes: ", what);
}
Error wrong(std::uint64_t nid, std::string_view what) { return wrong(str("inode ", nid, ": ", what)); }

FileType type_of(std::uint16_t mode) {
  switch (mode & S_IFMT) {
    case S_IFREG: return FileType::regular;
    case S_IFDIR: return FileType::directory;
    case S_IFCHR: return FileType::character;
    case S_IFIFO: return FileType::fifo;
    case S_IFLNK: return FileType::symlink;
    default: return FileType::none;
  }
}

class LayerWalk {
 public:
  LayerWalk(int layer_fd, std::uint64_t size) : fd_(layer_fd), size_(size) {}
  Result<void> run();

 private:
  struct Seen {
    FileType type = FileType::none;
    std::uint32_t links = 0;   // that the inode says
    std::uint32_t names = 0;   // that were found
    std::uint64_t parent = 0;  // of a directory
    std::uint32_t depth = 0;   // of a directory
  };
  // In one directory.
  struct Found {
    std::string last;               // name
    std::uint32_t dots = 0;         // "." and ".."
    std::uint32_t directories = 0;  // others
  };
  Result<void> read_at(std::uint64_t offset, void* into, std::size_t count);
  Result<void> check_front();
  Result<Inode> check_inode(std::uint64_t nid);
  Result<void> check_data(std::uint64_t nid, const Inode& inode);
  Result<void> check_xattrs(std::uint64_t nid, const Inode& inode);
  Result<void> check_xattr(std::uint64_t nid, const Inode& inode, std::uint64_t at, std::uint64_t end,
                           std::uint64_t& next);
  Result<void> walk_directory(std::uint64_t nid);
  Result<void> walk_block(std::uint64_t nid, std::string_view block, Found& found);
  Result<void> note_entry(std::uint64_t directory, std::string_view name, const DirEntry& entry, Found& found);
  Result<void> check_counts();

  int fd_;
  std::uint64_t size_;
  SuperBlock super_;
  std::unordered_map<std::uint64_t, Seen> seen_;
  std::vector<std::uint64_t> todo_;
  // The pages that were read last: inodes lie side by side.
  struct Page {
    std::uint64_t number = std::numeric_limits<std::uint64_t>::max();
    std::array<char, kBlock> bytes;
  };
  std::vector<Page> pages_ = std::vector<Page>(256);
};

Result<void> LayerWalk::read_at(std::uint64_t offset, void* into, std::size_t count) {
  if (offset > size_ || count > size_ - offset) return wrong("something lies beyond its end");
  for (auto* at = static_cast<char*>(into); count > 0;) {
    Page& page = pages_[offset / kBlock % pages_.size()];
    if (page.number != offset / kBlock) {
      page.number = std::numeric_limits<std::uint64_t>::max();
      if (::pread(fd_, page.bytes.data(), kBlock, static_cast<off_t>(offset / kBlock * kBlock)) != kBlock)
        return Error::from_errno(errno, "read of the layer");
      page.number = offset / kBlock;
    }
    const std::size_t part = std::min<std::size_t>(count, kBlock - offset % kBlock);
    std::memcpy(at, page.bytes.data() + offset % kBlock, part);
    at += part;
    offset += part;
    count -= part;
  }
  return {};
}

// The superblock has the one form that skink gives it, so that the kernel takes none of its other ways.
Result<void> LayerWalk::check_front() {
  if (size_ < kBlock || size_ % kBlock != 0) return wrong("its size");
  erofs::LayerHeader header;
  const erofs::LayerHeader good_header;
  TRY(read_at(0, &header, sizeof header));
  TRY(read_at(erofs::kSuperOffset, &super_, sizeof super_));
  SuperBlock good;
  good.root_nid = super_.root_nid;
  good.inodes = super_.inodes;
  good.blocks = static_cast<std::uint32_t>(size_ / kBlock);
  good.xattr_block = super_.xattr_block;
  std::memcpy(good.uuid, super_.uuid, sizeof good.uuid);
  if (std::memcmp(header.magic, good_header.magic, sizeof header.magic) != 0) return wrong("its beginning");
  if (size_ / kBlock > std::numeric_limits<std::uint32_t>::max() || std::memcmp(&super_, &good, sizeof good) != 0)
    return wrong("its superblock");
  if (super_.xattr_block >= super_.blocks) return wrong("the block of shared attributes");
  if (super_.inodes > kInodesMost) return wrong("the number of its inodes");
  return {};
}

Result<void> LayerWalk::check_data(std::uint64_t nid, const Inode& inode) {
  const bool is_inline = inode.format == erofs::format_of(Layout::inline_tail);
  const std::uint64_t tail = is_inline ? inode.size % kBlock : 0;
  const std::uint64_t in_blocks = inode.size - tail;
  if (inode.size > size_ || in_blocks > size_ || std::uint64_t{inode.start} * kBlock > size_ - in_blocks)
    return wrong(nid, "its data lies beyond the end");
  if (is_inline) {
    // The kernel takes no tail across the end of a block.
    const std::uint64_t at = nid * kSlot + sizeof inode + erofs::xattr_size(inode);
    if (tail == 0 || at > size_ || at % kBlock + tail > kBlock || tail > size_ - at) return wrong(nid, "its tail");
  } else if ((inode.size + kBlock - 1) / kBlock * kBlock > size_ - std::uint64_t{inode.start} * kBlock) {
    return wrong(nid, "its data lies beyond the end");
  }
  return {};
}

Result<void> LayerWalk::check_xattr(std::uint64_t nid, const Inode& inode, std::uint64_t at, std::uint64_t end,
                                    std::uint64_t& next) {
  XattrEntry entry;
  if (at > end || end - at < sizeof entry) return wrong(nid, "an attribute");
  TRY(read_at(at, &entry, sizeof entry));
  if (end - at < sizeof entry + entry.name_length + std::uint64_t{entry.value_size}) return wrong(nid, "an attribute");
  std::string name(entry.name_length, '\0'), value(entry.value_size, '\0');
  TRY(read_at(at + sizeof entry, name.data(), name.size()));
  TRY(read_at(at + sizeof entry + name.size(), value.data(), value.size()));
  next = at + (sizeof entry + name.size() + value.size() + 3) / 4 * 4;
  const bool directory = S_ISDIR(inode.mode);
  const bool file = S_ISREG(inode.mode);
  constexpr std::uint8_t kUser = 1, kAccess = 2, kDefault = 3, kTrusted = 4, kSecurity = 6;
  const bool user = entry.name_index == kUser && !name.empty() && !name.starts_with("overlay.") && (directory || file);
  const bool opaque = entry.name_index == kTrusted && name == "overlay.opaque" && value == "y" && directory;
  const bool capability = entry.name_index == kSecurity && name == "capability" && file;
  const bool acl = (entry.name_index == kAccess ? directory || file : entry.name_index == kDefault && directory) &&
                   name.empty() && parse_acl(value).whole;
  if (!user && !opaque && !capability && !acl) return wrong(nid, str("the attribute ", skink::quoted(name)));
  return {};
}

Result<void> LayerWalk::check_xattrs(std::uint64_t nid, const Inode& inode) {
  if (inode.xattr_count == 0) return {};
  std::uint64_t at = nid * kSlot + sizeof inode;
  const std::uint64_t end = at + erofs::xattr_size(inode);
  if (end > size_) return wrong(nid, "its attributes lie beyond the end");
  XattrHeader header;
  TRY(read_at(at, &header, sizeof header));
  at += sizeof header;
  const XattrHeader plain{.name_filter = 0, .shared_count = header.shared_count};
  if (std::memcmp(&header, &plain, sizeof header) != 0) return wrong(nid, "the header of its attributes");
  std::uint64_t ignored = 0;
  if (header.shared_count == 0) {
    while (at < end) TRY(check_xattr(nid, inode, at, end, at));
    return at == end ? Result<void>() : wrong(nid, "its attributes");
  }
  if (end - at != header.shared_count * sizeof(std::uint32_t)) return wrong(nid, "its shared attributes");
  for (; at < end; at += sizeof(std::uint32_t)) {
    std::uint32_t place = 0;
    TRY(read_at(at, &place, sizeof place));
    TRY(check_xattr(nid, inode, std::uint64_t{super_.xattr_block} * kBlock + std::uint64_t{place} * 4, size_, ignored));
  }
  return {};
}

Result<Inode> LayerWalk::check_inode(std::uint64_t nid) {
  if (nid > size_ / kSlot) return wrong(nid, "it lies beyond the end");
  const erofs::ReadAt reader = [this](std::uint64_t offset, void* into, std::size_t count) {
    return read_at(offset, into, count);
  };
  const auto read = erofs::read_inode(reader, nid);
  if (!read) return wrong(nid, read.error().text());
  const Inode inode = *read;
  const FileType type = type_of(inode.mode);
  constexpr std::uint32_t kSecond = 1'000'000'000;
  if (type == FileType::none) return wrong(nid, "its type");
  if (inode.reserved != 0 || inode.mtime_ns >= kSecond || inode.links == 0 ||
      std::any_of(std::begin(inode.rest), std::end(inode.rest), [](auto byte) { return byte != 0; }))
    return wrong(nid, "its fields");
  const bool has_data = type == FileType::regular || type == FileType::directory || type == FileType::symlink;
  if (type == FileType::symlink && (inode.size == 0 || inode.size >= kTargetMost)) return wrong(nid, "its target");
  if (type == FileType::directory && inode.size == 0) return wrong(nid, "a directory without entries");
  // Of devices there are only overlayfs' whiteouts, 0:0 (A62).
  if (!has_data && (inode.size != 0 || inode.start != 0 || inode.format != erofs::format_of(Layout::plain)))
    return wrong(nid, "its device number");
  if (has_data && inode.size > 0) TRY(check_data(nid, inode));
  if (inode.size == 0 && inode.format != erofs::format_of(Layout::plain)) return wrong(nid, "its layout");
  TRY(check_xattrs(nid, inode));
  return inode;
}

Result<void> LayerWalk::note_entry(std::uint64_t directory, std::string_view name, const DirEntry& entry,
                                   Found& found) {
  const auto type = static_cast<FileType>(entry.type);
  if (name == "." || name == "..") {
    ++found.dots;
    const std::uint64_t wanted = name == "." ? directory : seen_[directory].parent;
    if (entry.nid != wanted || type != FileType::directory) return wrong(directory, "its own entries");
    return {};
  }
  if (name.empty() || name.size() > kEntryNameMost || name.find('/') != name.npos || name.find('\0') != name.npos)
    return wrong(directory, "a name");
  const auto [there, is_new] = seen_.try_emplace(entry.nid);
  Seen& seen = there->second;
  if (is_new) {
    if (seen_.size() > super_.inodes) return wrong("more inodes than it says");
    const Inode inode = TRY(check_inode(entry.nid));
    seen = {.type = type_of(inode.mode), .links = inode.links};
    if (seen.type == FileType::directory) {
      seen.parent = directory;
      seen.depth = seen_[directory].depth + 1;
      if (seen.depth > kPathMost) return wrong(entry.nid, "it lies too deep");
      todo_.push_back(entry.nid);
    }
  } else if (seen.type == FileType::directory) {
    return wrong(entry.nid, "a directory with two names");
  }
  Seen& now = seen_[entry.nid];
  ++now.names;
  if (now.type == FileType::directory) ++found.directories;
  if (now.type != type) return wrong(entry.nid, "its type is not what its entry says");
  return {};
}

Result<void> LayerWalk::walk_block(std::uint64_t nid, std::string_view block, Found& found) {
  DirEntry first;
  if (block.size() < sizeof first) return wrong(nid, "a block of entries");
  std::memcpy(&first, block.data(), sizeof first);
  const std::size_t count = first.name_offset / sizeof first;
  if (count == 0 || first.name_offset % sizeof first != 0 || first.name_offset >= block.size())
    return wrong(nid, "a table of entries");
  for (std::size_t i = 0; i < count; ++i) {
    DirEntry entry, next;
    std::memcpy(&entry, block.data() + i * sizeof entry, sizeof entry);
    next.name_offset = static_cast<std::uint16_t>(block.size());
    if (i + 1 < count) std::memcpy(&next, block.data() + (i + 1) * sizeof entry, sizeof entry);
    if (entry.name_offset >= next.name_offset || next.name_offset > block.size()) return wrong(nid, "a name's place");
    auto name = block.substr(entry.name_offset, next.name_offset - entry.name_offset);
    // Behind the last one of a whole block lie zeros.
    if (i + 1 == count) {
      const std::size_t end = std::min(name.find('\0'), name.size());
      if (name.find_first_not_of('\0', end) != name.npos) return wrong(nid, "what is behind its names");
      name = name.substr(0, end);
    }
    // In the order in which the kernel searches; so none is there twice.
    if (!found.last.empty() && name <= found.last) return wrong(nid, "names out of order");
    found.last = name;
    TRY(note_entry(nid, name, entry, found));
  }
  return {};
}

Result<void> LayerWalk::walk_directory(std::uint64_t nid) {
  const erofs::ReadAt reader = [this](std::uint64_t offset, void* into, std::size_t count) {
    return read_at(offset, into, count);
  };
  const Inode inode = TRY(erofs::read_inode(reader, nid));
  Found found;
  for (std::uint64_t at = 0; at < inode.size; at += kBlock) {
    const auto count = static_cast<std::size_t>(std::min<std::uint64_t>(kBlock, inode.size - at));
    const std::string block = TRY(erofs::read_data(reader, nid, inode, at, count));
    TRY(walk_block(nid, block, found));
  }
  if (found.dots != 2) return wrong(nid, "its own entries");
  if (inode.links != 2 + found.directories) return wrong(nid, "the number of its links");
  return {};
}

Result<void> LayerWalk::check_counts() {
  if (seen_.size() != super_.inodes) return wrong("fewer inodes than it says");
  for (const auto& [nid, seen] : seen_)
    if (seen.type != FileType::directory && seen.links != seen.names) return wrong(nid, "the number of its links");
  return {};
}

Result<void> LayerWalk::run() {
  TRY(check_front());
  const std::uint64_t root = super_.root_nid;
  const Inode inode = TRY(check_inode(root));
  if (!S_ISDIR(inode.mode)) return wrong("its root is no directory");
  seen_[root] = {.type = FileType::directory, .links = inode.links, .names = 1, .parent = root};
  for (todo_ = {root}; !todo_.empty();) {
    const std::uint64_t nid = todo_.back();
    todo_.pop_back();
    TRY(walk_directory(nid));
  }
  return check_counts();
}

}  // namespace

Result<void> walk_layer_file(int layer_fd, std::uint64_t size) { return LayerWalk(layer_fd, size).run(); }

Result<void> check_layer_file(int layer_fd) {
  const auto status = TRY(sys::stat_fd(layer_fd, "layer"));
  const auto size = static_cast<std::uint64_t>(status.st_size);
  WorkerTerms terms{.name = "layer check", .keep = {layer_fd}, .limits = worker_limits(kWorkerMemory, size)};
  terms.limits.file_size = 0;
  TRY(run_worker(terms, [&]() -> Result<std::string> {
    TRY(walk_layer_file(layer_fd, size));
    return std::string();
  }));
  return {};
}

}  // namespace skink::image
