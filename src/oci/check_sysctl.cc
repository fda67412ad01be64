// SPDX-License-Identifier: Apache-2.0
// What check_spec says about linux.sysctl: only what belongs to a namespace that the container does not share with the
// host (attack A19, CVE-2022-0811).
#include <algorithm>

#include "base/text.h"
#include "oci/check.h"

namespace skink::oci {
namespace {

/// The key's path below /proc/sys: whichever of '.' and '/' comes first separates, and the other one is part of a name
/// ("net.ipv4.conf.eno2/100.rp_filter" is the interface eno2.100).
std::string sysctl_path(const std::string& key) {
  const auto first = key.find_first_of("./");
  if (first == std::string::npos || key[first] == '/') return key;
  std::string path = key;
  for (char& c : path) c = c == '.' ? '/' : c == '/' ? '.' : c;
  return path;
}

/// The namespace that a parameter belongs to; nothing for one that belongs to the whole host.
std::optional<NamespaceType> owner_of(const std::vector<std::string_view>& path) {
  const std::string_view area = path[0], name = path[1];
  if (area == "net") return NamespaceType::network;
  if (path.size() == 3 && area == "fs" && name == "mqueue") return NamespaceType::ipc;
  if (path.size() != 2 || area != "kernel") return std::nullopt;
  if (name == "domainname" || name == "hostname") return NamespaceType::uts;
  const bool ipc = name == "sem" || name.starts_with("msg") || name.starts_with("shm");
  return ipc ? std::optional(NamespaceType::ipc) : std::nullopt;
}

std::string_view word_of(NamespaceType type) {
  if (type == NamespaceType::network) return "network";
  return type == NamespaceType::ipc ? "ipc" : "uts";
}

std::string_view line_of(std::string_view value) {
  if (value.ends_with('\n')) value.remove_suffix(1);
  return value;
}

void check_parameter(const Spec& spec, const std::string& key, const std::string& value, Findings& findings) {
  const std::string path = sysctl_path(key);
  const auto components = split(path, '/');
  const bool plain = components.size() >= 2 && std::all_of(components.begin(), components.end(), is_file_name);
  const std::optional<NamespaceType> owner = plain ? owner_of(components) : std::nullopt;
  if (!plain) findings.add(at("linux.sysctl", key), "is not the name of a kernel parameter");
  else if (!owner) findings.add(at("linux.sysctl", key), "would change the host: it belongs to no namespace");
  else if (spec.find_namespace(*owner) == nullptr)
    findings.add(at("linux.sysctl", key), "would change the host: the container has no ", word_of(*owner),
                 " namespace of its own");
  else if (path == "kernel/hostname")
    findings.add(at("linux.sysctl", key), "is what the field hostname sets: use that");
  else if (path == "kernel/domainname" && !spec.domainname.empty() && line_of(value) != spec.domainname)
    findings.add(at("linux.sysctl", key), brief(value),
                 " is not what the field domainname sets: leave one of them out");
  // The kernel reads one line, with or without its end; what follows it would be a second write.
  if (line_of(value).find_first_of("\r\n") != std::string_view::npos)
    findings.add(at("linux.sysctl", key), brief(value), " is more than one line");
}

}  // namespace

void check_sysctl(const Spec& spec, Findings& findings) {
  for (const auto& [key, value] : spec.linux.sysctl) check_parameter(spec, key, value, findings);
}

}  // namespace skink::oci
