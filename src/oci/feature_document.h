// SPDX-License-Identifier: Apache-2.0
// Features: the document by which a runtime tells what it can do (runtime-spec features.md, features-linux.md).
#pragma once

#include <string>

#include "oci/spec.h"

namespace skink::oci {

/// What the words of config.json alone do not say.
struct Features {
  Strings hooks, mount_options;
  bool systemd = false, systemd_user = false;
  bool notify = false;  ///< SCMP_ACT_NOTIFY and what goes with it
  bool idmap = false, net_devices = false, memory_policy = false;
  bool intel_rdt = false, rdt_schemata = false, rdt_monitoring = false;
  Annotations annotations;
  Strings unsafe_annotations;  ///< of config.json, that change what the runtime does
};

std::string dump_features(const Features& features);

}  // namespace skink::oci
