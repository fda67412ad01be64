// SPDX-License-Identifier: Apache-2.0
// What the options of `run` mean, one function each.
#include "cli/run_setters.h"

#include <algorithm>
#include <iterator>

#include "base/text.h"
#include "sys/process.h"

namespace skink::cli {

namespace {

Error bad_value(std::string_view value, std::string_view expected) {
  return Error::make(Code::invalid_config, quoted(value), " is not ", expected);
}

}  // namespace

Result<void> set_name(RunCommand& command, std::string_view value) {
  if (value.empty()) return Error::make(Code::invalid_config, "a name is missing");
  command.request.name = std::string(value);
  return {};
}

Result<void> set_entrypoint(RunCommand& command, std::string_view value) {
  command.request.run.entrypoint = value.empty() ? oci::Strings{} : oci::Strings{std::string(value)};
  return {};
}

Result<void> add_volume(RunCommand& command, std::string_view value) {
  // What the shell's user means by ./DIR is known only where the command runs.
  if (value.starts_with('.')) command.relative_volumes.emplace_back(value);
  else command.request.run.volumes.push_back(TRY(plan::parse_volume(value)));
  return {};
}

Result<void> set_storage_option(RunCommand& command, std::string_view value) {
  command.request.run.storage_size = TRY(plan::parse_storage_opt(value));
  return {};
}

Result<void> set_cpus(RunCommand& command, std::string_view value) {
  command.request.run.cpus = TRY(plan::parse_cpus(value));
  return {};
}

Result<void> set_oom_score(RunCommand& command, std::string_view value) {
  command.request.run.oom_score_adj = static_cast<int>(TRY(plan::parse_number(value, -1000, 1000)));
  return {};
}

Result<void> add_security_option(RunCommand& command, std::string_view value) {
  return plan::apply_security_opt(value, command.request.run, command.seccomp_file);
}

Result<void> set_network(RunCommand& command, std::string_view value) {
  command.request.run.host_network = TRY(plan::parse_network(value));
  return {};
}

Result<void> not_published(RunCommand& /*command*/, std::string_view value) { return plan::publish_error(value); }

Result<void> set_restart_factor(RunCommand& command, std::string_view value) {
  const double factor = TRY(plan::parse_cpus(value));
  if (factor < 1 || factor > 100) return bad_value(value, "a number from 1 to 100");
  command.request.restart.factor = factor;
  return {};
}

Result<void> set_restart_jitter(RunCommand& command, std::string_view value) {
  const double jitter = TRY(plan::parse_cpus(value));
  if (jitter < 0 || jitter > 1) return bad_value(value, "a number from 0 to 1");
  command.request.restart.jitter = jitter;
  return {};
}

Result<void> set_health_retries(RunCommand& command, std::string_view value) {
  const auto number = parse_int<std::uint32_t>(value);
  if (!number || *number == 0) return bad_value(value, "a number from 1 on");
  command.request.healthcheck.retries = *number;
  return {};
}

Result<void> set_platform(RunCommand& command, std::string_view value) {
  command.platform = TRY(oci::parse_platform(value));
  return {};
}

Result<void> set_userns(RunCommand& /*command*/, std::string_view value) {
  if (value == "host" || value.empty()) return {};
  return Error::make(Code::unsupported, quoted(value), ": only host is there; --user gives up root inside");
}

Result<void> set_restart(RunCommand& command, std::string_view value) {
  const RestartPolicy policy = TRY(parse_restart_policy(value));
  command.request.restart.kind = policy.kind;
  command.request.restart.most = policy.most;
  command.restart_given = true;
  return {};
}

Result<void> set_log_driver(RunCommand& command, std::string_view value) {
  // docker's and podman's names for what skink does by itself.
  constexpr std::string_view kOwn[] = {"spool", "json-file", "local", "k8s-file"};
  constexpr std::string_view kOthers[] = {"journald", "none", "passthrough"};
  const bool own = std::ranges::find(kOwn, value) != std::end(kOwn);
  if (!own && std::ranges::find(kOthers, value) == std::end(kOthers))
    return Error::make(Code::invalid_config, quoted(value),
                       " is not there; spool (the default), journald, none and passthrough are");
  command.request.log_driver = own ? "" : value;
  return {};
}

namespace {

// A file for node agents. Its limits mean nothing without it: check_log.
Result<void> set_cri_option(CriLog& log, std::string_view key, std::string_view text) {
  if (key == "cri") {
    if (!text.starts_with('/') || text.ends_with('/') || text.ends_with("/.") || text.ends_with("/.."))
      return Error::make(Code::invalid_config, quoted(text), ": cri= needs the absolute path of a file");
    log.path = std::string(text);
  } else if (key == "cri-max-size") {
    constexpr std::int64_t kLeast = 4096, kMost = std::int64_t{1} << 50;
    log.max_size = TRY_CTX(parse_size(text), key);
    if (log.max_size < kLeast || log.max_size > kMost) return bad_value(text, "a size of 4k or more for cri-max-size");
  } else {
    const auto number = parse_int<std::uint32_t>(text);
    if (!number || *number < 2 || *number > 10000) return bad_value(text, "a number from 2 to 10000 for cri-max-file");
    log.max_files = *number;
  }
  return {};
}

}  // namespace

Result<void> set_log_option(RunCommand& command, std::string_view value) {
  LogLimits& limits = command.request.log_limits;
  const auto parts = split_once(value, '=');
  const auto& [key, text] = parts.value_or(std::pair(value, std::string_view()));
  if (key == "max-size") {
    constexpr std::int64_t kPage = 4096, kMost = std::int64_t{1} << 50;
    const std::int64_t size = TRY_CTX(parse_size(text), key);
    if (size <= 0 || size > kMost) return bad_value(value, "a size, as in max-size=10m");
    limits.max_size = (size + kPage - 1) / kPage * kPage;
  } else if (key == "max-file") {
    const auto number = parse_int<std::uint32_t>(text);
    if (!number || *number == 0 || *number > 10000) return bad_value(value, "a number from 1 to 10000");
    limits.max_files = *number;
  } else if (key == "compress") {
    if (text != "true" && text != "false") return bad_value(value, "compress=true or compress=false");
    limits.compress = text == "true";
  } else if (key == "cri" || key == "cri-max-size" || key == "cri-max-file") {
    return set_cri_option(command.request.cri_log, key, text);
  } else {
    return bad_value(value, "max-size=, max-file=, compress=, cri=, cri-max-size= or cri-max-file=");
  }
  return {};
}

Result<void> set_stop_signal(RunCommand& command, std::string_view value) {
  const int signal = sys::parse_signal(value);
  if (signal <= 0) return bad_value(value, "a signal");
  command.request.stop_signal = signal;
  return {};
}

Result<void> set_stop_timeout(RunCommand& command, std::string_view value) {
  command.request.stop_timeout_ns = TRY(parse_duration_ns(value));
  return {};
}

}  // namespace skink::cli
