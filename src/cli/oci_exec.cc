// SPDX-License-Identifier: Apache-2.0
// exec of skink-oci: one more process in a running container, in the foreground or left alone.
#include <csignal>

#include "base/text.h"
#include "cli/oci_exec_process.h"
#include "cli/oci_foreground.h"
#include "cli/oci_unit.h"
#include "cli/oci_verbs.h"
#include "launch/launch.h"
#include "sys/interrupt.h"

namespace skink::cli {
namespace {

using state::Status;

constexpr const char* kUsage = "exec [OPTION...] (--process FILE ID | ID PROGRAM [ARG...])";

Result<void> set_no_new_privileges(ExecOptions& options, std::string_view value) {
  options.no_new_privileges = value == "true";
  return {};
}

constexpr Option<ExecOptions> kExecOptions[] = {
    {{"process", 'p', "FILE", "what to run, as process of config.json"}, set_text<&ExecOptions::process>},
    {{"detach", 'd', nullptr, "do not wait for its end"}, set_switch<&ExecOptions::detach>},
    {{"tty", 't', nullptr, "give it a terminal; with --process the file says so"}, set_switch<&ExecOptions::tty>},
    {{"console-socket", 0, "PATH", "send the terminal to this socket"}, set_text<&ExecOptions::console_socket>},
    {{"pidfd-socket", 0, "PATH", "send a pidfd of the process to this socket"}, set_text<&ExecOptions::pidfd_socket>},
    {{"pid-file", 0, "FILE", "write the process id there"}, set_text<&ExecOptions::pid_file>},
    {{"preserve-fds", 0, "N", "pass descriptors 3 to 2+N on"}, set_count<&ExecOptions::preserve_fds>},
    {{"cwd", 0, "DIR", "working directory"}, set_text<&ExecOptions::cwd>},
    {{"env", 'e', "NAME=VALUE", "add to the environment"}, add_text<&ExecOptions::env>},
    {{"user", 'u', "UID[:GID]", "run as this user"}, set_text<&ExecOptions::user>},
    {{"additional-gids", 'g', "GID", "add a supplementary group"}, add_text<&ExecOptions::groups>},
    {{"cap", 'c', "NAME", "add a capability"}, add_text<&ExecOptions::caps>},
    {{"no-new-privs", 0, nullptr, "set or (=false) clear noNewPrivileges"}, set_no_new_privileges},
    {{"apparmor", 0, "PROFILE", "AppArmor profile"}, set_text<&ExecOptions::apparmor>},
    {{"process-label", 0, "LABEL", "SELinux label"}, set_text<&ExecOptions::label>},
    {{"cgroup", 0, "[CONTROLLER:]PATH", "run in this group below the container's"}, add_text<&ExecOptions::cgroups>},
    {{"ignore-paused", 0, nullptr, "allow it in a paused container, where it waits"},
     set_switch<&ExecOptions::ignore_paused>},
};

struct Command {
  bool help = false;
  ExecOptions options;
  std::string id;
  oci::Strings args;
};

Result<Command> parse(Arguments args) {
  Command command;
  constexpr std::size_t kMany = 1'000'000;
  auto line = TRY(read_verb(std::span<const Option<ExecOptions>>(kExecOptions), args, command.options, kUsage,
                            {0, kMany, Operands::first_ends_options}));
  command.help = line.help;
  if (line.help) return command;
  // With --process what follows the id is not used.
  const std::size_t least = command.options.process.empty() ? 2 : 1;
  if (line.operands.size() < least) return wrong_usage(kUsage);
  command.id = line.operands[0];
  command.args.assign(line.operands.begin() + 1, line.operands.end());
  return command;
}

Result<void> check_status(const state::Container& container, bool ignore_paused) {
  const Status status = container.status();
  const auto refuse = [&](const auto&... why) {
    return Error::make(Code::busy, "container ", quoted(container.record().id), ": ", why...);
  };
  if (status == Status::paused && !ignore_paused)
    return refuse("cannot exec in a paused container; resume it first or use --ignore-paused");
  if (status == Status::stopped) return refuse("cannot exec in a stopped container: container not running");
  if (status == Status::creating) return refuse("cannot exec in a container that is still being made");
  return {};
}

// What of a container an exec needs. The container's lock is not taken: a program that cannot be started in bounded
// time (its file system hangs) must not keep `delete` out.
struct Target {
  oci::Spec spec;
  std::string id, bundle;
  sys::ProcessIdentity init;
  std::optional<cgroup::Group> group;
  std::function<Result<void>(pid_t)> attach;
  std::optional<cgroup::ResctrlGroup> resctrl;
  UniqueFd seccomp_cache;
};

Result<std::optional<cgroup::Group>> open_group(const state::Record& record, const oci::Strings& below) {
  const auto wanted = TRY(parse_sub_groups(below));
  if (!record.cgroup) {
    if (wanted.empty()) return std::optional<cgroup::Group>{};
    return Error::make(Code::invalid_config, "--cgroup: the container has no control groups");
  }
  cgroup::Location location;
  if (wanted.empty()) location = TRY(cgroup::beside(*record.cgroup, record.init.pid));
  else location = TRY_CTX(cgroup::below(*record.cgroup, wanted), "--cgroup");
  return std::optional<cgroup::Group>(TRY(cgroup::Group::open(location)));
}

Result<Target> open_target(const OciGlobals& globals, const Command& command) {
  const auto [root, container] = TRY(look_at_container(globals, command.id));
  TRY(check_status(container, command.options.ignore_paused));
  Target target;
  target.spec = TRY(container.spec());
  if (!target.spec.process) target.spec.process.emplace();
  target.id = container.record().id;
  target.bundle = container.record().bundle;
  target.init = container.record().init;
  target.group = TRY(open_group(container.record(), command.options.cgroups));
  if (target.group && !target.group->location().places.empty())
    target.attach = attach_by_systemd(container.record(), *target.group);
  target.resctrl = container.record().resctrl;
  auto cache = root.open_cache();
  if (cache) target.seccomp_cache = std::move(*cache);
  return target;
}

Result<oci::Process> make_process(const Command& command, const Target& target, const OciLog& log) {
  const auto& own = *target.spec.process;
  auto process = command.options.process.empty() ? change_process(own, command.args, command.options, log)
                                                 : read_process(command.options.process, own, log);
  if (!process) return process;
  // Order: looked up in /proc/PID/root while a pidfd shows that the number still means the container.
  const UniqueFd init = TRY(sys::open_identified(target.init));
  add_home(*process, str("/proc/", target.init.pid, "/root"));
  TRY(sys::signal_pidfd(init.get(), 0));
  return process;
}

Result<launch::Launched> start(const Command& command, Target& target, oci::Process& process, bool relays,
                               const OciLog& log) {
  if (relays) add_window_size(process);
  launch::ExecRequest request;
  request.spec = &target.spec;
  request.process = &process;
  request.target = target.init;
  request.id = target.id;
  request.bundle = target.bundle;
  request.group = target.group ? &*target.group : nullptr;
  request.attach = target.attach;
  request.preserve_fds = TRY(preserved_descriptors(command.options.preserve_fds, nullptr));
  request.plain_output = relays && wants_plain_output();
  request.reset_affinity = true;
  request.seccomp_cache_fd = target.seccomp_cache.get();
  request.trace = trace_to(log);
  log.debug("joining the container of process ", target.init.pid,
            target.group ? ", also its control groups" : ", which has no control groups");
  if (target.resctrl)
    request.record = [&](const sys::ProcessIdentity& identity) -> Result<void> {
      const UniqueFd resctrl = TRY(cgroup::open_resctrl());
      return cgroup::Resctrl{resctrl.get()}.add(*target.resctrl, identity.pid);
    };
  auto started = launch::exec_in_container(request);
  if (!started && started.error().code() == Code::busy && !command.options.cgroups.empty())
    return std::move(started).error().context("--cgroup: adding pid of the program to cgroups");
  auto launched = TRY(std::move(started));
  auto handed = hand_over(command.options, launched.identity.pid, launched.pidfd.get(), launched.console.get());
  if (handed) return launched;
  // A caller that does not learn of the process must not find it in the container.
  (void)sys::signal_pidfd(launched.pidfd.get(), SIGKILL);
  sys::ExitStatus ignored;
  (void)sys::wait_pidfd(launched.pidfd.get(), ignored, true);
  return std::move(handed).error();
}

}  // namespace

Result<int> oci_exec(const OciGlobals& globals, Arguments args) {
  const Command command = TRY(parse(args));
  if (command.help) return 0;
  const auto& options = command.options;
  // Until the program runs: see oci_run().
  const sys::Interrupt interrupt;
  Target target = TRY(open_target(globals, command));
  oci::Process process = TRY(make_process(command, target, globals.log));
  TRY(check_terminal(options, process.terminal, options.detach));
  const bool relays = process.terminal && options.console_socket.empty();
  // Order: signals are kept back before there is a process that they are meant for.
  std::optional<Foreground> foreground;
  if (!options.detach) TRY(foreground.emplace().check());
  auto launched = TRY(start(command, target, process, relays, globals.log));
  warn_of_capabilities(launched, globals.log, command.options.detach);
  if (options.detach) return 0;
  if (!relays) launched.console.reset();
  return TRY(foreground->wait(launched.pidfd.get(), std::move(launched.console))).shell_status();
}

}  // namespace skink::cli
