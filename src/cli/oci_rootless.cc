// SPDX-License-Identifier: Apache-2.0
#include "cli/oci_rootless.h"

#include <fcntl.h>
#include <unistd.h>

#include "base/text.h"
#include "fs/dir.h"
#include "sys/process.h"

namespace skink::cli {
namespace {

// The deepest group of the path that is there decides: in it the next one would be made.
bool may_make(const cgroup::Place& place) {
  std::string path = place.hierarchy.mount_point + place.path;
  while (path.size() > place.hierarchy.mount_point.size() && ::access(path.c_str(), F_OK) != 0)
    path.resize(path.rfind('/'));
  return ::faccessat(AT_FDCWD, path.c_str(), W_OK, AT_EACCESS) == 0;
}

bool may_make_all(const cgroup::Location& location) {
  for (const auto& place : location.places)
    if (!may_make(place)) return false;
  return true;
}

// One level, as a common parent would be made and removed with each first and last container: on v1 that is a second
// group on each hierarchy. A user's session gives groups away below the parent of the one that we are in; the one
// itself has processes, so that no limit could be set below it (cgroup-v2.rst "No Internal Process Constraint").
std::string default_group(const std::string& id) {
  constexpr std::size_t kLongestName = 255;
  const std::string flat = str("/skink-", id);
  if (flat.size() > kLongestName + 1) return str("/", cgroup::kOwnParent, "/", id);
  if (!sys::in_user_namespace()) return flat;
  const auto text = fs::read_file(AT_FDCWD, "/proc/self/cgroup", 65536);
  for (const auto line : split(text ? std::string_view(*text) : std::string_view{}, '\n'))
    if (line.starts_with("0::")) return str(line.substr(3, line.rfind('/') - 3), flat);
  return flat;
}

}  // namespace

std::vector<std::string_view> limits_in(const oci::Resources& resources) {
  std::vector<std::string_view> names;
  if (resources.memory) names.push_back("memory");
  if (resources.cpu) names.push_back("cpu");
  if (resources.pids_limit && *resources.pids_limit > 0) names.push_back("pids");
  if (resources.block_io) names.push_back("blockIO");
  if (!resources.hugepages.empty()) names.push_back("hugepageLimits");
  if (resources.network) names.push_back("network");
  if (!resources.rdma.empty()) names.push_back("rdma");
  if (!resources.unified.empty()) names.push_back("unified");
  return names;
}

Result<std::optional<cgroup::Location>> place_for_caller(const std::string& named, const std::string& id,
                                                         const oci::Resources* resources) {
  const std::string path = named.empty() ? default_group(id) : named;
  auto location = TRY_CTX(cgroup::locate(TRY(cgroup::detect()), path), "linux.cgroupsPath");
  location.named_by_us = named.empty();
  if (!sys::in_user_namespace() || may_make_all(location)) return std::optional(std::move(location));
  const auto limits = resources != nullptr ? limits_in(*resources) : std::vector<std::string_view>{};
  if (!limits.empty())
    return Error::make(Code::denied, "linux.resources.", limits.front(),
                       ": no control group is delegated to this user at ", printable(path), "; leave the limit out");
  return std::optional<cgroup::Location>{};
}

}  // namespace skink::cli
