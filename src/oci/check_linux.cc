// SPDX-License-Identifier: Apache-2.0
// What check_spec says about the rest of "linux".
#include <algorithm>
#include <set>

#include "base/text.h"
#include "oci/check.h"
#include "oci/spec_words.h"

namespace skink::oci {
namespace {

void check_namespaces(const Spec& spec, Findings& findings) {
  const auto& spaces = spec.linux.namespaces;
  for (std::size_t i = 0; i < spaces.size(); ++i) {
    const std::string path = at("linux.namespaces", i);
    if (!spaces[i].path.empty()) check_absolute(path + ".path", spaces[i].path, findings);
    for (std::size_t j = 0; j < i; ++j)
      if (spaces[j].type == spaces[i].type)
        findings.add(path + ".type", words::kNamespaces.at(static_cast<std::size_t>(spaces[i].type)).name,
                     " is in entry ", j, " already");
  }
}

bool is_mapped(const std::vector<IdMapping>& mappings, std::uint32_t id) {
  return std::any_of(mappings.begin(), mappings.end(), [&](const IdMapping& mapping) {
    return id >= mapping.container_id && id - mapping.container_id < mapping.size;
  });
}

void check_mapped(std::string_view path, std::uint32_t id, std::string_view map, const std::vector<IdMapping>& mappings,
                  Findings& findings) {
  if (!is_mapped(mappings, id)) findings.add(std::string(path), id, " is not in linux.", map);
}

void check_user_namespace(const Spec& spec, Findings& findings) {
  auto uids = spec.linux.uid_mappings;
  auto gids = spec.linux.gid_mappings;
  check_mappings("linux.uidMappings", uids, findings);
  check_mappings("linux.gidMappings", gids, findings);
  const Namespace* space = spec.find_namespace(NamespaceType::user);
  // Without such a namespace they mean nothing, and engines have been seen to leave them in; with one that is joined
  // neither, as it has its own.
  if (space == nullptr || !space->path.empty()) return;
  // Without any, root inside is the caller and there is nobody else: launch::map_own_ids.
  if (uids.empty() && gids.empty()) uids = gids = {{0, 0, 1}};
  // With one map alone every id of the other kind is the overflow id, and nothing can become root or a user.
  if (uids.empty()) return findings.add("linux.uidMappings", "is missing; a new user namespace needs it");
  if (gids.empty()) return findings.add("linux.gidMappings", "is missing; a new user namespace needs it");
  if (!spec.process) return;
  const User& user = spec.process->user;
  check_mapped("process.user.uid", user.uid, "uidMappings", uids, findings);
  check_mapped("process.user.gid", user.gid, "gidMappings", gids, findings);
  for (std::size_t i = 0; i < user.additional_gids.size(); ++i)
    check_mapped(at("process.user.additionalGids", i), user.additional_gids[i], "gidMappings", gids, findings);
}

void check_time_offsets(const Spec& spec, Findings& findings) {
  constexpr std::int64_t kMost = 4'611'686'018;  // KTIME_SEC_MAX / 2
  for (const auto& [clock, offset] : spec.linux.time_offsets)
    if (offset.seconds > kMost || offset.seconds < -kMost)
      findings.add(at("linux.timeOffsets", clock) + ".secs", offset.seconds, " is not from ", -kMost, " to ", kMost);
  for (const auto& [clock, offset] : spec.linux.time_offsets)
    if (clock != "monotonic" && clock != "boottime")
      findings.add(at("linux.timeOffsets", clock), "is not one of monotonic, boottime");
  const Namespace* space = spec.find_namespace(NamespaceType::time);
  // time_namespaces(7): offsets can be set until the first process enters.
  if (!spec.linux.time_offsets.empty() && space != nullptr && !space->path.empty())
    findings.add("linux.timeOffsets", "needs a new time namespace in linux.namespaces");
}

void check_devices(const std::vector<Device>& devices, Findings& findings) {
  for (std::size_t i = 0; i < devices.size(); ++i) {
    const std::string path = at("linux.devices", i) + ".path";
    check_absolute(path, devices[i].path, findings);
    if (has_dotdot(devices[i].path) || devices[i].path.find_first_not_of('/') == std::string::npos)
      findings.add(path, brief(devices[i].path), " has no name or has .. in it");
  }
}

void check_net_devices(const Spec& spec, Findings& findings) {
  const auto& devices = spec.linux.net_devices;
  if (!devices.empty() && spec.find_namespace(NamespaceType::network) == nullptr)
    findings.add("linux.netDevices", "needs a network namespace in linux.namespaces");
  std::set<std::string_view> inside;
  for (const auto& [host_name, given] : devices) {
    const std::string& name = given.empty() ? host_name : given;
    // One %d is the kernel's placeholder for a number; anything else with % would be taken for a format.
    const auto percent = name.find('%');
    const bool format = percent != std::string::npos &&
                        (name.substr(percent, 2) != "%d" || name.find('%', percent + 1) != std::string::npos);
    if (!is_interface_name(host_name) || !is_interface_name(name) || format || host_name.find('%') != std::string::npos)
      findings.add(at("linux.netDevices", host_name), "is not moved from and to names of network interfaces");
    else if (percent == std::string::npos && !inside.insert(name).second)
      findings.add(at("linux.netDevices", host_name), "has the same name inside as another one");
  }
}

void check_paths(std::string_view list, const Strings& paths, Findings& findings) {
  for (std::size_t i = 0; i < paths.size(); ++i)
    if (!paths[i].starts_with('/')) check_absolute(at(list, i), paths[i], findings);
}

// One without a slash in front is meant from "/", as runc, crun and youki have it: the paths become no weaker by that.
void check_readonly_paths(const Strings& paths, Findings& findings) {
  for (std::size_t i = 0; i < paths.size(); ++i)
    if (paths[i].empty() || (!paths[i].starts_with('/') && has_dotdot(paths[i])))
      check_absolute(at("linux.readonlyPaths", i), paths[i], findings);
}

// The cgroup is looked up below the delegated root; ".." would leave it again (attack A47).
void check_cgroups_path(const std::string& path, Findings& findings) {
  if (has_dotdot(path)) findings.add("linux.cgroupsPath", brief(path), " has .. in it");
  if (has_control(path)) findings.add("linux.cgroupsPath", brief(path), " has a control byte in it");
}

// Each of these becomes one line of the schemata file, or a directory below resctrl (attack A81).
void check_intel_rdt(const IntelRdt& rdt, Findings& findings) {
  const auto one_line = [&](std::string_view path, std::string_view text) {
    if (has_control(text)) findings.add(str("linux.intelRdt.", path), brief(text), " is not one line");
  };
  if (!rdt.clos_id.empty() && rdt.clos_id != "/" && !is_file_name(rdt.clos_id))
    findings.add("linux.intelRdt.closID", brief(rdt.clos_id), " is not a name without slashes");
  for (std::size_t i = 0; i < rdt.schemata.size(); ++i) one_line(at("schemata", i), rdt.schemata[i]);
  one_line("l3CacheSchema", rdt.l3_cache_schema.value_or(""));
  one_line("memBwSchema", rdt.mem_bw_schema.value_or(""));
  if (rdt.mem_bw_schema && !rdt.mem_bw_schema->starts_with("MB:"))
    findings.add("linux.intelRdt.memBwSchema", brief(*rdt.mem_bw_schema), " does not begin with MB:");
}

// set_mempolicy(2)
void check_memory_policy(const MemoryPolicy& policy, Findings& findings) {
  const bool no_nodes = policy.mode == "MPOL_DEFAULT" || policy.mode == "MPOL_LOCAL";
  const bool optional_nodes = policy.mode == "MPOL_PREFERRED";
  const std::string path = "linux.memoryPolicy.nodes";
  constexpr std::uint32_t kMostNode = 1'023;
  if (!policy.nodes.empty() && !is_number_list(policy.nodes, kMostNode))
    findings.add(path, brief(policy.nodes), " is not a list of memory nodes such as 0-3,7, up to ", kMostNode);
  if (no_nodes && !policy.nodes.empty()) findings.add(path, "must be empty for ", policy.mode);
  if (!no_nodes && !optional_nodes && policy.nodes.empty())
    findings.add(path, "is missing; ", policy.mode, " needs it");
}

}  // namespace

void check_linux(const Spec& spec, Findings& findings) {
  const Linux& linux = spec.linux;
  check_namespaces(spec, findings);
  check_user_namespace(spec, findings);
  check_time_offsets(spec, findings);
  check_devices(linux.devices, findings);
  check_net_devices(spec, findings);
  check_cgroups_path(linux.cgroups_path, findings);
  if (linux.resources) check_resources("linux.resources.", *linux.resources, findings);
  if (linux.intel_rdt) check_intel_rdt(*linux.intel_rdt, findings);
  if (linux.memory_policy) check_memory_policy(*linux.memory_policy, findings);
  check_sysctl(spec, findings);
  if (linux.seccomp) check_seccomp(*linux.seccomp, findings);
  check_paths("linux.maskedPaths", linux.masked_paths, findings);
  check_readonly_paths(linux.readonly_paths, findings);
}

}  // namespace skink::oci
