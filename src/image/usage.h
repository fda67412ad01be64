// SPDX-License-Identifier: Apache-2.0
// StoreUsage: what images take of the disk, where layers that several share count once.
#pragma once

#include <cstdint>
#include <set>
#include <string>
#include <vector>

#include "base/result.h"
#include "image/store.h"

namespace skink::image {

struct ImageUsage {
  Image image;
  std::int64_t shared = 0;  ///< bytes on the disk of layers that other images have too
  std::int64_t unique = 0;  ///< of those that it has alone, of its scaffold and its documents
  bool active = false;      ///< a container uses it, running or not
};

struct StoreUsage {
  std::vector<ImageUsage> images;  ///< newest first
  std::vector<Error> damaged;      ///< what is wrong with images that cannot be read, and are not counted
  std::int64_t bytes = 0;          ///< of all of them
  std::int64_t reclaimable = 0;    ///< of those that no container uses
  /// Layers that no image needs, and what killed commands left: prune_store() takes it. None while an image is damaged,
  /// as every layer may be needed then.
  std::size_t orphans = 0;
  std::int64_t orphan_bytes = 0;
};

/// `active` are the ids, as text, of images that containers use. What a load is writing just now counts as orphaned
/// unless it holds its layers.
Result<StoreUsage> measure_store(const Store& store, const std::set<std::string>& active);

/// Bytes on the disk of one layer with its marks.
Result<std::int64_t> layer_usage(int store_fd, const std::string& hex);

}  // namespace skink::image
