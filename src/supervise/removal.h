// SPDX-License-Identifier: Apache-2.0
// Removal: taking away what a container left, piece by piece. Each piece may be missing already, and each function can
// be killed and called again (faults F01, F05).
#pragma once

#include <functional>
#include <string>
#include <string_view>

#include "base/result.h"

namespace skink::supervise {

/// upper.* in STORE/containers/ID, but for the one named `kept`.
void remove_writable_layers(int store_dir_fd, std::string_view kept = {});

/// RUN/containers/ID. With `only_fd` >= 0 only when that descriptor still names it (fault F28: another may stand there
/// by now).
Result<void> remove_run_dir(int run_containers_fd, const std::string& id, int only_fd = -1);

/// STORE/containers/ID and its name. `when_gone` is called once the container does not exist any more, by the one call
/// of all that brought that about.
Result<void> remove_store_dir(int store_containers_fd, int names_fd, const std::string& id, const std::string& name,
                              const std::function<void()>& when_gone);
/// The name, if it is this container's.
Result<void> remove_name(int names_fd, const std::string& name, const std::string& id);

/// Entries of STORE/containers that are no containers: being made, being removed.
inline constexpr std::string_view kNewPrefix = ".new-";
inline constexpr std::string_view kGonePrefix = ".gone-";
/// Removes such an entry when nobody is at work on it any more.
void sweep(int store_containers_fd, int names_fd, const std::string& entry);

}  // namespace skink::supervise
