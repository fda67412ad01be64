// SPDX-License-Identifier: Apache-2.0
// Images that come in another way than as an archive: of a root file system's tar, and by a program that fetches them.
#pragma once

#include <functional>
#include <optional>
#include <string>

#include "base/result.h"
#include "image/store.h"
#include "oci/json.h"

namespace skink::image {

struct ImportOptions {
  std::optional<Reference> name;
  oci::Platform platform;
  std::string message;                     ///< of the image's history
  oci::Json config = oci::Json::object();  ///< the configuration's "config"
  ProgressFunction progress;
};

/// An image with one layer: the tar of a root file system in `file` ("-" is standard input), plain or packed.
Result<Loaded> import_image(const Store& store, const std::string& file, const ImportOptions& options);

/// Loads what `fetch` puts as an OCI layout into the directory that it is given, which is gone afterwards.
using Fetch = std::function<Result<void>(const std::string& directory)>;
Result<Loaded> fetch_image(const Store& store, const Fetch& fetch, const LoadOptions& options);

}  // namespace skink::image
