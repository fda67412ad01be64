// SPDX-License-Identifier: Apache-2.0
#include "plan/idmap.h"

#include <vector>

#include "base/text.h"

namespace skink::plan {
namespace {

// crun's "uids=0-1-10#10-11-10;gids=...": file system id, id on the host, count. With "@" in front the second is an id
// in the container's user namespace.
Result<std::vector<oci::IdMapping>> parse_idmap(std::string_view text, const std::vector<oci::IdMapping>& container) {
  const bool relative = text.starts_with('@');
  if (relative) text.remove_prefix(1);
  std::vector<oci::IdMapping> mappings;
  for (const auto part : split(text, '#')) {
    const auto numbers = split(part, '-');
    const auto number = [&](std::size_t i) {
      return i < numbers.size() ? parse_int<std::uint32_t>(numbers[i]) : std::nullopt;
    };
    if (numbers.size() != 3 || !number(0) || !number(1) || !number(2))
      return Error::make(Code::invalid_config, quoted(part), " is not FROM-TO-COUNT");
    oci::IdMapping mapping{*number(0), *number(1), *number(2)};
    for (const auto& range : container)
      if (relative && mapping.host_id >= range.container_id && mapping.host_id - range.container_id < range.size) {
        mapping.host_id = range.host_id + (mapping.host_id - range.container_id);
        break;
      }
    mappings.push_back(mapping);
  }
  return mappings;
}

}  // namespace

Result<void> plan_idmap(const oci::Spec& spec, const oci::Mount& mount, MountStep& step) {
  if (!step.options.idmap && mount.uid_mappings.empty()) return {};
  step.options.idmap = true;
  step.uid_mappings = mount.uid_mappings;
  step.gid_mappings = mount.gid_mappings;
  for (const auto part : split(step.options.idmap_text, ';')) {
    if (part.empty()) continue;
    const auto pair = split_once(part, '=');
    if (!pair || (pair->first != "uids" && pair->first != "gids"))
      return Error::make(Code::invalid_config, "option idmap: ", quoted(part), " is neither uids= nor gids=");
    const bool uids = pair->first == "uids";
    (uids ? step.uid_mappings : step.gid_mappings) =
        TRY_CTX(parse_idmap(pair->second, uids ? spec.linux.uid_mappings : spec.linux.gid_mappings), "option idmap");
  }
  if (!step.uid_mappings.empty() && !step.gid_mappings.empty()) return {};
  const auto* space = spec.find_namespace(oci::NamespaceType::user);
  if (!step.uid_mappings.empty() || !step.gid_mappings.empty())
    return Error::make(Code::invalid_config, "has one of uidMappings and gidMappings; both are needed");
  if (space == nullptr)
    return Error::make(Code::invalid_config,
                       "idmap needs uidMappings and gidMappings, or a user namespace of the container");
  step.uid_mappings = spec.linux.uid_mappings;
  step.gid_mappings = spec.linux.gid_mappings;
  step.idmap_namespace = space->path;
  return {};
}

}  // namespace skink::plan
