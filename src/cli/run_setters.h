// SPDX-License-Identifier: Apache-2.0
// Setters of `run`'s options that need more than a line of the table.
#pragma once

#include <limits>
#include <string>
#include <string_view>
#include <vector>

#include "base/text.h"
#include "cli/run_command.h"

namespace skink::cli {

inline Result<void> set(bool& target, bool on) {
  target = on;
  return {};
}
inline Result<void> set(std::string& target, std::string_view value) {
  target = std::string(value);
  return {};
}
inline Result<void> add(std::vector<std::string>& target, std::string_view value) {
  target.emplace_back(value);
  return {};
}

/// Bytes with a unit, into a member of plan::RunOptions.
template <auto Member>
Result<void> set_size(RunCommand& command, std::string_view value) {
  command.request.run.*Member = TRY(parse_size(value));
  return {};
}

/// Whole numbers: -1 and more; make_spec knows the bounds of each.
template <auto Member>
Result<void> set_number(RunCommand& command, std::string_view value) {
  command.request.run.*Member = TRY(plan::parse_number(value, -1, std::numeric_limits<std::int64_t>::max()));
  return {};
}

/// One parsed value more of a list in plan::RunOptions.
template <auto Member, auto Parse>
Result<void> add_parsed(RunCommand& command, std::string_view value) {
  (command.request.run.*Member).push_back(TRY(Parse(value)));
  return {};
}

/// One parsed KEY=VALUE more of a map in plan::RunOptions; the last one of a key counts.
template <auto Member, auto Parse>
Result<void> put_parsed(RunCommand& command, std::string_view value) {
  auto [key, text] = TRY(Parse(value));
  (command.request.run.*Member)[std::move(key)] = std::move(text);
  return {};
}

template <auto Member>
Result<void> set_cpuset(RunCommand& command, std::string_view value) {
  command.request.run.*Member = TRY(plan::parse_cpuset(value));
  return {};
}

template <auto Member>
Result<void> set_shared(RunCommand& command, std::string_view value) {
  command.request.run.*Member = TRY(plan::parse_namespace_mode(value));
  return {};
}

template <auto Member>
Result<void> set_policy_time(RunCommand& command, std::string_view value) {
  command.request.restart.*Member = TRY(parse_duration_ns(value));
  return {};
}

template <auto Member>
Result<void> set_probe(RunCommand& command, std::string_view value) {
  command.request.probes.*Member = TRY(parse_probe(value));
  return {};
}

template <auto Member>
Result<void> set_health_time(RunCommand& command, std::string_view value) {
  command.request.healthcheck.*Member = TRY(parse_duration_ns(value));
  return {};
}

template <auto Member>
Result<void> set_statuses(RunCommand& command, std::string_view value) {
  command.request.restart.*Member = TRY(parse_status_ranges(value));
  return {};
}

inline constexpr char kNoLinks[] = "networks are not there yet; --network host shares the host's";
inline constexpr char kNoVolumes[] = "named volumes are not there yet; -v /DIR:/DST binds a directory of the host";
inline constexpr char kNoGpus[] = "is not there; --device passes device nodes";

template <const char* Words>
Result<void> not_yet(RunCommand& /*command*/, std::string_view /*value*/) {
  return Error::make(Code::unsupported, Words);
}

Result<void> set_name(RunCommand& command, std::string_view value);
Result<void> set_entrypoint(RunCommand& command, std::string_view value);
Result<void> set_platform(RunCommand& command, std::string_view value);
Result<void> add_volume(RunCommand& command, std::string_view value);
Result<void> set_storage_option(RunCommand& command, std::string_view value);
Result<void> set_cpus(RunCommand& command, std::string_view value);
Result<void> set_oom_score(RunCommand& command, std::string_view value);
Result<void> add_security_option(RunCommand& command, std::string_view value);
Result<void> set_network(RunCommand& command, std::string_view value);
Result<void> not_published(RunCommand& command, std::string_view value);
Result<void> set_userns(RunCommand& command, std::string_view value);
Result<void> set_restart(RunCommand& command, std::string_view value);
Result<void> set_restart_factor(RunCommand& command, std::string_view value);
Result<void> set_restart_jitter(RunCommand& command, std::string_view value);
Result<void> set_health_retries(RunCommand& command, std::string_view value);
Result<void> set_log_driver(RunCommand& command, std::string_view value);
Result<void> set_log_option(RunCommand& command, std::string_view value);
Result<void> set_stop_signal(RunCommand& command, std::string_view value);
Result<void> set_stop_timeout(RunCommand& command, std::string_view value);

}  // namespace skink::cli
