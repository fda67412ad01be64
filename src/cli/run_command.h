// SPDX-License-Identifier: Apache-2.0
// RunCommand: the command line of `run` and `create`, read in two steps: by its own text, then with what it names on
// the host (variables, files, devices).
#pragma once

#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "cli/attach.h"
#include "cli/environment.h"
#include "cli/options.h"
#include "plan/parse_options.h"
#include "skink/engine.h"

namespace skink::cli {

struct RunCommand {
  CreateRequest request;  ///< complete after complete_run
  std::string image;      ///< name, id or file; empty with --bundle
  bool detach = false;
  bool forward_signals = true;
  std::string detach_keys = std::string(kUsualDetachKeys);
  std::string cidfile;
  std::optional<oci::Platform> platform;

  // Read here, looked up by complete_run.
  std::vector<std::string> env, env_files, label_files, relative_volumes;
  std::vector<plan::DeviceOption> devices;
  std::string seccomp_file;
  bool restart_given = false, ready_by_given = false;
  std::optional<bool> read_only;
};

/// Every option of `run`; `create` leaves the last two out (--detach and --sig-proxy).
std::span<const Option<RunCommand>> run_options();
std::span<const Option<RunCommand>> create_options();
/// Those that may change later: limits and supervision.
std::span<const Option<RunCommand>> update_options();

/// Reads the arguments. Pure: nothing on the host is looked at. The line that comes back tells whether help was wanted.
Result<CommandLine> parse_run(std::span<const Option<RunCommand>> table, Arguments args, RunCommand& command);

/// Looks up what the command line names: variables, files, devices; relative paths become absolute.
Result<void> complete_run(RunCommand& command, const Surroundings& outside);

}  // namespace skink::cli
