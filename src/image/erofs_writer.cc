// SPDX-License-Identifier: Apache-2.0
// A layer as one EROFS file, written front to back while its tar is read: names of an attacker's tar are data in a file
// and never reach the host's file system (attacks A02 to A05, A74). Inodes go to the file as they come, small files
// with their data behind them in shared blocks; names stay in memory; directories, whose entries need the numbers of
// all inodes, come last.
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <deque>

#include "base/text.h"
#include "image/block_file.h"
#include "image/erofs_dirs.h"
#include "image/layer.h"
#include "image/layer_files.h"
#include "image/layer_tree.h"
#include "image/path.h"
#include "image/posix_acl.h"

namespace skink::image {
namespace {

using erofs::FileType;
using erofs::Inode;
using erofs::kBlock;
using erofs::LayerTree;

constexpr std::size_t kLinksMost = 40;              // as the kernel: man 7 path_resolution
constexpr std::size_t kLinkStepsMost = 4096;        // components that the links of one path add to it
constexpr std::size_t kLinkBytesMost = 256U << 20;  // of targets that are followed in one layer, and for each link:
constexpr std::size_t kLinkBytes = 64;
constexpr std::size_t kDeferredMost = 64U << 20;  // bytes of names of whiteouts, kept until the end
constexpr std::size_t kXattrsMost = 32U << 20;    // bytes of directories' extended attributes, kept likewise
constexpr std::size_t kDataBuffer = 256U << 10;
static_assert(kDataBuffer % kBlock == 0);

class ErofsWriter final : public LayerWriter {
 public:
  ErofsWriter(UniqueFd file, const LayerUuid& uuid) : fd_(std::move(file)), file_(fd_.get()), uuid_(uuid) {}

  Result<void> directory(const std::string& path, const Attributes& attributes) override;
  Result<void> regular(const std::string& path, const Attributes& attributes, ByteSource& data) override;
  Result<void> symlink(const std::string& path, const std::string& target, const Attributes& attributes) override;
  Result<void> fifo(const std::string& path, const Attributes& attributes) override;
  Result<bool> hardlink(const std::string& path, const std::string& target) override;
  Result<void> leave_out(const std::string& path) override;
  Result<void> whiteout(const std::string& path) override { return defer(whiteouts_, path); }
  Result<void> opaque(const std::string& path) override { return defer(opaques_, path); }
  Result<void> finish() override;
  std::optional<Placement> placement() const override { return placement_; }

 private:
  enum class Missing { make, refuse, look };  // refuse: make, but replace nothing

  Result<std::uint32_t> resolve(const std::string& path, Missing missing = Missing::make);
  Result<std::uint32_t> enter(std::uint32_t directory, std::string_view name, Missing missing);
  Result<const LayerTree::Name*> find_target(const std::string& target);
  Result<std::string> read_link(const LayerTree::Name& name);
  [[nodiscard]] erofs::ReadAt reader() {
    return [this](std::uint64_t offset, void* into, std::size_t count) { return file_.read_at(offset, into, count); };
  }
  Result<void> note_placement();
  Result<void> spend_on_link(std::size_t bytes);
  Result<void> put(std::uint32_t directory, const std::string& name, FileType type, std::uint32_t node);
  Result<void> write_node(const std::string& path, FileType type, Inode inode, const Attributes& attributes,
                          std::string_view tail);
  Result<void> set_xattrs(LayerTree::Directory& directory, const erofs::Xattrs& xattrs);
  void fit_acl(const LayerTree::Directory& directory);
  Result<void> defer(std::vector<std::string>& list, const std::string& path);
  Result<void> mark_opaque(const std::string& path);
  Result<void> write_whiteout(const std::string& path);
  Result<void> put_whiteout(std::uint32_t directory, const std::string& name);
  Result<void> hide_left_out();

  UniqueFd fd_;
  erofs::BlockFile file_;
  LayerUuid uuid_;
  LayerTree tree_;
  // One parent, not a table of them: dropped whenever something is replaced, so it cannot outlive an ancestor that was
  // replaced by a link (A04, CVE-2025-47290). Making things cannot change where a resolved path leads.
  std::optional<std::pair<std::string, std::uint32_t>> parent_;
  std::optional<std::uint32_t> whiteout_node_;
  std::vector<std::string> whiteouts_, opaques_;
  std::size_t deferred_ = 0;
  std::size_t xattr_bytes_ = 0;
  std::size_t link_bytes_ = 0;
  std::uint64_t bytes_ = 0;
  std::optional<Placement> placement_;
  std::string buffer_;
};

Inode inode_of(mode_t type, const Attributes& attributes) {
  Inode inode;
  inode.mode = static_cast<std::uint16_t>(type | (attributes.mode & 07777U));
  inode.uid = attributes.uid;
  inode.gid = attributes.gid;
  inode.mtime = attributes.mtime.tv_sec;
  inode.mtime_ns = static_cast<std::uint32_t>(attributes.mtime.tv_nsec);
  return inode;
}

Result<std::string> ErofsWriter::read_link(const LayerTree::Name& name) {
  const std::uint64_t nid = tree_.nodes[name.target].nid;
  const erofs::ReadAt read = reader();
  const Inode inode = TRY(erofs::read_inode(read, nid));
  return erofs::read_data(read, nid, inode, 0, inode.size);
}

// The directory `name` in `directory`; what is missing or in the way becomes an implied one.
Result<std::uint32_t> ErofsWriter::enter(std::uint32_t directory, std::string_view name, Missing missing) {
  const auto* there = tree_.find(directory, name);
  if (there != nullptr && there->type == FileType::directory) return there->target;
  if (missing == Missing::look) return Error::from_errno(there == nullptr ? ENOENT : ENOTDIR, printable(name));
  if (there != nullptr && missing == Missing::refuse) return Error::from_errno(ENOTDIR, printable(name));
  parent_.reset();
  return tree_.put_directory(directory, name);
}

// Links cost the tar a few bytes and each path through them the whole walk.
Result<void> ErofsWriter::spend_on_link(std::size_t bytes) {
  link_bytes_ += kLinkBytes + bytes;
  if (link_bytes_ > kLinkBytesMost)
    return Error::make(Code::unsupported, "paths through symbolic links of more than ", kLinkBytesMost >> 20,
                       " MiB in one layer");
  return {};
}

// Components of `text` onto a stack, the first on top.
void push_components(std::vector<std::string_view>& stack, std::string_view text) {
  for (std::size_t end = text.size();;) {
    const std::size_t slash = text.substr(0, end).rfind('/');
    const std::size_t begin = slash == text.npos ? 0 : slash + 1;
    const std::string_view name = text.substr(begin, end - begin);
    if (!name.empty() && name != ".") stack.push_back(name);
    if (slash == text.npos) return;
    end = slash;
  }
}

// The directory at `path`, walked as the kernel would below the root: a path may lead through links of the layer
// itself.
Result<std::uint32_t> ErofsWriter::resolve(const std::string& path, Missing missing) {
  if (parent_ && parent_->first == path) return parent_->second;
  std::vector<std::string_view> todo;
  std::deque<std::string> targets;  // that names in `todo` are from
  push_components(todo, path);
  std::uint32_t here = LayerTree::kRoot;
  for (std::size_t steps = 0; !todo.empty();) {
    const std::string_view name = todo.back();
    todo.pop_back();
    if (name == "..") {
      here = tree_.directories[here].parent;
      continue;
    }
    if (const auto* there = tree_.find(here, name); there != nullptr && there->type == FileType::symlink) {
      if (targets.size() == kLinksMost) return Error::from_errno(ELOOP, printable(path));
      targets.push_back(TRY(read_link(*there)));
      TRY(spend_on_link(targets.back().size()));
      if (targets.back().starts_with('/')) here = LayerTree::kRoot;
      const std::size_t before = todo.size();
      push_components(todo, targets.back());
      steps += todo.size() - before;
      if (steps > kLinkStepsMost) return Error::from_errno(ELOOP, printable(path));
      continue;
    }
    here = TRY(enter(here, name, missing));
  }
  parent_.emplace(path, here);
  return here;
}

Result<void> ErofsWriter::put(std::uint32_t directory, const std::string& name, FileType type, std::uint32_t node) {
  if (tree_.find(directory, name) != nullptr) parent_.reset();
  return tree_.put(directory, name, type, node);
}

Result<void> ErofsWriter::set_xattrs(LayerTree::Directory& directory, const erofs::Xattrs& xattrs) {
  if (xattrs.empty()) return {};
  if (directory.xattrs == 0) {
    tree_.directory_xattrs.emplace_back();
    directory.xattrs = static_cast<std::uint32_t>(tree_.directory_xattrs.size());
  }
  auto& all = tree_.directory_xattrs[directory.xattrs - 1];
  for (const auto& [name, value] : xattrs) {
    // Whatever does not fit is said here, where the entry is known.
    const std::size_t packed = TRY(erofs::pack_xattrs({{name, value}})).size();
    const auto [there, is_new] = all.values.try_emplace(name);
    const std::size_t before = is_new ? 0 : TRY(erofs::pack_xattrs({{name, there->second}})).size();
    all.packed += packed - before;
    xattr_bytes_ += packed - before + (is_new ? sizeof xattrs.front() : 0);
    there->second = value;
    if (all.packed > erofs::kXattrsOfInodeMost) return erofs::too_many_xattrs(name);
  }
  if (xattr_bytes_ > kXattrsMost)
    return Error::make(Code::unsupported, "more than ", kXattrsMost >> 20,
                       " MiB of extended attributes on the directories of one layer");
  return {};
}

// A later entry without an ACL has a mode, which the ACL of an earlier one follows as it would on a disk.
void ErofsWriter::fit_acl(const LayerTree::Directory& directory) {
  if (directory.xattrs == 0) return;
  auto& values = tree_.directory_xattrs[directory.xattrs - 1].values;
  if (const auto acl = values.find(std::string(kAclAccess)); acl != values.end())
    acl->second = acl_with_mode(acl->second, directory.mode);
}

Result<void> ErofsWriter::directory(const std::string& path, const Attributes& attributes) {
  std::uint32_t number = LayerTree::kRoot;
  if (!path.empty()) {
    const auto [parent_path, name] = split_path(path);
    const std::uint32_t parent = TRY(resolve(parent_path));
    const auto* there = tree_.find(parent, name);
    number = there != nullptr && there->type == FileType::directory ? there->target
                                                                    : TRY(enter(parent, name, Missing::make));
  }
  auto& node = tree_.directories[number];
  node.mode = static_cast<std::uint16_t>(attributes.mode & 07777U);
  node.uid = attributes.uid;
  node.gid = attributes.gid;
  node.mtime = attributes.mtime.tv_sec;
  node.mtime_ns = static_cast<std::uint32_t>(attributes.mtime.tv_nsec);
  node.implied = false;
  TRY(set_xattrs(node, attributes.xattrs));
  fit_acl(node);
  return {};
}

// An inode, and behind it the tail of its data.
Result<void> ErofsWriter::write_node(const std::string& path, FileType type, Inode inode, const Attributes& attributes,
                                     std::string_view tail) {
  const auto [parent_path, name] = split_path(path);
  const std::uint32_t parent = TRY(resolve(parent_path));
  const std::string xattrs = TRY(erofs::pack_xattrs(attributes.xattrs));
  const std::uint64_t offset = TRY(erofs::write_inode(file_, inode, xattrs, tail));
  return put(parent, name, type, tree_.add_node(offset / erofs::kSlot));
}

Result<void> ErofsWriter::regular(const std::string& path, const Attributes& attributes, ByteSource& data) {
  Inode inode = inode_of(S_IFREG, attributes);
  buffer_.resize(kDataBuffer);
  std::size_t tail = 0;
  for (bool more = true; more;) {
    const std::size_t got = TRY(read_full(data, buffer_.data(), buffer_.size()));
    more = got == buffer_.size();
    tail = got % kBlock;
    if (const std::size_t whole = got - tail; whole > 0) {
      const std::uint32_t first = TRY(file_.append({buffer_.data(), whole}));
      if (inode.size == 0) inode.start = first;
      std::memmove(buffer_.data(), buffer_.data() + whole, tail);
    }
    inode.size += got;
  }
  bytes_ += inode.size;
  TRY(write_node(path, FileType::regular, inode, attributes, {buffer_.data(), tail}));
  return note_placement();
}

// Of the file whose node came last.
Result<void> ErofsWriter::note_placement() {
  const std::uint64_t nid = tree_.nodes.back().nid;
  const Inode inode = TRY(erofs::read_inode(reader(), nid));
  const std::uint64_t whole = inode.size / kBlock * kBlock;
  placement_ = {.size = inode.size, .data = std::uint64_t{inode.start} * kBlock, .tail = 0};
  placement_->tail = inode.format == erofs::format_of(erofs::Layout::inline_tail)
                         ? nid * erofs::kSlot + sizeof inode + erofs::xattr_size(inode)
                         : placement_->data + whole;
  return {};
}

Result<void> ErofsWriter::symlink(const std::string& path, const std::string& target, const Attributes& attributes) {
  Attributes own = attributes;
  own.mode = 0777;
  Inode inode = inode_of(S_IFLNK, own);
  inode.size = target.size();
  return write_node(path, FileType::symlink, inode, own, target);
}

Result<void> ErofsWriter::fifo(const std::string& path, const Attributes& attributes) {
  return write_node(path, FileType::fifo, inode_of(S_IFIFO, attributes), attributes, {});
}

// What stands at `target`, links on the way followed but not the last one, and nothing made.
Result<const LayerTree::Name*> ErofsWriter::find_target(const std::string& target) {
  const auto [parent_path, name] = split_path(target);
  const auto parent = resolve(parent_path, Missing::look);
  const auto* there = parent ? tree_.find(*parent, name) : nullptr;
  if (there == nullptr)
    return Error::make(Code::corrupt, "hard link to ", skink::quoted(target), ", which is not in this layer");
  if (there->type == FileType::directory)
    return Error::make(Code::corrupt, "hard link to the directory ", skink::quoted(target));
  return there;
}

Result<bool> ErofsWriter::hardlink(const std::string& path, const std::string& target) {
  const LayerTree::Name from = *TRY(find_target(target));
  const auto [parent_path, name] = split_path(path);
  const std::uint32_t parent = TRY(resolve(parent_path));
  TRY(put(parent, name, from.type, from.target));
  return from.type != FileType::none;
}

// A name of type none until the end, which a later entry can still take.
Result<void> ErofsWriter::leave_out(const std::string& path) {
  const auto [parent_path, name] = split_path(path);
  return put(TRY(resolve(parent_path)), name, FileType::none, 0);
}

Result<void> ErofsWriter::defer(std::vector<std::string>& list, const std::string& path) {
  deferred_ += path.size() + sizeof(std::string);
  if (deferred_ > kDeferredMost)
    return Error::make(Code::corrupt, "whiteouts with names of more than ", kDeferredMost >> 20, " MiB in one layer");
  list.push_back(path);
  return {};
}

Result<void> ErofsWriter::mark_opaque(const std::string& path) {
  const auto directory = resolve(path, Missing::refuse);
  if (!directory && directory.error().errnum() == ENOTDIR) return {};  // a file hides what is below it anyway
  tree_.directories[TRY(directory)].opaque = true;
  return {};
}

// Runs when every entry of the layer is there, so the order of the tar does not matter.
Result<void> ErofsWriter::write_whiteout(const std::string& path) {
  const auto [parent_path, name] = split_path(path);
  const auto parent = resolve(parent_path, Missing::refuse);
  if (!parent && parent.error().errnum() == ENOTDIR) return {};
  const std::uint32_t directory = TRY(parent);
  // In an opaque directory there is nothing left to hide, and overlayfs would list the whiteout's name (A60).
  if (tree_.directories[directory].opaque) return {};
  if (const auto* there = tree_.find(directory, name); there != nullptr) {
    // Removed below and made anew here: a directory must not merge with what it replaces, nor be described by it.
    if (there->type == FileType::directory) {
      tree_.directories[there->target].opaque = true;
      tree_.directories[there->target].implied = false;
    }
    return {};
  }
  return put_whiteout(directory, name);
}

Result<void> ErofsWriter::put_whiteout(std::uint32_t directory, const std::string& name) {
  if (!whiteout_node_) {
    Inode inode;
    inode.mode = S_IFCHR;
    whiteout_node_ = tree_.add_node(TRY(erofs::write_inode(file_, inode, "", "")) / erofs::kSlot);
  }
  tree_.directories[directory].covering = true;
  return put(directory, name, FileType::character, *whiteout_node_);
}

// What is left in an opaque directory has nothing to hide and is no entry.
Result<void> ErofsWriter::hide_left_out() {
  for (std::size_t number = 0; number < tree_.names.size(); ++number) {
    const LayerTree::Name name = tree_.names[number];
    if (name.type == FileType::none && !tree_.directories[name.directory].opaque)
      TRY(put_whiteout(name.directory, std::string(tree_.text_of(name))));
  }
  return {};
}

Result<void> ErofsWriter::finish() {
  for (const auto& path : opaques_) TRY_CTX(mark_opaque(path), "opaque directory ", skink::quoted(path));
  sort_whiteouts(whiteouts_);
  for (const auto& path : whiteouts_) TRY_CTX(write_whiteout(path), "whiteout of ", skink::quoted(path));
  TRY(hide_left_out());
  return erofs::write_directories(file_, tree_, {.uuid = uuid_, .bytes = bytes_});
}

}  // namespace

Result<std::unique_ptr<LayerWriter>> make_erofs_writer(UniqueFd file_fd, const LayerUuid& uuid) {
  return std::unique_ptr<LayerWriter>(std::make_unique<ErofsWriter>(std::move(file_fd), uuid));
}

}  // namespace skink::image
