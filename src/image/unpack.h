// SPDX-License-Identifier: Apache-2.0
// unpack_layer: a layer's tar, entry by entry, into a LayerWriter, with the rules of OCI layers.
#pragma once

#include <cstdint>
#include <string>

#include "image/layer.h"
#include "image/source.h"

namespace skink::image {

struct UnpackLimits {
  std::uint64_t entries = 1'000'000;
};

/// What was left out on purpose.
struct UnpackNotes {
  std::uint64_t devices = 0;  ///< device nodes and hard links to them: a container gets its own /dev (attack A62)
  std::uint64_t xattrs = 0;   ///< extended attributes outside the allow-list (A61, A63)
};

class RecordingSource;

/// Errors name the entry. The writer is not finished: the caller verifies the digests first. `recording` is `tar` where
/// a recipe is written of it, and is told what is contents.
Result<UnpackNotes> unpack_layer(ByteSource& tar, LayerWriter& writer, const UnpackLimits& limits,
                                 RecordingSource* recording = nullptr);

}  // namespace skink::image
