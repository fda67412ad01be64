// SPDX-License-Identifier: Apache-2.0
#include "image/erofs_dirs.h"

#include <sys/stat.h>

#include <algorithm>
#include <cerrno>
#include <cstddef>
#include <cstring>

#include "image/layer_files.h"

namespace skink::image::erofs {
namespace {

// root_nid has 16 bits, so the root's place is kept free from the start: behind the superblock.
constexpr std::uint64_t kRootOffset = kSuperOffset + sizeof(SuperBlock);
constexpr std::size_t kSharedMost = 255;

template <typename T>
std::string_view bytes_of(const T& object) {
  return {reinterpret_cast<const char*>(&object), sizeof object};
}

// An inode with what follows it.
std::string inode_image(const Inode& inode, std::string_view xattrs, std::string_view tail) {
  std::string image(bytes_of(inode));
  if (!xattrs.empty()) image.append(bytes_of(XattrHeader{})).append(xattrs);
  return image.append(tail);
}

std::uint16_t xattr_count(std::size_t packed) {
  return packed == 0 ? std::uint16_t{0} : static_cast<std::uint16_t>(1 + packed / 4);
}

Result<std::uint64_t> place_inode(BlockFile& file, std::size_t size) {
  if (size <= kBlock) return file.place(size);
  return std::uint64_t{TRY(file.reserve((size + kBlock - 1) / kBlock))} * kBlock;
}

}  // namespace

// The kernel takes no tail across the end of a block.
bool fits_inline(std::size_t xattrs, std::size_t tail) {
  const std::size_t head = sizeof(Inode) + xattr_room(xattrs);
  const std::size_t rest = head <= kBlock ? head : head % kBlock;
  return tail > 0 && rest > 0 && rest + tail <= kBlock;
}

Result<std::uint64_t> write_inode(BlockFile& file, Inode inode, std::string_view xattrs, std::string_view tail) {
  inode.xattr_count = xattr_count(xattrs.size());
  inode.format = format_of(Layout::plain);
  if (fits_inline(xattrs.size(), tail.size())) {
    inode.format = format_of(Layout::inline_tail);
  } else if (!tail.empty()) {
    // Right behind the blocks before it: nothing was written in between.
    const std::uint32_t first = TRY(file.append(tail));
    if (inode.size == tail.size()) inode.start = first;
    tail = {};
  }
  const std::uint64_t offset = TRY(place_inode(file, sizeof inode + xattr_room(xattrs.size()) + tail.size()));
  inode.number = static_cast<std::uint32_t>(offset / kSlot);
  TRY(file.write_at(offset, inode_image(inode, xattrs, tail)));
  return offset;
}

namespace {

struct Item {
  std::string_view text;
  std::uint64_t nid = 0;
  FileType type = FileType::none;
};

// Entries [first, end) that fill one block to `size` bytes.
struct Piece {
  std::size_t first = 0;
  std::size_t end = 0;
  std::size_t size = 0;
};

std::vector<Piece> split_blocks(const std::vector<Item>& items) {
  std::vector<Piece> pieces{Piece{}};
  for (std::size_t i = 0; i < items.size(); ++i) {
    const std::size_t size = sizeof(DirEntry) + items[i].text.size();
    if (pieces.back().size + size > kBlock) pieces.push_back({i, i, 0});
    pieces.back().end = i + 1;
    pieces.back().size += size;
  }
  return pieces;
}

std::string block_image(const std::vector<Item>& items, const Piece& piece) {
  std::string table;
  std::string texts;
  const std::size_t table_size = (piece.end - piece.first) * sizeof(DirEntry);
  for (std::size_t i = piece.first; i < piece.end; ++i) {
    const DirEntry entry{items[i].nid, static_cast<std::uint16_t>(table_size + texts.size()),
                         static_cast<std::uint8_t>(items[i].type), 0};
    table.append(bytes_of(entry));
    texts.append(items[i].text);
  }
  return table.append(texts);
}

class DirectoryWriter {
 public:
  DirectoryWriter(BlockFile& file, LayerTree& tree, const LayerFacts& facts) : file_(file), tree_(tree) {
    header_.bytes = facts.bytes;
    std::copy(facts.uuid.begin(), facts.uuid.end(), super_.uuid);
  }
  Result<void> write();

 private:
  // Where a directory's inode and the blocks of its data are.
  struct Place {
    std::uint64_t offset = 0;
    std::uint32_t start = 0;
  };
  Result<void> count_links();
  struct List {
    std::uint64_t offset = 0;
    std::uint64_t length = 0;
  };
  Result<List> write_list(ImpliedCount::Kind kind);
  Result<void> write_lists();
  Result<void> place_directory(std::uint32_t number);
  Result<void> write_directory(std::uint32_t number);
  Result<void> write_root(Inode inode, std::string_view tail);
  Result<void> write_front();
  Result<std::string> xattrs_of(std::uint32_t number) const;
  std::vector<Item> items_of(std::uint32_t number);
  [[nodiscard]] bool has_tail_inside(std::uint32_t number, std::size_t xattrs, std::size_t tail) const;

  BlockFile& file_;
  LayerTree& tree_;
  LayerHeader header_;
  SuperBlock super_;
  std::vector<bool> reached_;
  std::vector<std::uint32_t> sorted_;
  std::size_t next_ = 0;  // in sorted_: where the entries of the directory begin that is looked at
  std::vector<Place> places_;
  std::string root_image_;
};

// How often each inode is named counts only now: a later entry may have taken a name away.
Result<void> DirectoryWriter::count_links() {
  for (const std::uint32_t number : sorted_)
    if (const auto& name = tree_.names[number]; name.type != FileType::directory) ++tree_.nodes[name.target].links;
  for (const auto& node : tree_.nodes) {
    super_.inodes += node.links > 0 ? 1 : 0;
    if (node.links > 1) TRY(file_.write_at(node.nid * kSlot + offsetof(Inode, links), bytes_of(node.links)));
  }
  super_.inodes += static_cast<std::uint64_t>(std::count(reached_.begin(), reached_.end(), true));
  return {};
}

// Where the paths of some directories are in the file.
Result<DirectoryWriter::List> DirectoryWriter::write_list(ImpliedCount::Kind kind) {
  bool LayerTree::Directory::*is_in =
      kind == ImpliedCount::Kind::implied ? &LayerTree::Directory::implied : &LayerTree::Directory::covering;
  std::vector<std::string> paths;
  ImpliedCount count(kind);
  const auto wanted = [&](std::uint32_t number) { return reached_[number] && tree_.directories[number].*is_in; };
  for (std::uint32_t number = 0; number < reached_.size(); ++number)
    if (wanted(number)) TRY(count.add(1, std::max<std::size_t>(tree_.directories[number].length, 1), "one layer"));
  for (std::uint32_t number = 0; number < reached_.size(); ++number)
    if (wanted(number)) paths.push_back(tree_.path_of(number));
  const std::string list = TRY(format_implied(paths, kind));
  if (list.empty()) return List{};
  return List{.offset = std::uint64_t{TRY(file_.append(list))} * kBlock, .length = list.size()};
}

Result<void> DirectoryWriter::write_lists() {
  const List implied = TRY(write_list(ImpliedCount::Kind::implied));
  const List covering = TRY(write_list(ImpliedCount::Kind::covering));
  header_.implied_offset = implied.offset;
  header_.implied_length = implied.length;
  header_.covering_offset = covering.offset;
  header_.covering_length = covering.length;
  return {};
}

Result<std::string> DirectoryWriter::xattrs_of(std::uint32_t number) const {
  const auto& directory = tree_.directories[number];
  Xattrs xattrs;
  if (directory.xattrs != 0) {
    const auto& values = tree_.directory_xattrs[directory.xattrs - 1].values;
    xattrs.assign(values.begin(), values.end());
  }
  if (directory.opaque) xattrs.emplace_back(kOpaqueXattr, "y");
  return pack_xattrs(xattrs);
}

// The entries of directories stand in sorted_ in the order of the directories' numbers.
std::vector<Item> DirectoryWriter::items_of(std::uint32_t number) {
  const auto nid_of = [&](std::uint32_t directory) { return places_[directory].offset / kSlot; };
  std::vector<Item> items{{".", nid_of(number), FileType::directory},
                          {"..", nid_of(tree_.directories[number].parent), FileType::directory}};
  for (; next_ < sorted_.size() && tree_.names[sorted_[next_]].directory == number; ++next_) {
    const auto& name = tree_.names[sorted_[next_]];
    const bool directory = name.type == FileType::directory;
    items.push_back({tree_.text_of(name), directory ? nid_of(name.target) : tree_.nodes[name.target].nid, name.type});
  }
  // "." and ".." stand where their bytes put them; the rest is sorted.
  const auto dots = items.begin() + 2;
  const auto place = std::lower_bound(dots, items.end(), "..", [](const Item& a, const char* b) { return a.text < b; });
  std::rotate(items.begin(), dots, place);
  const auto one =
      std::lower_bound(items.begin(), place - 2, ".", [](const Item& a, const char* b) { return a.text < b; });
  std::rotate(one, place - 2, place - 1);
  return items;
}

bool DirectoryWriter::has_tail_inside(std::uint32_t number, std::size_t xattrs, std::size_t tail) const {
  if (number != LayerTree::kRoot) return fits_inline(xattrs, tail);
  return kRootOffset + sizeof(Inode) + xattr_room(xattrs) + tail <= kBlock;
}

Result<void> DirectoryWriter::place_directory(std::uint32_t number) {
  const auto pieces = split_blocks(items_of(number));
  const std::size_t tail = pieces.back().size;
  const std::size_t xattrs = TRY(xattrs_of(number)).size();
  const bool inside = has_tail_inside(number, xattrs, tail);
  if (const std::size_t blocks = pieces.size() - (inside ? 1 : 0); blocks > 0)
    places_[number].start = TRY(file_.reserve(blocks));
  if (number == LayerTree::kRoot) places_[number].offset = kRootOffset;
  else places_[number].offset = TRY(place_inode(file_, sizeof(Inode) + xattr_room(xattrs) + (inside ? tail : 0)));
  return {};
}

Result<void> DirectoryWriter::write_directory(std::uint32_t number) {
  const auto& directory = tree_.directories[number];
  const auto items = items_of(number);
  const auto pieces = split_blocks(items);
  const std::string xattrs = TRY(xattrs_of(number));
  const bool inside = has_tail_inside(number, xattrs.size(), pieces.back().size);
  Inode inode;
  inode.format = format_of(inside ? Layout::inline_tail : Layout::plain);
  inode.xattr_count = xattr_count(xattrs.size());
  inode.mode = static_cast<std::uint16_t>(S_IFDIR | directory.mode);
  inode.uid = directory.uid;
  inode.gid = directory.gid;
  inode.mtime = directory.mtime;
  inode.mtime_ns = directory.mtime_ns;
  inode.start = places_[number].start;
  inode.number = static_cast<std::uint32_t>(places_[number].offset / kSlot);
  inode.size = (pieces.size() - 1) * kBlock + pieces.back().size;
  inode.links = static_cast<std::uint32_t>(
      std::count_if(items.begin(), items.end(), [](const Item& item) { return item.type == FileType::directory; }));
  std::uint64_t at = std::uint64_t{inode.start} * kBlock;
  for (std::size_t i = 0; i < pieces.size() - (inside ? 1 : 0); ++i, at += kBlock)
    TRY(file_.write_at(at, block_image(items, pieces[i])));
  const std::string tail = inside ? block_image(items, pieces.back()) : "";
  if (number == LayerTree::kRoot) return write_root(inode, tail);
  return file_.write_at(places_[number].offset, inode_image(inode, xattrs, tail));
}

// Attributes for which block 0 has no room lie elsewhere as shared ones: the inode has only their places.
Result<void> DirectoryWriter::write_root(Inode inode, std::string_view tail) {
  const std::string xattrs = TRY(xattrs_of(LayerTree::kRoot));
  if (kRootOffset + sizeof(Inode) + xattr_room(xattrs.size()) <= kBlock) {
    root_image_ = inode_image(inode, xattrs, tail);
    return {};
  }
  XattrHeader header;
  std::string places;
  for (std::size_t at = 0; at < xattrs.size();) {
    XattrEntry entry;
    std::memcpy(&entry, xattrs.data() + at, sizeof entry);
    places.append(bytes_of(static_cast<std::uint32_t>(at / 4)));
    at += (sizeof entry + entry.name_length + entry.value_size + 3) / 4 * 4;
  }
  if (places.size() / 4 > kSharedMost)
    return Error::make(Code::unsupported, "too many extended attributes on the root of the layer");
  header.shared_count = static_cast<std::uint8_t>(places.size() / 4);
  super_.xattr_block = TRY(file_.append(xattrs));
  inode.xattr_count = static_cast<std::uint16_t>(1 + header.shared_count);
  root_image_ = std::string(bytes_of(inode)).append(bytes_of(header)).append(places);
  return {};
}

Result<void> DirectoryWriter::write_front() {
  super_.root_nid = kRootOffset / kSlot;
  super_.blocks = TRY(file_.finish());
  std::string front(bytes_of(header_));
  front.resize(kSuperOffset);
  front.append(bytes_of(super_)).append(root_image_);
  return file_.write_at(0, front);
}

Result<void> DirectoryWriter::write() {
  reached_ = tree_.reachable();
  sorted_ = tree_.sorted_names(reached_);
  places_.resize(reached_.size());
  TRY(count_links());
  TRY(write_lists());
  next_ = 0;
  for (std::uint32_t number = 0; number < reached_.size(); ++number)
    if (reached_[number]) TRY(place_directory(number));
  next_ = 0;
  for (std::uint32_t number = 0; number < reached_.size(); ++number)
    if (reached_[number]) TRY(write_directory(number));
  return write_front();
}

}  // namespace

Result<void> write_directories(BlockFile& file, LayerTree& tree, const LayerFacts& facts) {
  return DirectoryWriter(file, tree, facts).write();
}

}  // namespace skink::image::erofs
