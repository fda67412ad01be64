// SPDX-License-Identifier: Apache-2.0
// LayerWriter and LayerReader: the small interface between a layer's tar and the form in which layers are stored.
#pragma once

#include <sys/stat.h>
#include <sys/types.h>

#include <array>
#include <cstdint>
#include <ctime>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/result.h"
#include "base/unique_fd.h"
#include "image/source.h"

namespace skink::image {

using Xattrs = std::vector<std::pair<std::string, std::string>>;

struct Attributes {
  mode_t mode = 0;  ///< permission bits with set-id and sticky
  uid_t uid = 0;
  gid_t gid = 0;
  timespec mtime{};
  Xattrs xattrs;  ///< already filtered (attacks A61, A63)
};

/// Where a writer put a file's contents: whole blocks of 4096 bytes from `data` on, the rest at `tail`; offsets in the
/// layer's file.
struct Placement {
  std::uint64_t size = 0;
  std::uint64_t data = 0;
  std::uint64_t tail = 0;
};

/// Writes one layer. Paths are relative, without "." or ".." or empty components; "" is the layer's root. Parents that
/// have no entry (yet) are made and remembered as implied; a path through a symbolic link follows it inside the layer;
/// a later entry of the same path replaces what is there (attack A74), a directory's entry only sets its attributes.
class LayerWriter {
 public:
  LayerWriter() = default;
  LayerWriter(const LayerWriter&) = delete;
  LayerWriter& operator=(const LayerWriter&) = delete;
  virtual ~LayerWriter() = default;
  virtual Result<void> directory(const std::string& path, const Attributes& attributes) = 0;
  virtual Result<void> regular(const std::string& path, const Attributes& attributes, ByteSource& data) = 0;
  /// Where the last regular() has put what it read; nothing from a writer that does not know.
  [[nodiscard]] virtual std::optional<Placement> placement() const { return std::nullopt; }
  virtual Result<void> symlink(const std::string& path, const std::string& target, const Attributes& attributes) = 0;
  virtual Result<void> fifo(const std::string& path, const Attributes& attributes) = 0;
  /// Another name of a file or symbolic link of this layer, never following a link at `target` (attack A05). False when
  /// leave_out() had left that out: then this name is left out too.
  virtual Result<bool> hardlink(const std::string& path, const std::string& target) = 0;
  /// An entry that layers do not hold. What stands at `path`, here and in the layers below, is gone as if it were
  /// there.
  virtual Result<void> leave_out(const std::string& path) = 0;
  /// Hides `path` of the layers below. An entry of the same path in this layer stays, whatever the order (attack A60).
  virtual Result<void> whiteout(const std::string& path) = 0;
  /// Hides everything in directory `path` of the layers below.
  virtual Result<void> opaque(const std::string& path) = 0;
  /// Whiteouts, directories' modes and times, and the layer's description. The last call.
  virtual Result<void> finish() = 0;
};

/// What stands at one path of one layer.
struct LayerNode {
  struct stat status {};
  bool whiteout = false;
  bool opaque = false;
  [[nodiscard]] bool is_directory() const { return S_ISDIR(status.st_mode); }
};

/// A stored layer.
class LayerReader {
 public:
  LayerReader() = default;
  LayerReader(const LayerReader&) = delete;
  LayerReader& operator=(const LayerReader&) = delete;
  virtual ~LayerReader() = default;
  /// Nothing when the layer says nothing about `path` itself. Never follows a link.
  virtual Result<std::optional<LayerNode>> lookup(const std::string& path) const = 0;
  /// The same where `parent` is the st_ino that a lookup said of the directory that `path` is in: one step, not a walk
  /// from the root, where the layer's form allows that.
  virtual Result<std::optional<LayerNode>> lookup_below(ino_t parent, const std::string& path) const {
    (void)parent;
    return lookup(path);
  }
  virtual Result<std::string> read_link(const std::string& path) const = 0;
  /// The extended attributes of directory `path` that the image's programs see, which are those named user.* and its
  /// ACLs. `inode` is the st_ino that a lookup said of it.
  virtual Result<Xattrs> shown_xattrs(ino_t inode, const std::string& path) const = 0;
  /// Directories without an entry of their own, in no order; "" is the root.
  [[nodiscard]] virtual const std::vector<std::string>& implied() const = 0;
  /// Directories in which whiteouts stand, sorted. Where no other layer has such a directory, overlayfs shows it as it
  /// is, with the whiteouts as names that lead nowhere; one that the scaffold has too is merged, and they are gone
  /// (attack A60). Read when it is asked for: the lists of all layers of an image are too much to keep.
  [[nodiscard]] virtual Result<std::vector<std::string>> covering() const = 0;
  /// The layer hides every layer below it whole.
  [[nodiscard]] virtual bool hides_all_below() const = 0;
  /// Bytes of its files.
  [[nodiscard]] virtual std::int64_t size() const = 0;
};

/// Tells the file system of one layer from that of another: overlayfs looks at it.
using LayerUuid = std::array<std::uint8_t, 16>;
/// A layer as one EROFS file: writes into `file_fd`, a regular file that is empty, ours and open for reading and
/// writing. What is written depends on the calls and the uuid alone.
Result<std::unique_ptr<LayerWriter>> make_erofs_writer(UniqueFd file_fd, const LayerUuid& uuid);
/// A layer that make_erofs_writer() wrote, read without a mount.
Result<std::unique_ptr<LayerReader>> open_erofs_layer(UniqueFd file_fd);

/// A layer as a directory tree: writes into `layer_fd`, which is empty and ours.
Result<std::unique_ptr<LayerWriter>> make_layer_writer(UniqueFd layer_fd);
/// A layer that make_layer_writer() wrote.
Result<std::unique_ptr<LayerReader>> open_layer(UniqueFd layer_fd);
/// The root of the layer in directory `path` below `dir_fd`, as overlayfs takes it (O_PATH). One system call: this is
/// on the way of every start of a container.
Result<UniqueFd> open_layer_root(int dir_fd, const std::string& path);

}  // namespace skink::image
