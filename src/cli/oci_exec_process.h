// SPDX-License-Identifier: Apache-2.0
// The process that `exec` runs: a document of the caller's, or the container's own process with other words.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "cgroup/cgroup.h"
#include "cli/oci_handover.h"
#include "cli/oci_log.h"

namespace skink::cli {

struct ExecOptions : Handover {
  std::string process, cwd, apparmor, label, user;
  oci::Strings env, caps, groups, cgroups;
  bool detach = false, tty = false, ignore_paused = false;
  std::optional<bool> no_new_privileges;
  unsigned preserve_fds = 0;
};

/// A process document (`--process`). What it leaves out is as in the container's own process, so that exec is never
/// weaker than run (attack A83).
Result<oci::Process> read_process(const std::string& path, const oci::Process& own, const OciLog& log);

/// The container's own process with `args` and what the options change.
Result<oci::Process> change_process(oci::Process own, oci::Strings args, const ExecOptions& options, const OciLog& log);

/// `--cgroup [CONTROLLER[,CONTROLLER...]:]PATH`, any number of times.
Result<std::vector<cgroup::SubGroup>> parse_sub_groups(const oci::Strings& words);

}  // namespace skink::cli
