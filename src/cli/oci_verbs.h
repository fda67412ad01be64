// SPDX-License-Identifier: Apache-2.0
// The verbs of skink-oci, the OCI runtime command line (runtime-spec, runtime.md "Operations").
#pragma once

#include <optional>
#include <span>
#include <string>
#include <vector>

#include "base/text.h"
#include "cli/oci_handover.h"
#include "cli/oci_log.h"
#include "cli/oci_notify.h"
#include "cli/options.h"
#include "launch/launch.h"
#include "state/state.h"
#include "sys/descriptors.h"

namespace skink::cli {

/// What stands before the verb.
struct OciGlobals {
  std::string root;         ///< the state directory; main puts the default in
  bool root_given = false;  ///< by --root
  LogOptions log_options;
  bool systemd_cgroup = false;
  bool no_cgroup = false;  ///< --cgroup-manager disabled
  bool version = false;
  OciLog log;
};

/// One verb: it prints its result on standard output and returns the exit status, or the error to report.
struct OciVerb {
  const char* name;
  const char* usage;    ///< its command line, without "skink-oci"
  const char* summary;  ///< half a line for the overview
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
Result<int> oci_list(const OciGlobals& globals, Arguments args);
Result<int> oci_ps(const OciGlobals& globals, Arguments args);
Result<int> oci_pause(const OciGlobals& globals, Arguments args);
Result<int> oci_resume(const OciGlobals& globals, Arguments args);
Result<int> oci_update(const OciGlobals& globals, Arguments args);
Result<int> oci_events(const OciGlobals& globals, Arguments args);
Result<int> oci_features(const OciGlobals& globals, Arguments args);
Result<int> oci_spec(const OciGlobals& globals, Arguments args);
Result<int> oci_checkpoint(const OciGlobals& globals, Arguments args);
Result<int> oci_restore(const OciGlobals& globals, Arguments args);

// What several verbs do, in oci_container.cc.

struct CreateOptions : Handover {
  std::string bundle;
  std::string config;  ///< the configuration, where it is not the bundle's config.json
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
  std::optional<NotifyRelay> notify;  ///< what goes to the service manager; never with `wait_for_start`
  sys::SpareDescriptors spare;        ///< for taking it back
};
/// Holds as many descriptors back as it takes to delete the container or to take it back.
Result<sys::SpareDescriptors> hold_for_undoing(const state::Record& record);
Result<Made> make_container(state::Root& root, const OciGlobals& globals, const CreateOptions& options,
                            const std::string& id, bool wait_for_start);

/// config.md "Linux Process": what cannot be granted "MUST be logged as a warning by the runtime". Of ambient ones an
/// engine (`for_engine`: create, exec --detach) hears with --debug only: buildah asks for all of them each time, and
/// our standard error is the container's then.
void warn_of_capabilities(const launch::Launched& launched, const OciLog& log, bool for_engine);
/// The same of names that are none, in runc's words, which test suites know. `json`: the document that `process` is
/// from. To be called before the launch, which may fail for the want of them.
void warn_of_unknown_capabilities(const oci::Process& process, std::string_view json, const OciLog& log);

/// What runc and crun ignore in silence: mappings and offsets for namespaces that the container has not, and limits
/// where the command line says that there are no control groups.
void warn_of_what_is_ignored(const oci::Spec& spec, const OciGlobals& globals);

/// What launch tells of its steps, as debug messages; empty when nobody wants them. `log` outlives it.
launch::Trace trace_to(const OciLog& log);

/// A pidfd of the container's init, empty when it has ended. That there is no descriptor for it is an error.
Result<UniqueFd> found_init(const state::Container& container);
/// Kills the init and waits until it has ended (bounded): what `state` says next is "stopped".
void end_init(const state::Container& container);
/// Runs the poststart hooks of a container that was started, and gives its lock up before: a hook may ask for what
/// takes it (update, pause, delete), as one of runc's may. Where one fails the container is destroyed (runtime.md
/// "Lifecycle"), or, with `keep`, ended.
Result<void> run_poststart(state::Root& root, state::Container container, const oci::Spec& spec, bool keep,
                           sys::SpareDescriptors& spare, const OciGlobals& globals);

/// Ends whatever is left of a container, removes its groups and its directory, and runs its poststop hooks, of which a
/// failing one is a warning.
Result<void> destroy_container(state::Root& root, state::Container container, const OciGlobals& globals,
                               bool lived = false);

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

/// A container that was named, with the state directory it is in.
struct Opened {
  state::Root root;
  state::Container container;
};
/// With its lock: no other command works on it meanwhile.
Result<Opened> open_container(const OciGlobals& globals, const std::string& text);
/// Without: for commands that only look or send a signal, which nothing may block (a hook that hangs, least of all).
Result<Opened> look_at_container(const OciGlobals& globals, const std::string& text);

/// "container "ID": container not running", which engines look for.
Error not_running(const std::string& id);

// Command lines of verbs, in oci_command.cc.

/// What a verb's command line has beside its options.
struct VerbLine {
  bool help = false;  ///< asked for and printed: there is nothing more to do
  std::vector<std::string> operands;
};

/// How many operands a verb takes, and whether options may follow the first.
struct OperandCount {
  std::size_t least = 1, most = 1;
  Operands order = Operands::anywhere;
};

VerbLine print_help(const char* usage, const std::vector<OptionWords>& words);
Error wrong_usage(const char* usage);

/// Reads a verb's options and operands; prints its help when that is asked for.
template <typename T>
Result<VerbLine> read_verb(std::span<const Option<T>> table, Arguments args, T& target, const char* usage,
                           OperandCount count = {}) {
  auto line = TRY(parse_options(table, args, count.order, target, Dashes::one_or_two));
  if (line.help) return print_help(usage, words_of(table));
  if (line.operands.size() < count.least || line.operands.size() > count.most) return wrong_usage(usage);
  return VerbLine{false, std::move(line.operands)};
}

/// Of a verb without options.
Result<VerbLine> read_verb(Arguments args, const char* usage, OperandCount count = {});

}  // namespace skink::cli
