// SPDX-License-Identifier: Apache-2.0
// Reads a layer that is stored as a directory tree.
#include <fcntl.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>

#include <cerrno>

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

class TreeReader final : public LayerReader {
 public:
  TreeReader(UniqueFd layer, UniqueFd root, std::vector<std::string> implied, bool opaque, std::int64_t size)
      : layer_(std::move(layer)), root_(std::move(root)), implied_(std::move(implied)), opaque_(opaque), size_(size) {}

  Result<std::optional<LayerNode>> lookup(const std::string& path) const override;
  Result<std::string> read_link(const std::string& path) const override;
  Result<Xattrs> shown_xattrs(ino_t inode, const std::string& path) const override;
  const std::vector<std::string>& implied() const override { return implied_; }
  Result<std::vector<std::string>> covering() const override;
  bool hides_all_below() const override { return opaque_; }
  std::int64_t size() const override { return size_; }

 private:
  UniqueFd layer_, root_;
  std::vector<std::string> implied_;
  bool opaque_;
  std::int64_t size_;
};

Result<std::optional<LayerNode>> TreeReader::lookup(const std::string& path) const {
  const auto opened = sys::open_beneath(root_.get(), path.empty() ? "." : path.c_str(), O_PATH | O_NOFOLLOW);
  if (!opened) {
    const int why = opened.error().errnum();
    if (why == ENOENT || why == ENOTDIR || why == ELOOP || why == ENAMETOOLONG) return std::optional<LayerNode>();
    return opened.error();
  }
  LayerNode node;
  node.status = TRY(sys::stat_fd(opened->get(), path));
  node.whiteout = S_ISCHR(node.status.st_mode) && node.status.st_rdev == ::makedev(0, 0);
  if (node.is_directory()) {
    const UniqueFd readable = TRY(sys::open_beneath(opened->get(), ".", O_RDONLY | O_DIRECTORY));
    char value = 0;
    node.opaque = ::fgetxattr(readable.get(), kOpaqueXattr, &value, 1) == 1 && value == 'y';
  }
  return std::optional<LayerNode>(node);
}

Result<std::string> TreeReader::read_link(const std::string& path) const {
  const auto [parent_path, name] = split_path(path);
  const UniqueFd parent =
      TRY(sys::open_beneath(root_.get(), parent_path.empty() ? "." : parent_path.c_str(), O_PATH | O_DIRECTORY));
  return sys::readlink_at(parent.get(), name.c_str());
}

Result<Xattrs> TreeReader::shown_xattrs(ino_t /*inode*/, const std::string& path) const {
  constexpr std::size_t kMost = 64U << 10;  // XATTR_LIST_MAX and XATTR_SIZE_MAX of the kernel
  const UniqueFd dir = TRY(sys::open_beneath(root_.get(), path.empty() ? "." : path.c_str(), O_RDONLY | O_DIRECTORY));
  std::string list(kMost, '\0'), value(kMost, '\0');
  const ssize_t size = ::flistxattr(dir.get(), list.data(), list.size());
  if (size < 0 && errno != ENOTSUP) return Error::from_errno(errno, "extended attributes of ", printable(path));
  list.resize(size < 0 ? 0 : static_cast<std::size_t>(size));
  Xattrs xattrs;
  for (const auto name : split(list, '\0')) {
    if (!name.starts_with("user.") && name != kAclAccess && name != kAclDefault) continue;
    const ssize_t got = ::fgetxattr(dir.get(), std::string(name).c_str(), value.data(), value.size());
    if (got < 0) return Error::from_errno(errno, "extended attribute ", printable(name), " of ", printable(path));
    xattrs.emplace_back(name, value.substr(0, static_cast<std::size_t>(got)));
  }
  return xattrs;
}

Result<std::vector<std::string>> TreeReader::covering() const {
  auto list = fs::read_file(layer_.get(), kCoveringName, kImpliedBytesMost);
  if (!list && list.error().errnum() == ENOENT) list = std::string();  // stored before there were such lists
  return parse_implied(TRY(std::move(list)));
}

}  // namespace

Result<std::unique_ptr<LayerReader>> open_layer(UniqueFd layer_fd) {
  const std::string text = TRY(fs::read_file(layer_fd.get(), kDescriptionName, oci::kDocumentLimit));
  const auto json = TRY_CTX(oci::parse_json(text), std::string_view(kDescriptionName));
  auto implied = TRY(parse_implied(TRY(fs::read_file(layer_fd.get(), kImpliedName, kImpliedBytesMost))));
  UniqueFd root = TRY(sys::open_beneath(layer_fd.get(), kTreeName, O_RDONLY | O_DIRECTORY));
  auto reader = std::make_unique<TreeReader>(std::move(layer_fd), std::move(root), std::move(implied),
                                             oci::get_bool(json, "opaque"), oci::get_int(json, "size"));
  TRY(reader->covering());  // a damaged list is found now
  return std::unique_ptr<LayerReader>(std::move(reader));
}

Result<UniqueFd> open_layer_root(int dir_fd, const std::string& path) {
  return sys::open_beneath(dir_fd, str(path, '/', kTreeName).c_str(), O_PATH | O_DIRECTORY);
}

}  // namespace skink::image
