// SPDX-License-Identifier: Apache-2.0
// The files of a stored layer, as its writer and its reader know them.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"

namespace skink::image {

inline constexpr char kTreeName[] = "fs";                 ///< the tree itself
inline constexpr char kImpliedName[] = "implied";         ///< paths of implied directories, each ended by a NUL
inline constexpr char kCoveringName[] = "covering";       ///< of directories with whiteouts, likewise
inline constexpr char kDescriptionName[] = "layer.json";  ///< size, opaque
/// How overlayfs marks a directory that hides those of the same path below it
/// (Documentation/filesystems/overlayfs.rst).
inline constexpr char kOpaqueXattr[] = "trusted.overlay.opaque";

/// Of the implied directories of a layer, of those with whiteouts, and of all that a scaffold has of them: each costs a
/// look into each layer.
inline constexpr std::size_t kImpliedMost = 100'000;
inline constexpr std::size_t kImpliedBytesMost = 64U << 20;  ///< of their paths, each with its NUL

/// Counts such directories against these limits.
class ImpliedCount {
 public:
  enum class Kind { implied, covering, any };
  explicit ImpliedCount(Kind kind) : kind_(kind) {}
  Result<void> add(std::size_t paths, std::size_t bytes, std::string_view of_what);

 private:
  Kind kind_;
  std::size_t paths_ = 0;
  std::size_t bytes_ = 0;
};

/// The list of implied directories as it is stored: `paths`, which are sorted here. That of directories with whiteouts
/// has the same form and the same limits.
Result<std::string> format_implied(std::vector<std::string>& paths,
                                   ImpliedCount::Kind kind = ImpliedCount::Kind::implied);
/// The paths again. A list that format_implied() would not make is an error: too long, out of order, with names that
/// cannot be.
Result<std::vector<std::string>> parse_implied(std::string_view list);

/// Shallow ones first, so that one inside of what another hides is found to be needless in any order of the tar.
void sort_whiteouts(std::vector<std::string>& paths);

}  // namespace skink::image
