// SPDX-License-Identifier: Apache-2.0
// Reading the command line of `run` and `create`.
#include "cli/run_command.h"

#include <algorithm>

#include "base/text.h"
#include "cli/seccomp_file.h"

namespace skink::cli {

namespace {

Result<void> check_restart(const RunCommand& command) {
  const RestartPolicy& policy = command.request.restart;
  if (command.request.remove_at_end && policy.kind != RestartPolicy::Kind::no)
    return Error::make(Code::invalid_config, "--rm and --restart ", to_text(policy),
                       " contradict each other: a container that is relaunched does not end");
  if (policy.longest_delay_ns < policy.first_delay_ns)
    return Error::make(Code::invalid_config, "--restart-max-delay is shorter than --restart-delay");
  return {};
}

Result<void> check_root(RunCommand& command) {
  if (!command.read_only) return {};
  if (*command.read_only && command.request.run.writable)
    return Error::make(Code::invalid_config, "--read-only and --writable contradict each other");
  command.request.run.writable = command.request.run.writable || !*command.read_only;
  return {};
}

// The program that has to say WATCHDOG=1 needs a socket for it.
Result<void> check_watchdog(RunCommand& command) {
  CreateRequest& request = command.request;
  if (request.watchdog_ns == 0) return {};
  if (command.ready_by_given && request.ready_by != ReadyBy::container)
    return Error::make(Code::invalid_config, "--watchdog and --sdnotify ", to_text(request.ready_by),
                       " contradict each other: only --sdnotify container gives the program a NOTIFY_SOCKET");
  request.ready_by = ReadyBy::container;
  return {};
}

Result<void> check_log(const RunCommand& command) {
  const CreateRequest& request = command.request;
  const LogLimits& limits = request.log_limits;
  const bool limited = limits.max_size != 0 || limits.max_files != 1 || limits.compress;
  const bool kept = request.log_driver.empty() || request.log_driver == "journald";
  const CriLog& cri = request.cri_log;
  if (!cri.path.empty() && !kept)
    return Error::make(Code::invalid_config, "--log-opt cri and --log-driver ", request.log_driver,
                       " contradict each other: nothing is kept that it could follow");
  if (cri.path.empty() && (cri.max_size != CriLog().max_size || cri.max_files != CriLog().max_files))
    return Error::make(Code::invalid_config,
                       "--log-opt cri-max-size and cri-max-file need cri, as in cri=/var/log/web.log");
  if (limited && !kept)
    return Error::make(Code::invalid_config, "--log-opt and --log-driver ", request.log_driver,
                       " contradict each other: nothing is kept");
  if (limited && limits.max_size == 0)
    return Error::make(Code::invalid_config, "--log-opt max-file and compress need max-size, as in max-size=10m");
  if (limits.compress && limits.max_files < 2)
    return Error::make(Code::invalid_config,
                       "--log-opt compress=true needs max-file=2 or more: the newest file is never compressed");
  if (request.log_driver == "passthrough" && request.run.tty)
    return Error::make(Code::invalid_config, "-t and --log-driver passthrough contradict each other");
  return {};
}

// IMAGE and its arguments; with --bundle the operands are refused, as the bundle says what runs.
Result<void> take_operands(RunCommand& command, const std::vector<std::string>& operands) {
  if (!command.request.bundle.empty()) {
    if (operands.empty()) return {};
    return Error::make(Code::invalid_config, "unexpected argument ", quoted(operands[0]),
                       ": with --bundle there is no IMAGE, and the bundle's config.json says what runs");
  }
  if (operands.empty()) return Error::make(Code::invalid_config, "IMAGE or FILE.tar is missing");
  if (operands[0].empty()) return Error::make(Code::invalid_config, "IMAGE is empty");
  command.image = operands[0];
  command.request.run.args.assign(operands.begin() + 1, operands.end());
  return {};
}

// Without --restart: what runs in the background is kept alive, what someone watches is not.
void choose_policy(RunCommand& command) {
  if (command.restart_given || !command.detach || command.request.remove_at_end) return;
  command.request.restart.kind = RestartPolicy::Kind::on_failure;
}

Result<void> read_labels(RunCommand& command, const Surroundings& outside) {
  for (const auto& file : command.label_files) {
    const std::string text = TRY_CTX(outside.read_file(file), "--label-file");
    for (auto& [key, value] : TRY_CTX(plan::parse_label_file(text, file), "--label-file"))
      command.request.run.labels.emplace(std::move(key), std::move(value));  // --label wins over the file
  }
  return {};
}

Result<void> look_up_devices(RunCommand& command, const Surroundings& outside) {
  plan::RunOptions& options = command.request.run;
  for (const auto& wanted : command.devices) {
    oci::Device device = TRY_CTX(outside.device(wanted.host_path), "--device");
    device.path = wanted.container_path;
    const char type = device.type;
    options.device_rules.push_back({true, type, device.major, device.minor, wanted.access});
    options.devices.push_back(std::move(device));
  }
  if (!options.privileged) return {};
  for (auto& device : outside.devices()) {
    const auto same = [&](const oci::Device& other) { return other.path == device.path; };
    if (std::none_of(options.devices.begin(), options.devices.end(), same))
      options.devices.push_back(std::move(device));
  }
  return {};
}

Result<void> read_seccomp(RunCommand& command, const Surroundings& outside) {
  if (command.seccomp_file.empty()) return {};
  const std::string text = TRY_CTX(outside.read_file(command.seccomp_file), "--security-opt seccomp");
  command.request.run.seccomp = TRY_CTX(parse_seccomp_profile(text, capabilities_of(command.request.run)),
                                        "--security-opt seccomp: ", printable(command.seccomp_file));
  return {};
}

}  // namespace

Result<CommandLine> parse_run(std::span<const Option<RunCommand>> table, Arguments args, RunCommand& command) {
  CommandLine line = TRY(parse_options(table, args, Operands::first_ends_options, command));
  if (line.help) return line;
  TRY(take_operands(command, line.operands));
  TRY(check_restart(command));
  TRY(check_root(command));
  TRY(check_watchdog(command));
  TRY(check_log(command));
  choose_policy(command);
  command.request.keep_durable = command.detach || !command.request.remove_at_end;
  return line;
}

Result<void> complete_run(RunCommand& command, const Surroundings& outside) {
  plan::RunOptions& options = command.request.run;
  options.env = TRY(merge_environment(command.env_files, command.env, outside));
  for (const auto& text : command.relative_volumes)
    options.volumes.push_back(TRY_CTX(plan::parse_volume(absolute_path(text, outside)), "--volume"));
  if (!command.request.bundle.empty()) command.request.bundle = absolute_path(command.request.bundle, outside);
  TRY(read_labels(command, outside));
  TRY(look_up_devices(command, outside));
  return read_seccomp(command, outside);
}

}  // namespace skink::cli
