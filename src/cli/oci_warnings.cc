// SPDX-License-Identifier: Apache-2.0
// What skink-oci says of a configuration that it follows in part.
#include "base/text.h"
#include "cli/oci_rootless.h"
#include "cli/oci_verbs.h"
#include "oci/json.h"

namespace skink::cli {

void warn_of_unknown_capabilities(const oci::Process& process, std::string_view json, const OciLog& log) {
  if (!process.capabilities) return;
  const auto& sets = *process.capabilities;
  const std::uint64_t asked = sets.bounding | sets.effective | sets.inheritable | sets.permitted | sets.ambient;
  if ((asked & oci::kUnknownCapability) == 0) return;
  std::string names;
  for (const auto& name : oci::unknown_capabilities(json)) names += str(names.empty() ? "" : " ", printable(name));
  log.warning(str("process.capabilities: ignoring unknown or unavailable capabilities: [", names,
                  "]: one is called such as CAP_NET_BIND_SERVICE"));
}

void warn_of_capabilities(const launch::Launched& launched, const OciLog& log, bool for_engine) {
  if ((launched.withheld_capabilities & ~oci::kUnknownCapability) != 0)
    log.warning(
        str("process.capabilities: this host cannot grant ", oci::capability_names(launched.withheld_capabilities)));
  for (int number = 0; number < 64; ++number) {
    if ((launched.withheld_ambient >> number & 1U) == 0) continue;
    const std::string words = str("process.capabilities.ambient: can't raise ambient capability ",
                                  oci::capability_name(number), ": it is not among the permitted and inheritable ones");
    if (for_engine) log.debug(words);
    else log.warning(words);
  }
}

void warn_of_what_is_ignored(const oci::Spec& spec, const OciGlobals& globals) {
  const oci::Linux& linux_part = spec.linux;
  const bool maps = !linux_part.uid_mappings.empty() || !linux_part.gid_mappings.empty();
  if (maps && spec.find_namespace(oci::NamespaceType::user) == nullptr)
    globals.log.warning(
        "linux.uidMappings and linux.gidMappings are ignored: there is no user namespace in linux.namespaces, so root "
        "inside is root outside; add {\"type\": \"user\"}");
  if (!linux_part.time_offsets.empty() && spec.find_namespace(oci::NamespaceType::time) == nullptr)
    globals.log.warning(
        "linux.timeOffsets is ignored: there is no time namespace in linux.namespaces; add {\"type\": \"time\"}");
  if (!globals.no_cgroup || !linux_part.resources) return;
  std::string names;
  for (const std::string_view name : limits_in(*linux_part.resources)) names += str(names.empty() ? "" : ", ", name);
  if (names.empty()) return;
  globals.log.warning(
      str("linux.resources: ", names,
          " ignored: with --cgroup-manager disabled the container has no control groups to hold limits"));
}

}  // namespace skink::cli
