// SPDX-License-Identifier: Apache-2.0
// The mounts of a container that `run` makes: the defaults, the image's volumes and what the options ask for.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "plan/run_options.h"

namespace skink::plan {

/// Parents before children. Errors name the option or the image's volume; warnings are appended to `notes`.
Result<std::vector<oci::Mount>> make_mounts(const RunOptions& options, const ImageFacts& facts,
                                            std::vector<std::string>& notes);

/// An absolute path without ".", "..", double or trailing slashes, by its text alone; ".." at the root stays there. An
/// error for a relative or empty path, a NUL, or more than 4095 bytes.
Result<std::string> clean_path(std::string_view path);

/// True when `path` is `top` or lies below it. Both are clean.
bool is_at_or_below(std::string_view path, std::string_view top);

}  // namespace skink::plan
