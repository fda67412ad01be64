// SPDX-License-Identifier: Apache-2.0
// Names inside layers and archives as bytes: normalised lexically, bounded, and split.
#pragma once

#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/result.h"

namespace skink::image {

inline constexpr std::size_t kPathMost = 4096;  ///< bytes of a name
inline constexpr std::size_t kDepthMost = 512;  ///< components of a name
inline constexpr std::size_t kComponentMost = 255;

/// `name` relative to a root: no leading slash, no empty, "." or ".." components; ".." stops at the root, as it does in
/// a chroot. "" is the root itself. Too long, too deep, or with a NUL is an error.
Result<std::string> normalise_path(std::string_view name);

/// Parent and last component: "a/b/c" is {"a/b", "c"}, "a" is {"", "a"}.
std::pair<std::string, std::string> split_path(const std::string& path);

/// Components of a path, empty ones left out.
std::vector<std::string> components_of(std::string_view path);

/// parent "/" name, or the name alone when the parent is the root.
std::string join_path(std::string_view parent, std::string_view name);

/// The beginning of a name or value from an image, as much as an error shows of it. Not made printable.
std::string shown(std::string_view text);

}  // namespace skink::image
