// SPDX-License-Identifier: Apache-2.0
// The catalogue of an archive: which images it holds for a platform, with their documents read and verified.
#pragma once

#include <map>
#include <optional>
#include <string>
#include <vector>

#include "image/archive.h"
#include "image/store.h"
#include "oci/image.h"

namespace skink::image {

/// Where a layer's bytes are and what they must be.
struct LayerBlob {
  std::string member;
  std::string label;                  ///< for errors: the digest, or the member's name
  std::optional<oci::Digest> digest;  ///< of the packed bytes; a docker-archive has none
  oci::Compression compression = oci::Compression::none;
  oci::Digest diff_id;
};

struct FoundImage {
  oci::Digest id;
  oci::Digest manifest;  ///< of manifest_text
  std::string config_text;
  std::string manifest_text;  ///< "" of a docker-archive: see complete_manifest()
  oci::ImageConfig config;
  unsigned rank = 0;  ///< how well it fits the platform asked for (oci::rank_of)
  bool fits = true;   ///< it has a rank; others are there only when all platforms were asked for
  std::vector<LayerBlob> layers;
  std::vector<Reference> names;
};

struct Catalog {
  std::vector<FoundImage> images;  ///< at least one
  std::vector<std::string> notes;
};

/// Digests of packed layers, by the member that they are: labels of two members may be alike.
using PackedDigests = std::map<std::string, oci::Digest>;
/// Makes the manifest that a docker-archive does not have, of the blobs as they lie there. What `known` does not have
/// yet is read, whole, which a load does anyway.
Result<void> complete_manifest(const Archive& archive, FoundImage& image, PackedDigests& known);

/// `stem` names images whose archive gives a bare tag or nothing.
Result<Catalog> read_catalog(const Archive& archive, const LoadOptions& options, const std::string& stem);

/// "web" for "/srv/web-1.2.tar.gz"... as far as it makes a repository; "" when it does not.
std::string stem_of(const std::string& file);

}  // namespace skink::image
