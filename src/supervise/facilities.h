// SPDX-License-Identifier: Apache-2.0
// Facilities: what newer kernels have and skink does without, in another way, where it is missing (fault F22).
#pragma once

#include <vector>

#include "base/result.h"

namespace skink::supervise {

struct Facility {
  const char* name;  ///< "erofs_file"
  bool is_there;
  const char* without;  ///< what is done where it is missing
};

/// Each asked of the kernel, in a fixed order. Of `store_fd`, the store's directory, it is asked whether layers in it
/// can be mounted; nothing is made there that has a name. Needs root.
std::vector<Facility> find_facilities(int store_fd);

}  // namespace skink::supervise
