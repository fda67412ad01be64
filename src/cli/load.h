// SPDX-License-Identifier: Apache-2.0
// Loading images from files, for `load` and for `run FILE.tar`.
#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "cli/context.h"

namespace skink::cli {

/// Loads what is not stored yet of an archive with one image and answers the name or id that finds it. Several images
/// are an error that names them.
Result<std::string> load_for_run(Engine& engine, const std::string& file, const std::optional<oci::Platform>& platform);

}  // namespace skink::cli
