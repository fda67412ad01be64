// SPDX-License-Identifier: Apache-2.0
// Mounts that speak of the container's root by its place on the host.
#include <optional>

#include "base/text.h"
#include "launch/sources.h"
#include "plan/run_mounts.h"

namespace skink::launch {
namespace {

// `path` inside the root whose place on the host is `root`: by their text alone, for the directory itself can change.
std::optional<std::string> inside(const std::string& path, const std::string& root) {
  const auto clean = plan::clean_path(path);
  const auto top = plan::clean_path(root);
  // Of a container whose root is the host's own every path would be.
  if (!clean || !top || *top == "/" || !plan::is_at_or_below(*clean, *top)) return std::nullopt;
  return *clean == *top ? "/" : clean->substr(top->size());
}

}  // namespace

void find_inside(plan::LaunchPlan& plan, const std::string& root_path, const std::string& resolved) {
  const auto find = [&](const std::string& path) {
    auto found = inside(path, root_path);
    return found ? found : inside(path, resolved);
  };
  for (auto& step : plan.mounts) {
    if (auto destination = find(step.destination)) step.destination = *std::move(destination);
    if (step.kind != plan::MountKind::tree) continue;
    auto source = find(step.source);
    if (!source) continue;
    step.source = *std::move(source);
    step.flags = (step.flags & ~plan::kMountOfHost) | plan::kMountOfRoot;
    if (step.options.idmap) step.flags |= plan::kMountMapped;
  }
}

}  // namespace skink::launch
