// SPDX-License-Identifier: Apache-2.0
// Hooks in the runtime's namespaces (prestart, createRuntime, poststart, poststop), and the container's state as JSON:
// config.md "POSIX-platform Hooks". Hooks in the container's namespaces are run by skink-init.
#pragma once

#include <sys/types.h>

#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "oci/spec.h"

namespace skink::launch {

/// The container's state as a hook reads it from standard input (runtime.md "State").
struct HookState {
  std::string id, status, bundle;
  std::int64_t pid = 0;
  const oci::Annotations* annotations = nullptr;
  int process_pidfd = -1;  ///< a hook ends when this process does: while there is no container yet
};

/// Of the container whose `spec` it is, which must outlive it.
HookState state_of(const std::string& id, const std::string& bundle, const oci::Spec& spec, std::string_view status,
                   pid_t pid);

/// The state for a hook that skink-init runs: it writes the process id between the two.
struct StateText {
  std::string head, tail;
};
StateText state_around_pid(const HookState& state);

/// Which hook a message is about: its place in config.json, and the words that runc's users look for.
std::string hook_name(std::string_view kind, std::size_t index);

/// The state as one document.
std::string state_json(const HookState& state);

/// What skink-init has kept of what a hook has printed, for the error message.
std::string hook_output(int fd);

/// How a hook has failed: with this exit status, or by the signal above plan::kHookSignal; `output` is what it has
/// printed.
Error hook_failure(unsigned status, const std::string& output);

/// Runs hooks in their order, each with exactly its own environment (attack A24), the bundle as working directory and
/// the state on standard input; stops at the first failure. `kind` is the member name in config.json, for messages. A
/// hook that outlives its timeout is killed with its process group. Of what it prints the end is kept for the message;
/// what it leaves behind can go on printing, and nobody waits for that (fault F34).
Result<void> run_hooks(const std::vector<oci::Hook>& hooks, std::string_view kind, const HookState& state);

}  // namespace skink::launch
