// SPDX-License-Identifier: Apache-2.0
// Rootfs: the overlay that is a container's root: the image's layers, above them a read-only scaffold with the mount
// points that the image lacks, and with --writable an upper layer that lives as long as one incarnation.
#pragma once

#include <string>
#include <vector>

#include "base/result.h"
#include "base/unique_fd.h"
#include "image/store.h"
#include "oci/spec.h"

namespace skink::supervise {

struct RootRequest {
  std::vector<int> lowers;          ///< topmost first (image::Lowers), borrowed
  int space_fd = -1;                ///< image::Lowers::space, borrowed
  std::vector<int> outside;         ///< of `lowers`, those that image::Lowers::outside names
  int detached_fd = -1;             ///< of `lowers`, that image::Lowers::detached names
  const oci::Spec* spec = nullptr;  ///< mounts and cwd whose targets must exist; nullptr for none
  int upper_parent_fd = -1;         ///< with --writable: an empty directory of ours for the upper and work directories
  bool upper_detached = false;      ///< it is the top of a detached mount
};

/// What makes the layers of an image a root; `lowers` must outlive it.
RootRequest root_request(const image::Lowers& lowers);
/// A detached mount of the root. Nothing of it is visible on the host.
Result<UniqueFd> make_root(const RootRequest& request);

/// What of `spec` and of the host's files it names decides what make_root() gives for one image, as a text to compare.
std::string root_key(const oci::Spec& spec);

}  // namespace skink::supervise
