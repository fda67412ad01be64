// SPDX-License-Identifier: Apache-2.0
// Strays: containers that run although their records are out of reach: the store's file system was unmounted below
// them, or what is in it was removed by hand.
#pragma once

#include <sys/types.h>

#include <string>
#include <vector>

namespace skink::supervise {

struct Stray {
  std::string id;
  pid_t pid = 0;  ///< its program
};

/// Those below RUN/containers that run, have no record in STORE/containers (-1: there is no such directory) and whose
/// keepers hold one that no path leads to any more. Containers of another store that shares RUN are none.
std::vector<Stray> find_strays(int run_containers_fd, int store_containers_fd);

/// "2 containers run whose records cannot be reached: ID (process 1234), ..."
std::string describe(const std::vector<Stray>& strays);
/// What to do about them.
inline constexpr const char* kStrayAdvice =
    "was the store's file system unmounted? Mount it again, or end them by their processes";

/// Such containers when no store is at `store`: were one made there, nobody would ever hear of them again.
std::vector<Stray> without_store(const std::string& store, int run_containers_fd);

}  // namespace skink::supervise
