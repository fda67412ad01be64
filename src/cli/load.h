// SPDX-License-Identifier: Apache-2.0
// Loading images from files, for `load` and for `run FILE.tar`.
#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "cli/context.h"

namespace skink::cli {

/// The name by which an image is found, or its id when it has none.
std::string handle_of(const image::Image& image);

/// Writes what was loaded into the history of events.
void tell_loaded(const Engine& engine, const image::Loaded& loaded);

/// Loads what is not stored yet of an archive with one image and answers that. Several images are an error that names
/// them.
Result<image::Image> load_for_run(Context& context, Engine& engine, const std::string& file,
                                  const std::optional<oci::Platform>& platform);

}  // namespace skink::cli
