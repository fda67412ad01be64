// SPDX-License-Identifier: Apache-2.0
// parse_spec, parse_process and parse_resources: typed values out of JSON, no side effects.
#include <algorithm>

#include "oci/fields_linux.h"
#include "oci/reader.h"
#include "oci/spec.h"

namespace skink::oci {

const Namespace* Spec::find_namespace(NamespaceType type) const {
  for (const Namespace& space : linux.namespaces)
    if (space.type == type) return &space;
  return nullptr;
}

namespace {

bool is_digit(char c) { return c >= '0' && c <= '9'; }

}  // namespace

// What types and ranges cannot say is check_spec's part: it reports all of it at once.
Result<Spec> parse_spec(std::string_view json) {
  auto spec = read_document<Spec>(json, kConfigLimit);
  if (spec && spec->linux.resources) settle_pids_limit(spec->oci_version, *spec->linux.resources);
  return spec;
}

void settle_pids_limit(std::string_view oci_version, Resources& resources) {
  constexpr unsigned kFirst = 3;  // of 1.3
  unsigned minor = 0;
  for (auto at = oci_version.find('.') + 1; at != 0 && at < oci_version.size() && is_digit(oci_version[at]); ++at)
    minor = std::min(minor * 10 + static_cast<unsigned>(oci_version[at] - '0'), 1000U);
  if (minor < kFirst && resources.pids_limit == 0) resources.pids_limit = -1;
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
