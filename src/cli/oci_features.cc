// SPDX-License-Identifier: Apache-2.0
// features of skink-oci: what this program does, whatever the host. Standard error stays empty: CRI-O reads both
// streams as one document.
#include "base/text.h"
#include "cli/oci_verbs.h"
#include "oci/feature_document.h"
#include "plan/launch_plan.h"
#include "plan/mount_options.h"
#include "security/security.h"

namespace skink::cli {
namespace {

// A test asks create for each of these and compares.
oci::Features features() {
  oci::Features out;
  out.hooks = {"prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop"};
  out.mount_options = plan::known_mount_options();
  out.notify = out.idmap = out.net_devices = out.memory_policy = true;
  out.systemd = out.systemd_user = true;
  out.intel_rdt = out.rdt_schemata = out.rdt_monitoring = true;
  // runc's key is the one that tools know.
  out.annotations = {{"org.opencontainers.runc.checkpoint.enabled", "false"},
                     {"org.skink.checkpoint.enabled", "false"},
                     {"org.skink.version", SKINK_VERSION},
                     {"io.github.seccomp.libseccomp.version", security::seccomp_library_version()}};
  out.unsafe_annotations = {plan::kInitAnnotation};
  return out;
}

}  // namespace

Result<int> oci_features(const OciGlobals& /*globals*/, Arguments args) {
  const auto line = TRY(read_verb(args, "features", {0, 0}));
  if (line.help) return 0;
  TRY(sys::write_all(1, oci::dump_features(features()) + "\n", "standard output"));
  return 0;
}

}  // namespace skink::cli
