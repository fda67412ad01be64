// SPDX-License-Identifier: Apache-2.0
// parse_spec, parse_process and parse_resources: typed values out of JSON, no side effects.
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
Result<Spec> parse_spec(std::string_view json) { return read_document<Spec>(json, kConfigLimit); }

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
