// SPDX-License-Identifier: Apache-2.0
// Verify: reads every byte of what is stored of images and names what is not as it was when it was stored (fault F43);
// and repairs that out of an archive.
#pragma once

#include <functional>
#include <map>
#include <string>
#include <vector>

#include "base/result.h"
#include "image/store.h"

namespace skink::image {

/// One thing that is wrong.
struct Fault {
  enum class Kind { config, manifest, record, scaffold, layer, recipe, seal } kind = Kind::layer;
  std::string layer;  ///< "sha256:HEX", the diffID: of a layer, its recipe or its seal; else empty
  std::string path;   ///< below the store
  std::string expected, found;
  /// In one line, for people.
  [[nodiscard]] std::string text() const;
};
std::string_view to_text(Fault::Kind kind);

struct VerifiedImage {
  oci::Digest id;
  std::vector<std::string> names;
  std::vector<Fault> faults;  ///< of its layers too
  std::vector<std::string> notes;
};

/// Verifies these images (hex ids). A layer of several images is read once. What is removed meanwhile is no fault.
Result<std::vector<VerifiedImage>> verify_images(const Store& store, const std::vector<std::string>& ids);

/// Puts what is wrong with these images right: layers that are damaged or missing are imported again, their diffIDs
/// verified, and records, documents and scaffolds written anew. Each piece is replaced whole or not at all. Errors:
/// not_found when the archive does not have all that is needed; busy when what is damaged is a tree of files that runs
/// (`running`: names of containers by "sha256:HEX" of their image), which would be drawn from under them. Then nothing
/// was changed.
struct Repaired {
  std::vector<std::string> layers;  ///< "sha256:HEX"
  std::vector<std::string> images;  ///< "sha256:HEX", whose documents or scaffolds were written anew
};
using Running = std::map<std::string, std::vector<std::string>>;
Result<Repaired> repair_images(const Store& store, const std::vector<VerifiedImage>& images, const std::string& file,
                               const Running& running);

}  // namespace skink::image
