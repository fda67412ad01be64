// SPDX-License-Identifier: Apache-2.0
// Importer: two confined processes turn a layer's packed tar into its EROFS file: one inflates, the other reads the tar
// and writes. What they read may be an attacker's; what they can do is read one descriptor and write another. Between
// them this process hashes what passes, so that neither can lie about it; and a third one looks at what was written.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>

#include "base/result.h"
#include "image/layer.h"
#include "image/seal.h"
#include "image/source.h"
#include "image/unpack.h"

namespace skink::image {

struct ImportRequest {
  ByteSource& packed;             ///< for the process that inflates
  ByteSource* hashed = nullptr;   ///< the same bytes again, to be hashed here; null for no digest
  int packed_fd = -1;             ///< the only descriptor that `packed` reads
  std::uint64_t packed_size = 0;  ///< bytes of `packed`; of a pipe, of which nobody knows, 0
  std::optional<oci::Compression> compression = oci::Compression::none;  ///< nothing: what the bytes look like
  int window_fd = -1;        ///< where a large zstd window may be kept (window_room.h); -1: in memory, if at all
  std::uint64_t budget = 0;  ///< unpacked bytes at most
  int layer_fd = -1;         ///< an empty file for the layer; -1 only to hash what is unpacked
  int recipe_fd = -1;        ///< an empty file for its recipe; -1 for none
  LayerUuid uuid{};
  bool seals = false;  ///< whether the seal of what was written is wanted
  /// Shared with other processes, for those who show it: how many packed bytes were read. Any value can stand in it.
  std::uint64_t* progress = nullptr;
  /// Tests put one that was taken over in the place of the builder.
  std::function<Result<std::string>(int in_fd, int layer_fd)> builder = {};
};

struct Imported {
  Result<oci::Digest> digest;   ///< of the packed bytes, if that was asked for
  Result<oci::Digest> diff_id;  ///< or why there is none: corrupt bytes
  std::uint64_t tar_size = 0;   ///< unpacked bytes
  UnpackNotes notes;
  std::optional<Seal> seal = {};
};

/// Where the unpacked bytes cannot become a layer (code corrupt), the reason is in Imported::diff_id. A layer's file
/// that is none that skink writes is an error.
Result<Imported> import_layer(const ImportRequest& request);

/// Refuses what unpacks to more than `budget` bytes, or to far more than it should (A70).
HashingSource::Check bomb_check(std::function<std::uint64_t()> packed_count, std::uint64_t budget);

}  // namespace skink::image
