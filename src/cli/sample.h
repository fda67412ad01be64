// SPDX-License-Identifier: Apache-2.0
// Sample: what containers use now, for the verbs that show it (stats, metrics).
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "cgroup/sample.h"
#include "cli/context.h"
#include "cli/proc.h"

namespace skink::cli {

/// One container and what it uses.
struct ContainerSample {
  ContainerInfo info;
  std::optional<cgroup::Sample> use;  ///< nothing: it does not run
  bool host_network = false;          ///< it has the network of whoever asks, which counts everybody's traffic
  std::optional<std::vector<Interface>> interfaces;  ///< of a network of its own
};

/// Reads a few small files of its groups and of its first process; starts and waits for nothing. A container that ends
/// meanwhile is one that does not run.
ContainerSample sample_container(const Engine& engine, ContainerInfo info);

/// What is known of each of `ids`; those that are gone by now are left out.
std::vector<ContainerInfo> infos_of(const Engine& engine, const std::vector<std::string>& ids);

/// The ids behind `names`, each once. One that no container has gets its line on standard error, and `status`
/// becomes 1.
std::vector<std::string> resolve_each(Context& context, const Engine& engine, const std::vector<std::string>& names,
                                      int& status);

}  // namespace skink::cli
