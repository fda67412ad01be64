// SPDX-License-Identifier: Apache-2.0
#include "oci/feature_document.h"

#include "oci/json.h"
#include "oci/spec_words.h"

namespace skink::oci {
namespace {

template <typename List>
Json list(const List& words) {
  Json json = Json::array();
  for (const auto& word : words) json.push_back(word);
  return json;
}

Json namespaces() {
  Json json = Json::array();
  for (const NamedNumber& entry : words::kNamespaces) json.push_back(std::string_view(entry.name));
  return json;
}

Json capabilities() {
  Json json = Json::array();
  for (int number = 0; number < capability_count(); ++number) json.push_back(capability_name(number));
  return json;
}

Json control_groups(const Features& features) {
  Json json;
  json["v1"] = true;
  json["v2"] = true;
  json["systemd"] = features.systemd;
  json["systemdUser"] = features.systemd_user;
  json["rdma"] = true;
  return json;
}

Json seccomp(const Features& features) {
  constexpr std::string_view kNotify = "SCMP_ACT_NOTIFY", kWaitKillable = "SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV";
  Json json;
  json["enabled"] = true;
  Json& actions = json["actions"] = Json::array();
  for (const auto word : words::kActions)
    if (features.notify || word != kNotify) actions.push_back(word);
  json["operators"] = list(words::kComparisons);
  json["archs"] = list(words::kArchitectures);
  json["knownFlags"] = list(words::kFilterFlags);
  Json& flags = json["supportedFlags"] = Json::array();
  for (const auto word : words::kFilterFlags)
    if (features.notify || word != kWaitKillable) flags.push_back(word);
  return json;
}

// Without an implementation the lists are empty and not left out: that would mean "not said".
Json memory_policy(const Features& features) {
  Json json;
  json["modes"] = features.memory_policy ? list(words::kMemoryModes) : Json::array();
  json["flags"] = features.memory_policy ? list(words::kMemoryFlags) : Json::array();
  return json;
}

Json linux_features(const Features& features) {
  Json json;
  json["namespaces"] = namespaces();
  json["capabilities"] = capabilities();
  json["cgroup"] = control_groups(features);
  json["seccomp"] = seccomp(features);
  json["apparmor"]["enabled"] = true;
  json["selinux"]["enabled"] = true;
  json["memoryPolicy"] = memory_policy(features);
  Json& rdt = json["intelRdt"];
  rdt["enabled"] = features.intel_rdt;
  rdt["schemata"] = features.rdt_schemata;
  rdt["monitoring"] = features.rdt_monitoring;
  json["mountExtensions"]["idmap"]["enabled"] = features.idmap;
  json["netDevices"]["enabled"] = features.net_devices;
  return json;
}

}  // namespace

std::string dump_features(const Features& features) {
  Json json;
  json["ociVersionMin"] = "1.0.0";
  json["ociVersionMax"] = kSpecVersion;
  json["hooks"] = list(features.hooks);
  json["mountOptions"] = list(features.mount_options);
  json["linux"] = linux_features(features);
  json["annotations"] = features.annotations;
  json["potentiallyUnsafeConfigAnnotations"] = list(features.unsafe_annotations);
  return dump_json(json, true);
}

}  // namespace skink::oci
