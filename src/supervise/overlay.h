// SPDX-License-Identifier: Apache-2.0
// Overlay: one overlayfs mount by descriptors, on every kernel from 5.14 on.
#pragma once

#include <cstdint>
#include <vector>

#include "base/result.h"
#include "base/unique_fd.h"

namespace skink::supervise {

/// What an overlay is made of; the descriptors are borrowed.
struct OverlayLayers {
  std::vector<int> lowers;   ///< topmost first
  int upper_parent_fd = -1;  ///< a directory with "upper" and "work" in it; without it the overlay is read-only
  int detached_fd = -1;      ///< one of these that is a detached mount's top directory
  int space_fd = -1;         ///< the mount namespace in which lowers that are not detached are; -1 for the caller's
  std::vector<int> outside;  ///< lowers that are attached in the caller's nevertheless
};

/// A detached overlay.
Result<UniqueFd> mount_overlay(const OverlayLayers& layers);

/// The same in a way that works where the kernel takes no layer from a detached mount (before 6.15): a process with a
/// mount namespace of its own attaches the layers there. mount_overlay chooses it by itself.
Result<UniqueFd> mount_overlay_apart(const OverlayLayers& layers);

/// Whether the kernel takes layers one by one, by descriptor (6.13 and newer) or by path (6.7 and newer). `dir_fd` is
/// any directory; nothing is mounted.
enum class LowersBy { descriptor, path };
bool takes_lowers(int dir_fd, LowersBy by);

/// What an overlay of `lowers` would show as the regular file `name` in the top directory `dir`, found without the
/// mount (to make one and take it away costs two grace periods of the kernel): an O_PATH descriptor, an empty one when
/// nothing is there, or unsupported when it takes the kernel to say (a link on the way, anything odd).
Result<UniqueFd> find_in_layers(const std::vector<int>& lowers, const char* dir, const char* name);

/// A small detached tmpfs, mode 0755.
Result<UniqueFd> mount_scaffold_tmpfs();
/// A detached tmpfs of at most `bytes` (--storage-opt size=).
Result<UniqueFd> mount_sized_tmpfs(std::int64_t bytes);

}  // namespace skink::supervise
