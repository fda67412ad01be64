// SPDX-License-Identifier: Apache-2.0
// Importer: two confined processes turn a layer's packed tar into its EROFS file: one inflates, the other reads the tar
// and writes. What they read may be an attacker's; what they can do is read one descriptor and write another. Between
// them this process hashes what passes, so that neither can lie about it.
#pragma once

#include <cstdint>
#include <functional>

#include "base/result.h"
#include "image/layer.h"
#include "image/source.h"
#include "image/unpack.h"

namespace skink::image {

struct ImportRequest {
  ByteSource& packed;             ///< for the process that inflates
  ByteSource* hashed = nullptr;   ///< the same bytes again, to be hashed here; null for no digest
  int packed_fd = -1;             ///< the only descriptor that `packed` reads
  std::uint64_t packed_size = 0;  ///< bytes of `packed`
  oci::Compression compression = oci::Compression::none;
  std::uint64_t budget = 0;  ///< unpacked bytes at most
  int layer_fd = -1;         ///< an empty file for the layer; -1 only to hash what is unpacked
  LayerUuid uuid{};
};

struct Imported {
  Result<oci::Digest> digest;   ///< of the packed bytes, if that was asked for
  Result<oci::Digest> diff_id;  ///< or why there is none: corrupt bytes
  UnpackNotes notes;
};

/// Where the unpacked bytes cannot become a layer (code corrupt), the reason is in Imported::diff_id.
Result<Imported> import_layer(const ImportRequest& request);

/// Refuses what unpacks to more than `budget` bytes, or to far more than it should (A70).
HashingSource::Check bomb_check(std::function<std::uint64_t()> packed_count, std::uint64_t budget);

}  // namespace skink::image
