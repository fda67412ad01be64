// SPDX-License-Identifier: Apache-2.0
// Prune: removes what nothing needs: images without a name or without a container, layers and other files that no image
// leads to, and what commands left that were killed.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "base/result.h"
#include "image/store.h"

namespace skink::image {

struct PruneRequest {
  bool all = false;                              ///< images with names too, unless a container uses them
  std::function<bool(const Image& image)> fits;  ///< which images may go; none: any
  ImageUsers users;
};

struct Pruned {
  std::vector<Image> images;  ///< with the names that they had
  std::size_t layers = 0;     ///< their layers, and those that no image needed before
  std::size_t leftovers = 0;  ///< temporary directories, scaffolds and names
  std::int64_t bytes = 0;     ///< on the disk, of all that
};

/// Safe at any time: an image that a container uses or is being made of stays, and so does a layer that a load counts
/// on. With a damaged image nobody knows which layers are needed: then nothing is removed, and the error names it.
Result<Pruned> prune_store(const Store& store, const PruneRequest& request);

}  // namespace skink::image
