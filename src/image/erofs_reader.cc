// SPDX-License-Identifier: Apache-2.0
// Reads a layer that is stored as an EROFS file. The file is ours, but disks rot: every number is checked.
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "base/text.h"
#include "image/erofs_format.h"
#include "image/layer.h"
#include "image/layer_files.h"
#include "image/path.h"
#include "sys/file.h"

namespace skink::image {
namespace {

using erofs::DirEntry;
using erofs::Inode;
using erofs::kBlock;
using erofs::kMagic;
using erofs::kSlot;
using erofs::kSuperOffset;
using erofs::LayerHeader;
using erofs::pack_xattrs;
using erofs::read_data;
using erofs::read_inode;
using erofs::ReadAt;
using erofs::SuperBlock;
using erofs::xattr_size;
using erofs::XattrEntry;
using erofs::XattrHeader;

constexpr std::size_t kLinkMost = 4096;

Error damaged(std::string_view what) { return Error::make(Code::corrupt, "the layer's file is damaged: ", what); }

struct Found {
  std::uint64_t nid = 0;
  Inode inode;
};

struct Entry {
  std::uint64_t nid = 0;
  std::string_view text;
};

class ErofsReader final : public LayerReader {
 public:
  static Result<std::unique_ptr<LayerReader>> create(UniqueFd file);

  Result<std::optional<LayerNode>> lookup(const std::string& path) const override;
  Result<std::optional<LayerNode>> lookup_below(ino_t parent, const std::string& path) const override;
  Result<std::string> read_link(const std::string& path) const override;
  Result<Xattrs> shown_xattrs(ino_t inode, const std::string& path) const override;
  const std::vector<std::string>& implied() const override { return implied_; }
  Result<std::vector<std::string>> covering() const override { return read_list(covering_offset_, covering_length_); }
  bool hides_all_below() const override { return opaque_; }
  std::int64_t size() const override { return size_; }

 private:
  explicit ErofsReader(UniqueFd file) : file_(std::move(file)) {}
  Result<void> read_at(std::uint64_t offset, void* into, std::size_t count) const;
  [[nodiscard]] ReadAt reader() const {
    return [this](std::uint64_t offset, void* into, std::size_t count) { return read_at(offset, into, count); };
  }
  Result<Found> inode_at(std::uint64_t nid) const;
  Result<std::optional<Found>> find(const std::string& path) const;
  Result<std::optional<std::uint64_t>> find_in(const Found& directory, std::string_view name) const;
  Result<void> read_directory_block(const Found& directory, std::uint64_t block) const;
  Result<LayerNode> describe(const Found& found) const;
  Result<bool> is_opaque(const Found& directory) const;
  Result<std::vector<std::string>> read_list(std::uint64_t offset, std::uint64_t length) const;
  Result<void> read_front();

  // The directory and the block of it that were read last: who asks for many names asks for them in order.
  struct Last {
    std::optional<Found> directory;
    std::optional<std::uint64_t> block;
    std::string bytes;
    std::vector<Entry> entries;  // in `bytes`
  };

  UniqueFd file_;
  mutable Last last_;
  SuperBlock super_;
  std::uint64_t whole_ = 0;  // bytes of the file
  std::vector<std::string> implied_;
  std::uint64_t covering_offset_ = 0, covering_length_ = 0;
  bool opaque_ = false;
  std::int64_t size_ = 0;
};

Result<void> ErofsReader::read_at(std::uint64_t offset, void* into, std::size_t count) const {
  for (auto* at = static_cast<char*>(into); count > 0;) {
    const ssize_t got = ::pread(file_.get(), at, count, static_cast<off_t>(offset));
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return Error::from_errno(errno, "read of the layer");
    if (got == 0) return damaged("it is too short");
    at += got;
    offset += static_cast<std::uint64_t>(got);
    count -= static_cast<std::size_t>(got);
  }
  return {};
}

Result<Found> ErofsReader::inode_at(std::uint64_t nid) const {
  if (nid >= std::uint64_t{super_.blocks} * kBlock / kSlot) return damaged("an inode lies beyond its end");
  return Found{nid, TRY(read_inode(reader(), nid))};
}

Result<std::vector<Entry>> entries_of(std::string_view block) {
  DirEntry first;
  if (block.size() < sizeof first) return damaged("a directory is too short");
  std::memcpy(&first, block.data(), sizeof first);
  const std::size_t count = first.name_offset / sizeof first;
  std::vector<Entry> entries;
  for (std::size_t i = 0; i < count; ++i) {
    DirEntry entry;
    DirEntry next;
    if ((i + 1) * sizeof entry > block.size()) return damaged("a directory's table is too long");
    std::memcpy(&entry, block.data() + i * sizeof entry, sizeof entry);
    next.name_offset = static_cast<std::uint16_t>(block.size());
    if (i + 1 < count && (i + 2) * sizeof entry <= block.size())
      std::memcpy(&next, block.data() + (i + 1) * sizeof entry, sizeof entry);
    if (entry.name_offset > next.name_offset || next.name_offset > block.size()) return damaged("a name has no place");
    std::string_view text = block.substr(entry.name_offset, next.name_offset - entry.name_offset);
    entries.push_back({entry.nid, text.substr(0, text.find('\0'))});
  }
  if (entries.empty()) return damaged("a directory block without entries");
  return entries;
}

Result<void> ErofsReader::read_directory_block(const Found& directory, std::uint64_t block) const {
  if (last_.block == block && last_.directory && last_.directory->nid == directory.nid) return {};
  const std::uint64_t from = block * kBlock;
  const auto count = static_cast<std::size_t>(std::min<std::uint64_t>(kBlock, directory.inode.size - from));
  last_ = Last{};
  last_.bytes = TRY(read_data(reader(), directory.nid, directory.inode, from, count));
  last_.entries = TRY(entries_of(last_.bytes));
  last_.directory = directory;
  last_.block = block;
  return {};
}

// The last block whose first name is not behind `name` holds it, if any does.
Result<std::optional<std::uint64_t>> ErofsReader::find_in(const Found& directory, std::string_view name) const {
  std::uint64_t low = 0;
  std::uint64_t high = (directory.inode.size + kBlock - 1) / kBlock;
  const bool again = last_.block && last_.directory->nid == directory.nid && *last_.block < high;
  for (std::uint64_t middle = again ? *last_.block : high / 2; low < high; middle = low + (high - low) / 2) {
    TRY(read_directory_block(directory, middle));
    const auto& entries = last_.entries;
    const auto found = std::lower_bound(entries.begin(), entries.end(), name,
                                        [](const Entry& a, std::string_view b) { return a.text < b; });
    if (found != entries.end() && found->text == name) return std::optional(found->nid);
    if (found == entries.begin()) high = middle;
    else if (found == entries.end()) low = middle + 1;
    else break;
  }
  return std::optional<std::uint64_t>();
}

Result<std::optional<Found>> ErofsReader::find(const std::string& path) const {
  Found here = TRY(inode_at(super_.root_nid));
  for (const auto& name : components_of(path)) {
    if (!S_ISDIR(here.inode.mode)) return std::optional<Found>();
    const auto nid = TRY(find_in(here, name));
    if (!nid) return std::optional<Found>();
    here = TRY(inode_at(*nid));
  }
  return std::optional(here);
}

Result<bool> ErofsReader::is_opaque(const Found& directory) const {
  if (directory.inode.xattr_count == 0) return false;
  const std::uint64_t at = directory.nid * kSlot + sizeof(Inode);
  XattrHeader header;
  TRY(read_at(at, &header, sizeof header));
  std::string packed(xattr_size(directory.inode) - sizeof header, '\0');
  const std::string wanted = TRY(pack_xattrs({{kOpaqueXattr, "y"}}));
  if (header.shared_count == 0) {
    TRY(read_at(at + sizeof header, packed.data(), packed.size()));
    for (std::size_t from = 0; from + sizeof(XattrEntry) <= packed.size();) {
      if (packed.compare(from, wanted.size(), wanted) == 0) return true;
      XattrEntry entry;
      std::memcpy(&entry, packed.data() + from, sizeof entry);
      from += (sizeof entry + entry.name_length + entry.value_size + 3) / 4 * 4;
    }
    return false;
  }
  for (std::uint32_t i = 0; i < header.shared_count; ++i) {
    std::uint32_t place = 0;
    TRY(read_at(at + sizeof header + i * sizeof place, &place, sizeof place));
    std::string there(wanted.size(), '\0');
    const auto read =
        read_at(std::uint64_t{super_.xattr_block} * kBlock + std::uint64_t{place} * 4, there.data(), there.size());
    if (read && there == wanted) return true;
  }
  return false;
}

Result<LayerNode> ErofsReader::describe(const Found& found) const {
  const Inode& inode = found.inode;
  LayerNode node;
  node.status.st_ino = found.nid;
  node.status.st_mode = inode.mode;
  node.status.st_nlink = inode.links;
  node.status.st_uid = inode.uid;
  node.status.st_gid = inode.gid;
  node.status.st_size = static_cast<off_t>(inode.size);
  node.status.st_mtim = {.tv_sec = inode.mtime, .tv_nsec = inode.mtime_ns};
  node.whiteout = S_ISCHR(inode.mode) && inode.start == 0;
  if (node.is_directory()) node.opaque = TRY(is_opaque(found));
  return node;
}

Result<std::optional<LayerNode>> ErofsReader::lookup(const std::string& path) const {
  const auto found = TRY(find(path));
  if (!found) return std::optional<LayerNode>();
  return std::optional(TRY(describe(*found)));
}

Result<std::optional<LayerNode>> ErofsReader::lookup_below(ino_t parent, const std::string& path) const {
  const bool again = last_.directory && last_.directory->nid == parent;
  const Found directory = again ? *last_.directory : TRY(inode_at(parent));
  if (!S_ISDIR(directory.inode.mode)) return std::optional<LayerNode>();
  const auto nid = TRY(find_in(directory, std::string_view(path).substr(path.rfind('/') + 1)));
  if (!nid) return std::optional<LayerNode>();
  return std::optional(TRY(describe(TRY(inode_at(*nid)))));
}

Result<std::string> ErofsReader::read_link(const std::string& path) const {
  const auto found = TRY(find(path));
  if (!found) return Error::from_errno(ENOENT, "readlink ", printable(path));
  if (!S_ISLNK(found->inode.mode)) return Error::from_errno(EINVAL, "readlink ", printable(path));
  if (found->inode.size > kLinkMost) return damaged("a symbolic link is too long");
  return read_data(reader(), found->nid, found->inode, 0, found->inode.size);
}

Result<Xattrs> ErofsReader::shown_xattrs(ino_t inode, const std::string& /*path*/) const {
  Xattrs xattrs;
  const Found found = TRY(inode_at(inode));
  if (found.inode.xattr_count == 0) return xattrs;
  std::uint64_t at = found.nid * kSlot + sizeof(Inode);
  const std::uint64_t end = at + xattr_size(found.inode);
  XattrHeader header;
  TRY(read_at(at, &header, sizeof header));
  at += sizeof header;
  while (header.shared_count == 0 && at < end) at = TRY(erofs::read_shown_xattr(reader(), at, end, xattrs));
  for (std::uint32_t i = 0; i < header.shared_count; ++i) {
    std::uint32_t place = 0;
    TRY(read_at(at + i * sizeof place, &place, sizeof place));
    const std::uint64_t there = std::uint64_t{super_.xattr_block} * kBlock + std::uint64_t{place} * 4;
    TRY(erofs::read_shown_xattr(reader(), there, std::uint64_t{super_.blocks} * kBlock, xattrs));
  }
  return xattrs;
}

Result<std::vector<std::string>> ErofsReader::read_list(std::uint64_t offset, std::uint64_t length) const {
  if (length > kImpliedBytesMost || offset > whole_ || length > whole_ - offset)
    return damaged("its list of implied directories has no place");
  std::string list(length, '\0');
  TRY(read_at(offset, list.data(), list.size()));
  return parse_implied(list);
}

Result<void> ErofsReader::read_front() {
  LayerHeader header;
  const LayerHeader good;
  TRY(read_at(0, &header, sizeof header));
  TRY(read_at(kSuperOffset, &super_, sizeof super_));
  if (std::memcmp(header.magic, good.magic, sizeof good.magic) != 0 || super_.magic != kMagic)
    return damaged("it does not begin like one");
  const auto status = TRY(sys::stat_fd(file_.get(), "layer"));
  whole_ = static_cast<std::uint64_t>(status.st_size);
  if (whole_ != std::uint64_t{super_.blocks} * kBlock) return damaged("it has not the size that it says");
  implied_ = TRY(read_list(header.implied_offset, header.implied_length));
  covering_offset_ = header.covering_offset;
  covering_length_ = header.covering_length;
  TRY(covering());  // a damaged list is found now
  size_ = static_cast<std::int64_t>(header.bytes);
  opaque_ = TRY(is_opaque(TRY(inode_at(super_.root_nid))));
  return {};
}

Result<std::unique_ptr<LayerReader>> ErofsReader::create(UniqueFd file) {
  std::unique_ptr<ErofsReader> reader(new ErofsReader(std::move(file)));
  TRY(reader->read_front());
  return std::unique_ptr<LayerReader>(std::move(reader));
}

}  // namespace

Result<std::unique_ptr<LayerReader>> open_erofs_layer(UniqueFd file_fd) {
  return ErofsReader::create(std::move(file_fd));
}

}  // namespace skink::image
