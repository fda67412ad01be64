// SPDX-License-Identifier: Apache-2.0
// The root of a container without a mount namespace of its own: it is mounted on the host, over its own directory, so
// that all the container's mounts are below one mount that delete can take off.
#pragma once

#include <cstdint>
#include <string>

#include "base/unique_fd.h"
#include "oci/spec.h"

namespace skink::cli {

/// Whether the container's mounts are made in the caller's mount namespace.
bool lives_in_host_mounts(const oci::Spec& spec);

/// A private copy of the tree at `rootfs`, attached nowhere yet.
struct HostRoot {
  UniqueFd mount;
  std::uint64_t id = 0;  ///< of the mount: the record has it before the mount can be seen
};
Result<HostRoot> open_host_root(const std::string& rootfs);

/// Attaches it over its directory. What is mounted below it later stays out of other namespaces.
Result<void> attach_host_root(const HostRoot& root, const std::string& rootfs);

/// Takes the mount `id` off with all below it; nothing when it is not there (any more).
Result<void> detach_host_root(const std::string& rootfs, std::uint64_t id);

}  // namespace skink::cli
