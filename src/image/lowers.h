// SPDX-License-Identifier: Apache-2.0
// Opens what an overlay of an image is made of, mounting the layers' files that are not mounted yet.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "base/result.h"
#include "image/layer_space.h"
#include "image/store.h"

namespace skink::image {

Result<Lowers> open_image_lowers(int store_fd, const std::string& run, const Image& image);
/// What is mounted for this store and no longer stored, or for stores that are gone.
struct NeedlessMounts {
  std::optional<LayerSpace> space;
  std::vector<std::string> places;
};
Result<NeedlessMounts> find_needless_mounts(int store_fd, const std::string& run);
/// Takes it off: how many there were.
Result<std::size_t> sweep_layer_mounts(int store_fd, const std::string& run);

}  // namespace skink::image
