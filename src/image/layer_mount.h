// SPDX-License-Identifier: Apache-2.0
// Mounting the EROFS files of layers, straight from the file or through a loop device.
#pragma once

#include "base/result.h"
#include "base/unique_fd.h"

namespace skink::image {

/// A detached mount of the layer in the file `file_fd`, read-only. unsupported when this kernel, or the file system
/// that the file is on, cannot do that.
Result<UniqueFd> mount_layer_file(int file_fd);

/// Whether layers written into `dir_fd` (where a file is made and removed for that) can be mounted, and are wanted:
/// SKINK_LAYERS=directories in the environment says no.
Result<bool> can_mount_layers(int dir_fd);

/// How the kernel can mount layers in `dir_fd`: from their files (6.12), by a loop device, or not at all. What is made
/// there for that has no name.
enum class LayerSource { file, loop, none };
LayerSource find_layer_source(int dir_fd);

}  // namespace skink::image
