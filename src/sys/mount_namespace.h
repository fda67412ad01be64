// SPDX-License-Identifier: Apache-2.0
// A short stay in another mount namespace, by the only thread of the process (setns(2) takes no other).
#pragma once

#include "base/result.h"
#include "base/unique_fd.h"

namespace skink::sys {

/// Where a process stands among the mounts: its namespace, its root and its working directory.
class MountPlace {
 public:
  static Result<MountPlace> current();
  /// Enters the namespace; root and working directory are its root (setns(2)).
  static Result<void> enter(int namespace_fd);
  Result<void> go_back() const;

 private:
  UniqueFd space_, root_, directory_;
};

/// What `call` (which returns a Result) answers from within the namespace. Only descriptors lead outside.
template <typename Call>
auto in_mount_namespace(int namespace_fd, const Call& call) -> decltype(call()) {
  const MountPlace here = TRY(MountPlace::current());
  TRY(MountPlace::enter(namespace_fd));
  auto answer = call();
  TRY_CTX(here.go_back(), "return to the mount namespace of before");
  return answer;
}

}  // namespace skink::sys
