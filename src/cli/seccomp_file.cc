// SPDX-License-Identifier: Apache-2.0
// Docker's seccomp profiles made plain.
#include "cli/seccomp_file.h"

#include <sys/utsname.h>

#include <algorithm>

#include "base/text.h"
#include "oci/image.h"
#include "oci/json.h"
#include "security/security.h"

namespace skink::cli {

namespace {

using oci::Json;

// "5.8" is at most the running kernel's "6.18.0-x".
bool kernel_is_at_least(std::string_view wanted) {
  utsname name{};
  if (::uname(&name) != 0) return false;
  const auto number = [](std::string_view text, std::size_t index) {
    const auto parts = split(text, '.');
    if (index >= parts.size()) return 0U;
    const std::string_view digits = parts[index].substr(0, parts[index].find_first_not_of("0123456789"));
    return parse_int<unsigned>(digits).value_or(0);
  };
  const std::string_view running = name.release;
  return std::pair(number(running, 0), number(running, 1)) >= std::pair(number(wanted, 0), number(wanted, 1));
}

bool holds_word(const Json* list, std::string_view word) {
  if (list == nullptr || !list->is_array()) return false;
  return std::any_of(list->begin(), list->end(), [&](const Json& entry) {
    return entry.is_string() && entry.get_ref<const std::string&>() == word;
  });
}

bool has_capability(const Json& name, std::uint64_t capabilities) {
  const int number = name.is_string() ? oci::capability_number(name.get_ref<const std::string&>()) : -1;
  return number >= 0 && ((capabilities >> static_cast<unsigned>(number)) & 1U) != 0;
}

// Docker's words: all of the included capabilities must be there, none of the excluded ones.
bool applies(const Json& rule, std::uint64_t capabilities, std::string_view machine) {
  if (const Json* includes = oci::find(rule, "includes")) {
    const Json* arches = oci::find(*includes, "arches");
    if (arches != nullptr && !arches->empty() && !holds_word(arches, machine)) return false;
    if (const Json* caps = oci::find(*includes, "caps"))
      for (const auto& cap : *caps)
        if (!has_capability(cap, capabilities)) return false;
    const std::string least = oci::get_string(*includes, "minKernel");
    if (!least.empty() && !kernel_is_at_least(least)) return false;
  }
  if (const Json* excludes = oci::find(rule, "excludes")) {
    if (holds_word(oci::find(*excludes, "arches"), machine)) return false;
    if (const Json* caps = oci::find(*excludes, "caps"))
      for (const auto& cap : *caps)
        if (has_capability(cap, capabilities)) return false;
    const std::string least = oci::get_string(*excludes, "minKernel");
    if (!least.empty() && kernel_is_at_least(least)) return false;
  }
  return true;
}

void resolve_architectures(Json& profile, std::string_view native) {
  const Json* map = oci::find(profile, "archMap");
  if (map == nullptr) return;
  Json names = Json::array();
  for (const auto& entry : *map) {
    if (oci::get_string(entry, "architecture") != native) continue;
    names.push_back(native);
    if (const Json* below = oci::find(entry, "subArchitectures"))
      for (const auto& name : *below) names.push_back(name);
  }
  profile.erase("archMap");
  profile["architectures"] = std::move(names);
}

void resolve_rules(Json& profile, std::uint64_t capabilities, std::string_view machine) {
  if (!profile.contains("syscalls") || !profile["syscalls"].is_array()) return;
  Json rules = Json::array();
  for (auto& rule : profile["syscalls"]) {
    if (!applies(rule, capabilities, machine)) continue;
    if (rule.is_object() && rule.contains("name") && !rule.contains("names"))
      rule["names"] = Json::array({rule["name"]});
    if (rule.is_object() && rule.contains("args") && rule["args"].is_null()) rule.erase("args");
    rules.push_back(std::move(rule));
  }
  profile["syscalls"] = std::move(rules);
}

}  // namespace

Result<oci::Seccomp> parse_seccomp_profile(std::string_view text, std::uint64_t capabilities) {
  Json profile = TRY(oci::parse_json(text));
  if (!profile.is_object() || !profile.contains("defaultAction"))
    return Error::make(Code::invalid_config, "is no seccomp profile: defaultAction is missing");
  const bool arm = oci::host_platform().architecture == "arm64";
  resolve_architectures(profile, arm ? "SCMP_ARCH_AARCH64" : "SCMP_ARCH_X86_64");
  resolve_rules(profile, capabilities, arm ? "arm64" : "amd64");
  Json document = {
      {"ociVersion", oci::kSpecVersion}, {"root", {{"path", "rootfs"}}}, {"linux", {{"seccomp", std::move(profile)}}}};
  oci::Spec spec = TRY(oci::parse_spec(oci::dump_json(document)));
  if (!spec.linux.seccomp) return Error::make(Code::invalid_config, "is no seccomp profile");
  return std::move(*spec.linux.seccomp);
}

std::uint64_t capabilities_of(const plan::RunOptions& options) {
  const auto mask = [](const oci::Strings& names) {
    std::uint64_t bits = 0;
    for (const auto& name : names) {
      const int number = oci::capability_number(name);
      if (number >= 0) bits |= std::uint64_t{1} << static_cast<unsigned>(number);
      else bits = ~std::uint64_t{0};  // ALL
    }
    return bits;
  };
  if (options.privileged) return ~std::uint64_t{0};
  const std::uint64_t add = mask(options.cap_add);
  const std::uint64_t drop = mask(options.cap_drop);
  const bool all_dropped = drop == ~std::uint64_t{0};
  if (all_dropped) return add;
  return (security::default_capabilities() | add) & ~drop;
}

}  // namespace skink::cli
