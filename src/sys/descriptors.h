// SPDX-License-Identifier: Apache-2.0
// Want of descriptors: EMFILE (RLIMIT_NOFILE, man 2 getrlimit) and ENFILE (fs.file-max, man 5 proc_sys_fs). It can come
// at any step, and the way back from there opens files, too.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "base/result.h"
#include "base/unique_fd.h"

namespace skink::sys {

/// Whether the failure is one for want of descriptors: such a one says nothing of what was asked for.
[[nodiscard]] bool is_want_of_descriptors(const Error& error);

/// Of such a failure the limit and the way out: "; this process may have 16 files open (RLIMIT_NOFILE): ...". Empty for
/// any other.
[[nodiscard]] std::string descriptor_limit(const Error& error);

/// Descriptors that are held back while something is made, for whoever has to take it back when the others are used up.
class SpareDescriptors {
 public:
  SpareDescriptors() = default;
  /// Open files of their own, so that neither limit is in the way later. Error: there are not as many left.
  static Result<SpareDescriptors> hold(std::size_t count);
  /// From now on they are there to be used.
  void release() { held_.clear(); }

 private:
  std::vector<UniqueFd> held_;
};

/// While it lives, the process may have as many files open as its hard limit allows; then the soft one is what it was:
/// programs that are started count on it (descriptors beyond 1024 break select(2)).
class ManyDescriptors {
 public:
  ManyDescriptors();
  ManyDescriptors(const ManyDescriptors&) = delete;
  ManyDescriptors& operator=(const ManyDescriptors&) = delete;
  ~ManyDescriptors();

 private:
  std::optional<std::uint64_t> soft_;  // where it was raised
};

}  // namespace skink::sys
