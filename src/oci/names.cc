// SPDX-License-Identifier: Apache-2.0
// Names of capabilities and resource limits.
#include <sys/resource.h>

#include <algorithm>
#include <array>

#include "base/table_text.h"
#include "base/text.h"
#include "oci/json.h"
#include "oci/spec.h"

namespace skink::oci {
namespace {

// linux/capability.h, by number.
constexpr TableText<23> kCapabilities[] = {"CAP_CHOWN",
                                           "CAP_DAC_OVERRIDE",
                                           "CAP_DAC_READ_SEARCH",
                                           "CAP_FOWNER",
                                           "CAP_FSETID",
                                           "CAP_KILL",
                                           "CAP_SETGID",
                                           "CAP_SETUID",
                                           "CAP_SETPCAP",
                                           "CAP_LINUX_IMMUTABLE",
                                           "CAP_NET_BIND_SERVICE",
                                           "CAP_NET_BROADCAST",
                                           "CAP_NET_ADMIN",
                                           "CAP_NET_RAW",
                                           "CAP_IPC_LOCK",
                                           "CAP_IPC_OWNER",
                                           "CAP_SYS_MODULE",
                                           "CAP_SYS_RAWIO",
                                           "CAP_SYS_CHROOT",
                                           "CAP_SYS_PTRACE",
                                           "CAP_SYS_PACCT",
                                           "CAP_SYS_ADMIN",
                                           "CAP_SYS_BOOT",
                                           "CAP_SYS_NICE",
                                           "CAP_SYS_RESOURCE",
                                           "CAP_SYS_TIME",
                                           "CAP_SYS_TTY_CONFIG",
                                           "CAP_MKNOD",
                                           "CAP_LEASE",
                                           "CAP_AUDIT_WRITE",
                                           "CAP_AUDIT_CONTROL",
                                           "CAP_SETFCAP",
                                           "CAP_MAC_OVERRIDE",
                                           "CAP_MAC_ADMIN",
                                           "CAP_SYSLOG",
                                           "CAP_WAKE_ALARM",
                                           "CAP_BLOCK_SUSPEND",
                                           "CAP_AUDIT_READ",
                                           "CAP_PERFMON",
                                           "CAP_BPF",
                                           "CAP_CHECKPOINT_RESTORE"};

struct ResourceName {
  std::string_view name;
  int resource;
};

constexpr std::array kResources{
    ResourceName{"RLIMIT_CPU", RLIMIT_CPU},           ResourceName{"RLIMIT_FSIZE", RLIMIT_FSIZE},
    ResourceName{"RLIMIT_DATA", RLIMIT_DATA},         ResourceName{"RLIMIT_STACK", RLIMIT_STACK},
    ResourceName{"RLIMIT_CORE", RLIMIT_CORE},         ResourceName{"RLIMIT_RSS", RLIMIT_RSS},
    ResourceName{"RLIMIT_NPROC", RLIMIT_NPROC},       ResourceName{"RLIMIT_NOFILE", RLIMIT_NOFILE},
    ResourceName{"RLIMIT_MEMLOCK", RLIMIT_MEMLOCK},   ResourceName{"RLIMIT_AS", RLIMIT_AS},
    ResourceName{"RLIMIT_LOCKS", RLIMIT_LOCKS},       ResourceName{"RLIMIT_SIGPENDING", RLIMIT_SIGPENDING},
    ResourceName{"RLIMIT_MSGQUEUE", RLIMIT_MSGQUEUE}, ResourceName{"RLIMIT_NICE", RLIMIT_NICE},
    ResourceName{"RLIMIT_RTPRIO", RLIMIT_RTPRIO},     ResourceName{"RLIMIT_RTTIME", RLIMIT_RTTIME}};

char upper(char c) { return c >= 'a' && c <= 'z' ? static_cast<char>(c - 'a' + 'A') : c; }

bool same_word(std::string_view given, std::string_view word) {
  if (given.size() != word.size()) return false;
  for (std::size_t i = 0; i < word.size(); ++i)
    if (upper(given[i]) != word[i]) return false;
  return true;
}

/// `given` is `name`, with or without its prefix, in any case.
bool matches(std::string_view given, std::string_view name, std::string_view prefix) {
  return same_word(given, name) || same_word(given, name.substr(prefix.size()));
}

}  // namespace

int capability_number(std::string_view name) {
  for (std::size_t i = 0; i < std::size(kCapabilities); ++i)
    if (matches(name, kCapabilities[i], "CAP_")) return static_cast<int>(i);
  return -1;
}

std::string_view capability_name(int number) {
  return number >= 0 && number < capability_count() ? std::string_view(kCapabilities[static_cast<std::size_t>(number)])
                                                    : std::string_view();
}

std::string capability_names(std::uint64_t mask) {
  std::string names;
  for (int number = 0; number < capability_count(); ++number)
    if ((mask >> number & 1U) != 0) names += str(names.empty() ? "" : ", ", capability_name(number));
  return names;
}

std::vector<std::string> unknown_capabilities(std::string_view json) {
  std::vector<std::string> names;
  const auto document = parse_json(json, kConfigLimit);
  if (!document || !document->is_object()) return names;
  const Json& top = document->contains("process") ? (*document)["process"] : *document;
  if (!top.is_object() || !top.contains("capabilities") || !top["capabilities"].is_object()) return names;
  for (const auto& [set, list] : top["capabilities"].items()) {
    if (!list.is_array()) continue;
    for (const auto& entry : list) {
      const auto* name = entry.get_ptr<const Json::string_t*>();
      if (name == nullptr || capability_number(*name) >= 0) continue;
      if (std::find(names.begin(), names.end(), *name) == names.end()) names.push_back(*name);
    }
  }
  return names;
}

int capability_count() { return static_cast<int>(std::size(kCapabilities)); }

int rlimit_number(std::string_view name) {
  for (const ResourceName& entry : kResources)
    if (matches(name, entry.name, "RLIMIT_")) return entry.resource;
  return -1;
}

std::string_view rlimit_name(int resource) {
  for (const ResourceName& entry : kResources)
    if (entry.resource == resource) return entry.name;
  return "";
}

}  // namespace skink::oci
