// SPDX-License-Identifier: Apache-2.0
// A layer as a directory tree, written as root from a tar that an attacker may have made. Two rules keep every write
// inside: a parent is resolved by openat2 in-root and held as a descriptor, and the last component is only ever used
// with *at calls that do not follow a link (attacks A02 to A05, A74).
#include <fcntl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <unordered_map>

#include "base/text.h"
#include "fs/dir.h"
#include "image/layer.h"
#include "image/layer_files.h"
#include "image/path.h"
#include "image/posix_acl.h"
#include "oci/json.h"
#include "sys/file.h"

namespace skink::image {
namespace {

constexpr int kStepsMost = 40;                       // as the kernel: man 7 path_resolution
constexpr std::size_t kWhiteoutsMost = 64U << 20;    // bytes of names of whiteouts, kept until the end
constexpr std::size_t kDirectoriesMost = 1'000'000;  // one name of an entry can imply 512
constexpr std::size_t kDefaultAclsMost = 32U << 20;  // bytes of directories' default ACLs, kept until the end
constexpr std::size_t kHoleLeast = 4096;
constexpr std::size_t kCopyBuffer = 256U << 10;

// A directory that this writer made. Modes, times and default ACLs are set at the end: a set-group-id bit and such an
// ACL would be inherited, and every entry made inside moves the time.
struct Directory {
  ino_t parent = 0;
  std::string name;
  std::size_t depth = 0;   // components of its path
  std::size_t length = 0;  // bytes of its path
  mode_t mode = 0755;
  timespec mtime{};
  bool implied = true;
  bool opaque = false;
  bool covering = false;  // a whiteout stands in it
  std::string default_acl = {};
};

class TreeWriter final : public LayerWriter {
 public:
  static Result<std::unique_ptr<LayerWriter>> create(UniqueFd layer_fd);

  Result<void> directory(const std::string& path, const Attributes& attributes) override;
  Result<void> regular(const std::string& path, const Attributes& attributes, ByteSource& data) override;
  Result<void> symlink(const std::string& path, const std::string& target, const Attributes& attributes) override;
  Result<void> fifo(const std::string& path, const Attributes& attributes) override;
  Result<bool> hardlink(const std::string& path, const std::string& target) override;
  Result<void> leave_out(const std::string& path) override;
  Result<void> whiteout(const std::string& path) override { return defer(whiteouts_, path); }
  Result<void> opaque(const std::string& path) override { return defer(opaques_, path); }
  Result<void> finish() override;

 private:
  enum class Missing { make, refuse };

  TreeWriter(UniqueFd layer, UniqueFd root) : layer_(std::move(layer)), root_(std::move(root)) {}

  Result<int> open_parent(const std::string& path, Missing missing = Missing::make);
  Result<void> make_parents(const std::string& path, Missing missing);
  Result<void> make_directory(int parent_fd, const std::string& name);
  Result<UniqueFd> open_directory(const std::string& path);
  Result<void> remove_existing(int parent_fd, const std::string& name);
  Result<void> make(int parent_fd, const std::string& name, const std::function<int()>& call, const char* what);
  Result<void> copy_data(int file_fd, ByteSource& data);
  Result<mode_t> set_attributes(int file_fd, const Attributes& attributes);
  Result<void> set_link_attributes(int parent_fd, const std::string& name, const Attributes& attributes);
  Result<void> defer(std::vector<std::string>& list, const std::string& path);
  enum class Below { describes, replaced };  // it, the directory of the same path in a lower layer
  Result<void> mark_opaque(const std::string& path, Below below);
  Result<void> write_whiteout(const std::string& path);
  Result<void> cover(const std::string& path);
  Result<void> finish_directories();
  std::optional<std::string> path_of(ino_t inode) const;
  Result<void> write_description();

  UniqueFd layer_;
  UniqueFd root_;
  ino_t root_inode_ = 0;
  std::unordered_map<ino_t, Directory> directories_;
  // One parent, not a table of them: dropped whenever something is removed, so it cannot outlive an ancestor that was
  // replaced by a link (A04, CVE-2025-47290). Making things cannot change where a resolved path leads.
  std::string parent_path_;
  UniqueFd parent_;
  std::vector<std::string> whiteouts_, opaques_, left_out_;
  std::size_t deferred_ = 0;
  std::vector<std::string> implied_, covering_;
  std::size_t default_acls_ = 0;
  std::uint64_t bytes_ = 0;
  std::vector<char> buffer_;
};

Result<std::unique_ptr<LayerWriter>> TreeWriter::create(UniqueFd layer_fd) {
  TRY(sys::mkdir_at(layer_fd.get(), kTreeName, 0700));
  UniqueFd root = TRY(sys::open_beneath(layer_fd.get(), kTreeName, O_RDONLY | O_DIRECTORY));
  const auto status = TRY(sys::stat_fd(root.get(), kTreeName));
  std::unique_ptr<TreeWriter> writer(new TreeWriter(std::move(layer_fd), std::move(root)));
  writer->root_inode_ = status.st_ino;
  writer->directories_[status.st_ino] = Directory{};
  return std::unique_ptr<LayerWriter>(std::move(writer));
}

// The directory at `path`, where a path may lead through links of the layer itself.
Result<int> TreeWriter::open_parent(const std::string& path, Missing missing) {
  if (parent_ && parent_path_ == path) return parent_.get();
  const auto open = [&] {
    return sys::open_in_root(root_.get(), path.empty() ? "." : path.c_str(), O_PATH | O_DIRECTORY);
  };
  auto opened = open();
  if (!opened && (opened.error().errnum() == ENOENT || opened.error().errnum() == ENOTDIR)) {
    TRY(make_parents(path, missing));
    opened = open();
  }
  if (!opened) return std::move(opened).error();
  parent_ = std::move(opened).value();
  parent_path_ = path;
  return parent_.get();
}

// Walks `path` as the kernel would below the root, one component at a time and never following a link by itself, and
// makes what is missing. What is in the way and no directory is replaced.
Result<void> TreeWriter::make_parents(const std::string& path, Missing missing) {
  std::vector<std::string> todo = components_of(path);
  std::reverse(todo.begin(), todo.end());
  std::string at;  // where we are: no link in it
  UniqueFd here = TRY(sys::open_in_root(root_.get(), ".", O_PATH | O_DIRECTORY));
  int links = 0;
  while (!todo.empty()) {
    const std::string name = std::move(todo.back());
    todo.pop_back();
    if (name == ".") continue;
    if (name == "..") {
      at = split_path(at).first;
      here = TRY(sys::open_beneath(root_.get(), at.empty() ? "." : at.c_str(), O_PATH | O_DIRECTORY));
      continue;
    }
    struct stat status {};
    const bool exists = ::fstatat(here.get(), name.c_str(), &status, AT_SYMLINK_NOFOLLOW) == 0;
    if (!exists && errno != ENOENT) return Error::from_errno(errno, "stat ", printable(name));
    if (exists && S_ISLNK(status.st_mode)) {
      if (++links > kStepsMost) return Error::from_errno(ELOOP, printable(path));
      const std::string target = TRY(sys::readlink_at(here.get(), name.c_str()));
      if (target.starts_with('/')) {
        at.clear();
        here = TRY(sys::open_in_root(root_.get(), ".", O_PATH | O_DIRECTORY));
      }
      const auto more = components_of(target);
      todo.insert(todo.end(), more.rbegin(), more.rend());
      continue;
    }
    if (exists && !S_ISDIR(status.st_mode)) {
      if (missing == Missing::refuse) return Error::from_errno(ENOTDIR, printable(path));
      TRY(remove_existing(here.get(), name));
    }
    if (!exists || !S_ISDIR(status.st_mode)) TRY(make_directory(here.get(), name));
    here = TRY(sys::open_at(here.get(), name.c_str(), O_PATH | O_DIRECTORY | O_NOFOLLOW));
    at = join_path(at, name);
  }
  return {};
}

// Makes an implied directory; an entry of its own makes it explicit.
Result<void> TreeWriter::make_directory(int parent_fd, const std::string& name) {
  const auto parent_status = TRY(sys::stat_fd(parent_fd, "parent directory"));
  const auto parent = directories_.find(parent_status.st_ino);
  if (parent == directories_.end()) return Error::make(Code::internal, "a directory that this layer did not make");
  const std::size_t depth = parent->second.depth + 1;
  const std::size_t length = parent->second.length + name.size() + 1;
  // Longer paths could not be opened again; links in the layer could otherwise make them without end.
  if (depth > kDepthMost || length >= kPathMost) return Error::from_errno(ENAMETOOLONG, "mkdir ", printable(name));
  if (directories_.size() >= kDirectoriesMost)
    return Error::make(Code::unsupported, "more than ", kDirectoriesMost, " directories in one layer");
  TRY(sys::mkdir_at(parent_fd, name.c_str(), 0700));
  const auto status = TRY(sys::stat_at(parent_fd, name.c_str(), AT_SYMLINK_NOFOLLOW));
  directories_[status.st_ino] = Directory{parent_status.st_ino, name, depth, length, 0755, {}, true, false};
  return {};
}

Result<void> TreeWriter::remove_existing(int parent_fd, const std::string& name) {
  auto removed = fs::remove_tree(parent_fd, name.c_str());
  // parent_fd may be the cached descriptor, which the caller still uses: only its name is forgotten. A path holds no
  // NUL, so this matches none.
  parent_path_.assign(1, '\0');
  return removed;
}

// Makes one object by `call`, which must not replace or follow anything; what is in the way is removed first.
Result<void> TreeWriter::make(int parent_fd, const std::string& name, const std::function<int()>& call,
                              const char* what) {
  int answer = call();
  if (answer < 0 && errno == EEXIST) {
    TRY(remove_existing(parent_fd, name));
    answer = call();
  }
  if (answer < 0) return Error::from_errno(errno, std::string_view(what));
  return {};
}

// The mode that the file gets then.
Result<mode_t> TreeWriter::set_attributes(int file_fd, const Attributes& attributes) {
  mode_t mode = attributes.mode;
  // Order: chown clears set-id bits and file capabilities, so it comes first (A63).
  if (::fchown(file_fd, attributes.uid, attributes.gid) != 0) return Error::from_errno(errno, "chown");
  for (const auto& [name, value] : attributes.xattrs) {
    if (name == kAclDefault) continue;  // see finish_directories()
    if (::fsetxattr(file_fd, name.c_str(), value.data(), value.size(), 0) == 0) continue;
    // Not every file system has user.*: what it cannot hold is left out, as tar does.
    if (errno == EOPNOTSUPP && name.starts_with("user.")) continue;
    if (name != kAclAccess || !has_no_room_for_acl(errno))
      return Error::from_errno(errno, "set xattr ", printable(name));
    mode = mode_without(parse_acl(value), mode);
  }
  return mode;
}

Result<void> TreeWriter::directory(const std::string& path, const Attributes& attributes) {
  UniqueFd opened;
  if (path.empty()) {
    opened = TRY(sys::dup_fd(root_.get()));
  } else {
    const auto [parent_path, name] = split_path(path);
    const int parent = TRY(open_parent(parent_path));
    struct stat status {};
    const bool exists = ::fstatat(parent, name.c_str(), &status, AT_SYMLINK_NOFOLLOW) == 0;
    if (!exists && errno != ENOENT) return Error::from_errno(errno, "stat");
    if (exists && !S_ISDIR(status.st_mode)) TRY(remove_existing(parent, name));
    if (!exists || !S_ISDIR(status.st_mode)) TRY(make_directory(parent, name));
    opened = TRY(sys::open_at(parent, name.c_str(), O_RDONLY | O_DIRECTORY | O_NOFOLLOW));
  }
  const mode_t mode = TRY(set_attributes(opened.get(), attributes));
  const auto status = TRY(sys::stat_fd(opened.get(), "directory"));
  const auto node = directories_.find(status.st_ino);
  if (node == directories_.end()) return Error::make(Code::internal, "a directory that this layer did not make");
  node->second.mode = mode;
  node->second.mtime = attributes.mtime;
  node->second.implied = false;
  for (const auto& [xattr, value] : attributes.xattrs) {
    if (xattr != kAclDefault) continue;
    default_acls_ += value.size();
    if (default_acls_ > kDefaultAclsMost)
      return Error::make(Code::unsupported, "default ACLs of more than ", kDefaultAclsMost >> 20, " MiB in one layer");
    node->second.default_acl = value;
  }
  return {};
}

// Pieces of zeros become holes: lastlog and the like of images are large and empty.
Result<void> TreeWriter::copy_data(int file_fd, ByteSource& data) {
  buffer_.resize(kCopyBuffer);
  std::uint64_t size = 0;
  bool ends_in_hole = false;
  for (;;) {
    const std::size_t got = TRY(data.read(buffer_.data(), buffer_.size()));
    if (got == 0) break;
    size += got;
    ends_in_hole =
        got >= kHoleLeast && buffer_[0] == 0 && std::memcmp(buffer_.data(), buffer_.data() + 1, got - 1) == 0;
    if (!ends_in_hole) TRY(sys::write_all(file_fd, {buffer_.data(), got}, "data"));
    else if (::lseek(file_fd, static_cast<off_t>(got), SEEK_CUR) < 0) return Error::from_errno(errno, "seek");
  }
  bytes_ += size;
  if (ends_in_hole && ::ftruncate(file_fd, static_cast<off_t>(size)) != 0) return Error::from_errno(errno, "truncate");
  return {};
}

Result<void> TreeWriter::regular(const std::string& path, const Attributes& attributes, ByteSource& data) {
  const auto [parent_path, name] = split_path(path);
  const int parent = TRY(open_parent(parent_path));
  UniqueFd file;
  TRY(make(
      parent, name,
      [&, &base = name] {
        file = UniqueFd(::openat(parent, base.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600));
        return file.get();
      },
      "create"));
  TRY(copy_data(file.get(), data));
  const mode_t mode = TRY(set_attributes(file.get(), attributes));
  if (::fchmod(file.get(), mode) != 0) return Error::from_errno(errno, "chmod");
  const timespec times[2] = {attributes.mtime, attributes.mtime};
  if (::futimens(file.get(), times) != 0) return Error::from_errno(errno, "set times");
  return {};
}

// Owner and times of what has no descriptor of its own: a link or FIFO that was just made at this name.
Result<void> TreeWriter::set_link_attributes(int parent_fd, const std::string& name, const Attributes& attributes) {
  if (::fchownat(parent_fd, name.c_str(), attributes.uid, attributes.gid, AT_SYMLINK_NOFOLLOW) != 0)
    return Error::from_errno(errno, "chown");
  const timespec times[2] = {attributes.mtime, attributes.mtime};
  if (::utimensat(parent_fd, name.c_str(), times, AT_SYMLINK_NOFOLLOW) != 0)
    return Error::from_errno(errno, "set times");
  return {};
}

Result<void> TreeWriter::symlink(const std::string& path, const std::string& target, const Attributes& attributes) {
  const auto [parent_path, name] = split_path(path);
  const int parent = TRY(open_parent(parent_path));
  TRY(make(
      parent, name, [&, &base = name] { return ::symlinkat(target.c_str(), parent, base.c_str()); }, "symlink"));
  return set_link_attributes(parent, name, attributes);
}

Result<void> TreeWriter::fifo(const std::string& path, const Attributes& attributes) {
  const auto [parent_path, name] = split_path(path);
  const int parent = TRY(open_parent(parent_path));
  TRY(make(
      parent, name, [&, &base = name] { return ::mknodat(parent, base.c_str(), S_IFIFO | 0600, 0); }, "mkfifo"));
  TRY(set_link_attributes(parent, name, attributes));
  // fchmodat follows links, but this name is the FIFO made above and nobody else can write here.
  if (::fchmodat(parent, name.c_str(), attributes.mode, 0) != 0) return Error::from_errno(errno, "chmod");
  return {};
}

bool is_whiteout(const struct stat& status) { return S_ISCHR(status.st_mode) && status.st_rdev == ::makedev(0, 0); }

Result<bool> TreeWriter::hardlink(const std::string& path, const std::string& target) {
  const auto [target_parent_path, target_name] = split_path(target);
  const std::string target_parent = target_parent_path.empty() ? "." : target_parent_path;
  const auto from = sys::open_in_root(root_.get(), target_parent.c_str(), O_PATH | O_DIRECTORY);
  struct stat status {};
  if (!from || ::fstatat(from->get(), target_name.c_str(), &status, AT_SYMLINK_NOFOLLOW) != 0)
    return Error::make(Code::corrupt, "hard link to ", skink::quoted(target), ", which is not in this layer");
  if (S_ISDIR(status.st_mode)) return Error::make(Code::corrupt, "hard link to the directory ", skink::quoted(target));
  const auto [parent_path, name] = split_path(path);
  const int parent = TRY(open_parent(parent_path));
  const bool is_there = !is_whiteout(status);
  struct stat there {};
  if (::fstatat(parent, name.c_str(), &there, AT_SYMLINK_NOFOLLOW) == 0 && there.st_ino == status.st_ino)
    return is_there;
  if (!is_there) TRY(defer(left_out_, path));
  TRY(make(
      parent, name,
      [&, &base = name, &base_target = target_name] {
        return ::linkat(from->get(), base_target.c_str(), parent, base.c_str(), 0);
      },
      "link"));
  return is_there;
}

// A whiteout from the start, which a later entry can still replace.
Result<void> TreeWriter::leave_out(const std::string& path) {
  const auto [parent_path, name] = split_path(path);
  const int parent = TRY(open_parent(parent_path));
  TRY(defer(left_out_, path));
  return make(
      parent, name, [&, &base = name] { return ::mknodat(parent, base.c_str(), S_IFCHR, ::makedev(0, 0)); },
      "mknod whiteout");
}

Result<void> TreeWriter::defer(std::vector<std::string>& list, const std::string& path) {
  deferred_ += path.size() + sizeof(std::string);
  if (deferred_ > kWhiteoutsMost)
    return Error::make(Code::corrupt, "whiteouts with names of more than ", kWhiteoutsMost >> 20, " MiB in one layer");
  list.push_back(path);
  return {};
}

Result<UniqueFd> TreeWriter::open_directory(const std::string& path) {
  const int directory = TRY(open_parent(path, Missing::refuse));
  return sys::open_at(directory, ".", O_RDONLY | O_DIRECTORY);
}

Result<void> TreeWriter::mark_opaque(const std::string& path, Below below) {
  auto opened = open_directory(path);
  if (!opened && opened.error().errnum() == ENOTDIR) return {};  // a file of this layer hides what is below it anyway
  if (!opened) return std::move(opened).error();
  if (::fsetxattr(opened->get(), kOpaqueXattr, "y", 1, 0) != 0) return Error::from_errno(errno, "set ", kOpaqueXattr);
  const auto status = TRY(sys::stat_fd(opened->get(), "directory"));
  if (const auto node = directories_.find(status.st_ino); node != directories_.end()) {
    node->second.opaque = true;
    if (below == Below::replaced) node->second.implied = false;
  }
  return {};
}

// Runs when every entry of the layer is there, so the order of the tar does not matter.
Result<void> TreeWriter::write_whiteout(const std::string& path) {
  const auto [parent_path, name] = split_path(path);
  const auto parent = open_parent(parent_path, Missing::refuse);
  if (!parent && parent.error().errnum() == ENOTDIR) return {};
  if (!parent) return parent.error();
  const auto parent_status = TRY(sys::stat_fd(*parent, "parent directory"));
  const auto node = directories_.find(parent_status.st_ino);
  // In an opaque directory there is nothing left to hide, and overlayfs would list the whiteout's name (A60).
  if (node != directories_.end() && node->second.opaque) return {};
  struct stat status {};
  if (::fstatat(*parent, name.c_str(), &status, AT_SYMLINK_NOFOLLOW) == 0)
    // Removed below and made anew here: a directory must not merge with what it replaces, nor be described by it.
    return S_ISDIR(status.st_mode) ? mark_opaque(path, Below::replaced) : Result<void>{};
  if (::mknodat(*parent, name.c_str(), S_IFCHR, ::makedev(0, 0)) != 0)
    return Error::from_errno(errno, "mknod whiteout");
  if (node != directories_.end()) node->second.covering = true;
  return {};
}

// The directory of an entry that was left out has a whiteout in it, unless it is opaque: then there is nothing to hide.
Result<void> TreeWriter::cover(const std::string& path) {
  const auto [parent_path, name] = split_path(path);
  const auto parent =
      sys::open_in_root(root_.get(), parent_path.empty() ? "." : parent_path.c_str(), O_PATH | O_DIRECTORY);
  struct stat status {};
  if (!parent || ::fstatat(parent->get(), name.c_str(), &status, AT_SYMLINK_NOFOLLOW) != 0 || !is_whiteout(status))
    return {};  // a later entry took its place, or that of its directory
  const auto node = directories_.find(TRY(sys::stat_fd(parent->get(), "parent directory")).st_ino);
  if (node == directories_.end()) return {};
  if (node->second.opaque) return remove_existing(parent->get(), name);
  node->second.covering = true;
  return {};
}

// The path of a directory by the names it was made under; nothing for one that was removed with its ancestors.
std::optional<std::string> TreeWriter::path_of(ino_t inode) const {
  std::vector<std::string_view> names;
  while (inode != root_inode_) {
    const auto node = directories_.find(inode);
    if (node == directories_.end() || names.size() > kDepthMost) return std::nullopt;
    names.push_back(node->second.name);
    inode = node->second.parent;
  }
  std::string path;
  for (auto name = names.rbegin(); name != names.rend(); ++name) path = join_path(path, *name);
  return path;
}

Result<void> TreeWriter::finish_directories() {
  for (const auto& [inode, node] : directories_) {
    const auto path = path_of(inode);
    if (!path) continue;
    const auto opened = sys::open_beneath(root_.get(), path->empty() ? "." : path->c_str(), O_RDONLY | O_DIRECTORY);
    // Directories that a later entry removed are still in the table.
    if (!opened && (opened.error().errnum() == ENOENT || opened.error().errnum() == ENOTDIR ||
                    opened.error().errnum() == ELOOP || opened.error().errnum() == ENAMETOOLONG))
      continue;
    if (!opened) return opened.error();
    if (TRY(sys::stat_fd(opened->get(), *path)).st_ino != inode) continue;
    if (!node.default_acl.empty() &&
        ::fsetxattr(opened->get(), kAclDefault.data(), node.default_acl.data(), node.default_acl.size(), 0) != 0 &&
        !has_no_room_for_acl(errno))
      return Error::from_errno(errno, "set the default ACL of ", printable(*path));
    if (::fchmod(opened->get(), node.mode) != 0) return Error::from_errno(errno, "chmod ", printable(*path));
    const timespec times[2] = {node.mtime, node.mtime};
    if (::futimens(opened->get(), times) != 0) return Error::from_errno(errno, "set times of ", printable(*path));
    if (node.implied) implied_.push_back(*path);
    if (node.covering) covering_.push_back(*path);
  }
  return {};
}

Result<void> TreeWriter::write_description() {
  TRY(fs::write_file_atomic(layer_.get(), kImpliedName, TRY(format_implied(implied_)), 0600));
  TRY(fs::write_file_atomic(layer_.get(), kCoveringName, TRY(format_implied(covering_, ImpliedCount::Kind::covering)),
                            0600));
  oci::Json json;
  json["size"] = bytes_;
  json["opaque"] = directories_[root_inode_].opaque;
  return fs::write_file_atomic(layer_.get(), kDescriptionName, oci::dump_json(json), 0600);
}

Result<void> TreeWriter::finish() {
  for (const auto& path : opaques_)
    TRY_CTX(mark_opaque(path, Below::describes), "opaque directory ", skink::quoted(path));
  sort_whiteouts(whiteouts_);
  for (const auto& path : whiteouts_) TRY_CTX(write_whiteout(path), "whiteout of ", skink::quoted(path));
  for (const auto& path : left_out_) TRY_CTX(cover(path), "entry ", skink::quoted(path));
  parent_.reset();
  TRY(finish_directories());
  return write_description();
}

}  // namespace

Result<std::unique_ptr<LayerWriter>> make_layer_writer(UniqueFd layer_fd) {
  return TreeWriter::create(std::move(layer_fd));
}

}  // namespace skink::image
