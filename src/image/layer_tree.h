// SPDX-License-Identifier: Apache-2.0
// LayerTree: the names of a layer while its tar is read. Everything else of an entry is in the layer's file already, so
// that an entry costs little memory.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <ctime>
#include <deque>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "image/erofs_format.h"

namespace skink::image::erofs {

class LayerTree {
 public:
  static constexpr std::uint32_t kRoot = 0;

  struct Directory {
    std::uint32_t parent = 0;
    std::uint32_t name = 0;  ///< its entry in the parent; the root has none
    std::uint32_t uid = 0;
    std::uint32_t gid = 0;
    std::int64_t mtime = 0;
    std::uint32_t mtime_ns = 0;
    std::uint32_t xattrs = 0;  ///< 0, or 1 more than the place in directory_xattrs
    std::uint16_t mode = 0755;
    std::uint16_t depth = 0;   ///< components of its path
    std::uint16_t length = 0;  ///< bytes of its path
    bool implied = true;
    bool opaque = false;
    bool covering = false;  ///< a whiteout stands in it
  };
  /// An entry of a directory. A later one of the same name takes its place, so a whole tree goes with one entry. One of
  /// type none is not there.
  struct Name {
    std::uint32_t text = 0;
    std::uint32_t directory = 0;  ///< that it is in
    std::uint32_t target = 0;     ///< a directory's number, or a node's
    FileType type = FileType::none;
  };
  /// An inode that is no directory.
  struct Node {
    std::uint64_t nid = 0;
    std::uint32_t links = 0;  ///< counted at the end
  };

  LayerTree();
  [[nodiscard]] const Name* find(std::uint32_t directory, std::string_view name) const;
  /// Puts an entry, in place of one of the same name.
  Result<void> put(std::uint32_t directory, std::string_view name, FileType type, std::uint32_t target);
  /// A new directory at this name: its number.
  Result<std::uint32_t> put_directory(std::uint32_t parent, std::string_view name);
  std::uint32_t add_node(std::uint64_t nid);

  [[nodiscard]] std::string_view text_of(const Name& name) const;
  [[nodiscard]] std::string path_of(std::uint32_t directory) const;
  /// For each directory, whether the root leads to it.
  [[nodiscard]] std::vector<bool> reachable() const;
  /// Numbers of the entries of reachable directories, sorted by directory, then by name.
  [[nodiscard]] std::vector<std::uint32_t> sorted_names(const std::vector<bool>& reachable) const;

  std::deque<Directory> directories;
  std::deque<Name> names;
  std::deque<Node> nodes;
  /// What all entries of one directory set.
  struct DirectoryXattrs {
    std::map<std::string, std::string> values;
    std::size_t packed = 0;  ///< bytes that they take in an inode
  };
  std::vector<DirectoryXattrs> directory_xattrs;

 private:
  [[nodiscard]] std::uint64_t hash(std::uint32_t directory, std::string_view name) const;
  [[nodiscard]] std::size_t slot_of(std::uint32_t directory, std::string_view name) const;
  Result<std::uint32_t> keep_text(std::string_view name);
  void grow();

  std::uint64_t key_[2] = {};
  std::vector<std::uint32_t> slots_;  // 0, or 1 more than a name's number
  std::vector<std::unique_ptr<char[]>> texts_;
  std::size_t text_used_ = 0;  // of the last of texts_
};

}  // namespace skink::image::erofs
