// SPDX-License-Identifier: Apache-2.0
// The scaffold: the topmost lower of an image, with what its layers cannot say or lack as mount points.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <unordered_map>
#include <vector>

#include "image/layer.h"

namespace skink::image {

/// The layers of an image as an overlay shows them, for looking up single paths. Never follows a link of the host.
class MergedView {
 public:
  struct Source {
    std::size_t layer = 0;
    ino_t inode = 0;  ///< in it
  };
  struct Node {
    LayerNode node;                ///< of a directory: the metadata of the topmost layer that has an entry for it
    std::vector<Source> sources;   ///< topmost first: those that merge in a directory, or the only one
    std::size_t described_by = 0;  ///< the layer that `node` is from, which may be below those that merge
  };

  /// `layers` topmost first.
  explicit MergedView(std::vector<const LayerReader*> layers) : layers_(std::move(layers)) {}
  /// What is at `path`, where no component is followed if it is a link.
  Result<std::optional<Node>> lookup(const std::string& path);
  /// The path without links of the directory that `path` leads to; nothing when it leads to none.
  Result<std::optional<std::string>> resolve_directory(const std::string& path);

 private:
  Result<std::optional<Node>> look_at_root() const;
  Result<std::optional<Node>> step(const Node& parent, const std::string& path) const;
  Result<std::optional<Node>> merge(const std::vector<Source>& places, const std::string& path,
                                    const std::function<Result<std::optional<LayerNode>>(const Source&)>& look) const;
  void keep(const std::string& path, const std::optional<Node>& node);

  std::vector<const LayerReader*> layers_;
  // What is known, also of what is not there, so that nothing is looked for twice where paths come in order.
  std::unordered_map<std::string, std::optional<Node>> known_;
  std::size_t known_bytes_ = 0;
};

/// Writes the scaffold of an image with these layers (topmost first) and finishes the writer.
Result<void> write_scaffold(const std::vector<const LayerReader*>& layers, LayerWriter& writer);

}  // namespace skink::image
