// SPDX-License-Identifier: Apache-2.0
// The verbs of skink-oci, the OCI runtime command line (runtime-spec, runtime.md "Operations").
#pragma once

#include <string>
#include <vector>

#include "base/text.h"
#include "cli/oci_handover.h"
#include "cli/options.h"
#include "state/state.h"

namespace skink::cli {

/// What stands before the verb.
struct OciGlobals {
  std::string root = "/run/skink-oci";
  std::string log;  ///< file for error records; empty: none
  bool log_json = false;
  bool systemd_cgroup = false;
  bool no_cgroup = false;  ///< --cgroup-manager disabled
  bool debug = false;
  bool version = false;
};

/// One verb: it prints its result on standard output and returns the exit status, or the error to report.
struct OciVerb {
  const char* name;
  const char* usage;
  Result<int> (*run)(const OciGlobals& globals, Arguments args);
  int failure = 1;  ///< exit status when it returns an error
};

Result<int> oci_create(const OciGlobals& globals, Arguments args);
Result<int> oci_start(const OciGlobals& globals, Arguments args);
Result<int> oci_run(const OciGlobals& globals, Arguments args);
Result<int> oci_state(const OciGlobals& globals, Arguments args);
Result<int> oci_kill(const OciGlobals& globals, Arguments args);
Result<int> oci_exec(const OciGlobals& globals, Arguments args);
Result<int> oci_delete(const OciGlobals& globals, Arguments args);

// What several verbs do, in oci_container.cc.

struct CreateOptions : Handover {
  std::string bundle;
  bool no_pivot = false, no_new_keyring = false, keep = false, detach = false;
  bool relays = false;  ///< its terminal is relayed to our standard streams
  unsigned preserve_fds = 0;
};

/// Makes the container. With `wait_for_start` it stops before execve, else it goes on; `pidfd` and `console` are of its
/// process.
struct Made {
  state::Container container;
  oci::Spec spec;
  UniqueFd pidfd, console;
};
Result<Made> make_container(state::Root& root, const OciGlobals& globals, const CreateOptions& options,
                            const std::string& id, bool wait_for_start);

/// Kills the init and waits until it has ended (bounded): what `state` says next is "stopped".
void end_init(const state::Container& container);

/// Ends whatever is left of a container, removes its groups and its directory, and runs its poststop hooks.
Result<void> destroy_container(state::Root& root, state::Container container);

/// A number of descriptors (--preserve-fds).
template <auto Member, typename T>
Result<void> set_count(T& target, std::string_view value) {
  constexpr unsigned kMost = 1024;
  const auto count = parse_int<unsigned>(value);
  if (!count || *count > kMost)
    return Error::make(Code::invalid_config, quoted(value), " is not a number from 0 to ", kMost);
  target.*Member = *count;
  return {};
}

/// Reads a verb's options and its one operand, the container's id.
template <typename T>
Result<std::string> read_id(std::span<const Option<T>> table, Arguments args, T& target, const char* usage) {
  auto line = TRY(parse_options(table, args, Operands::anywhere, target));
  if (line.operands.size() != 1) return Error::make(Code::invalid_config, "usage: skink-oci ", std::string_view(usage));
  return std::move(line.operands[0]);
}

}  // namespace skink::cli
