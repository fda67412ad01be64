// SPDX-License-Identifier: Apache-2.0
// parse_spec, parse_process and parse_resources: typed values out of JSON, no side effects.
#include "base/text.h"
#include "oci/fields_linux.h"
#include "oci/reader.h"
#include "oci/spec.h"

namespace skink::oci {

const Namespace* Spec::find_namespace(NamespaceType type) const {
  for (const Namespace& space : linux.namespaces)
    if (space.type == type) return &space;
  return nullptr;
}

// What types and ranges cannot say is check_spec's part: it reports all of it at once.
Result<Spec> parse_spec(std::string_view json) {
  auto spec = read_document<Spec>(json, kConfigLimit);
  if (spec && spec->linux.resources) settle_pids_limit(spec->oci_version, *spec->linux.resources);
  return spec;
}

void settle_pids_limit(std::string_view oci_version, Resources& resources) {
  constexpr int kFirst = 3;  // of 1.3
  const auto parts = split(oci_version, '.');
  const auto minor = parts.size() > 1 ? parse_int<int>(parts[1]) : std::nullopt;
  if (minor.value_or(0) < kFirst && resources.pids_limit == 0) resources.pids_limit = -1;
}

Result<Process> parse_process(std::string_view json) {
  auto process = TRY(read_document<Process>(json, kConfigLimit, "process"));
  auto findings = check_process(process);
  if (!findings.empty()) return std::move(findings.front());
  return process;
}

Result<Resources> parse_resources(std::string_view json) {
  auto resources = TRY(read_document<Resources>(json, kConfigLimit));
  auto findings = check_resources(resources);
  if (!findings.empty()) return std::move(findings.front());
  return resources;
}

}  // namespace skink::oci
