// SPDX-License-Identifier: Apache-2.0
// A spec with nothing wrong in it, and the findings about one as text.
#pragma once

#include <string>
#include <vector>

#include "oci/spec.h"

namespace skink::oci {

inline Spec plain_spec() {
  Spec spec{.oci_version = std::string(kSpecVersion)};
  spec.process.emplace();
  spec.process->args = {"sh"};
  spec.process->cwd = "/";
  spec.root.path = "rootfs";
  for (const NamespaceType type :
       {NamespaceType::pid, NamespaceType::network, NamespaceType::mount, NamespaceType::ipc, NamespaceType::uts})
    spec.linux.namespaces.push_back({type, ""});
  return spec;
}

inline std::vector<std::string> findings(const Spec& spec) {
  std::vector<std::string> texts;
  for (const Error& error : check_spec(spec)) texts.push_back(error.text());
  return texts;
}

}  // namespace skink::oci
