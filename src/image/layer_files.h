// SPDX-License-Identifier: Apache-2.0
// The files of a stored layer, as its writer and its reader know them.
#pragma once

#include <string>
#include <vector>

namespace skink::image {

inline constexpr char kTreeName[] = "fs";                 ///< the tree itself
inline constexpr char kImpliedName[] = "implied";         ///< paths of implied directories, each ended by a NUL
inline constexpr char kDescriptionName[] = "layer.json";  ///< size, opaque
/// How overlayfs marks a directory that hides those of the same path below it
/// (Documentation/filesystems/overlayfs.rst).
inline constexpr char kOpaqueXattr[] = "trusted.overlay.opaque";

/// Shallow ones first, so that one inside of what another hides is found to be needless in any order of the tar.
void sort_whiteouts(std::vector<std::string>& paths);

}  // namespace skink::image
