// SPDX-License-Identifier: Apache-2.0
// Saving images: one archive that is an OCI layout and what docker loads, with each layer's tar as it was when it came.
#pragma once

#include <string>
#include <vector>

#include "base/result.h"
#include "image/store.h"

namespace skink::image {

struct SavedImage {
  Image image;
  std::vector<Reference> names;  ///< that the archive gives it
};

/// Writes an oci-archive of these images to `out_fd`, a file or a pipe, front to back; what says what is in it comes
/// last. Layers that several of them have are in it once. Layers are not packed, so a layer's digest is its diffID,
/// which is checked while it is written. Errors name the image and the layer.
Result<void> save_images(const Store& store, const std::vector<SavedImage>& images, int out_fd);

/// Makes a stored layer's tar again, to nowhere: corrupt when its digest is not the diffID, unsupported when the layer
/// was stored without a recipe.
Result<void> check_layer_tar(int store_fd, const oci::Digest& diff_id);

}  // namespace skink::image
