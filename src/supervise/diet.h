// SPDX-License-Identifier: Apache-2.0
// Diet: what a process that waits for months gives back (target P8). Every container has such a process.
#pragma once

#include <string>
#include <vector>

#include "oci/spec.h"

namespace skink::supervise {

/// One arena, and freed memory goes back to the kernel soon. For the start of the process.
void keep_heap_small();

/// Gives back the free pages of the heap, and those of the stack that deeper calls have used.
void shed_memory();

/// The rules of a seccomp profile, of which only a launch knows some use: put away meanwhile. skink's own profile is
/// made again; of another one the names, some hundreds, are kept in one piece, as strings of their own take three times
/// as much.
class PackedCalls {
 public:
  /// Takes the names out of the spec's rules; nothing happens when they are out already. `own`: the profile is
  /// security::default_seccomp() for the spec's bounding set.
  void pack(oci::Spec& spec, bool own);
  /// Puts them back, as they were.
  void unpack(oci::Spec& spec);

 private:
  bool packed_ = false;
  bool own_ = false;
  std::vector<std::string> names_;  // of each rule, each followed by a zero byte
};

}  // namespace skink::supervise
