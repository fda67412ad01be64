// SPDX-License-Identifier: Apache-2.0
// Archive names: whether an argument of `run` is a file, and what an image in it is called when it has no name.
#pragma once

#include <string>
#include <string_view>

#include "base/result.h"

namespace skink::cli {

/// Whether `run` takes the argument for a file: it has a '/' or an archive's ending, and such a file exists. One with
/// an archive's ending that does not exist is an error, as no image is called so.
Result<bool> names_archive(const std::string& argument);

/// The name that an image without one gets from its file: "images/web.tar.gz" gives "web"; empty when that is no name.
std::string name_from_file(std::string_view file);

}  // namespace skink::cli
