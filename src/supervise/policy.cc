// SPDX-License-Identifier: Apache-2.0
#include "supervise/policy.h"

#include <algorithm>

#include "base/text.h"

namespace skink {

Result<RestartPolicy> parse_restart_policy(std::string_view text) {
  using Kind = RestartPolicy::Kind;
  RestartPolicy policy;
  const auto parts = split_once(text, ':');
  const std::string_view word = parts ? parts->first : text;
  const auto refuse = [&](std::string_view why) {
    return Error::make(Code::invalid_config, "restart policy ", quoted(text), ": ", why);
  };
  if (word == "no" || word.empty()) policy.kind = Kind::no;
  else if (word == "on-failure") policy.kind = Kind::on_failure;
  else if (word == "always") policy.kind = Kind::always;
  else if (word == "unless-stopped") policy.kind = Kind::unless_stopped;
  else return refuse("expected no, on-failure[:N], always or unless-stopped");
  if (!parts) return policy;
  if (policy.kind != Kind::on_failure) return refuse("only on-failure takes a number");
  const auto most = parse_int<std::uint32_t>(parts->second);
  if (!most) return refuse("the part after ':' is not a number from 0 to 4294967295");
  policy.most = *most;
  return policy;
}

std::string to_text(const RestartPolicy& policy) {
  switch (policy.kind) {
    case RestartPolicy::Kind::no: return "no";
    case RestartPolicy::Kind::on_failure: return policy.most == 0 ? "on-failure" : str("on-failure:", policy.most);
    case RestartPolicy::Kind::always: return "always";
    case RestartPolicy::Kind::unless_stopped: return "unless-stopped";
  }
  return "no";
}

std::string_view to_text(Healed::Deed deed) {
  switch (deed) {
    case Healed::Deed::adopted: return "adopted";
    case Healed::Deed::started: return "started";
    case Healed::Deed::removed: return "removed";
    case Healed::Deed::recorded: return "recorded";
    case Healed::Deed::cleaned: return "cleaned";
    case Healed::Deed::failed: return "failed";
  }
  return "failed";
}

std::string_view to_text(Phase phase) {
  switch (phase) {
    case Phase::created: return "created";
    case Phase::running: return "running";
    case Phase::paused: return "paused";
    case Phase::restarting: return "restarting";
    case Phase::exited: return "exited";
    case Phase::unknown: return "unknown";
  }
  return "unknown";
}

namespace supervise {
namespace {

std::int64_t delay_of(const RestartPolicy& policy, std::uint64_t failures_in_row) {
  if (failures_in_row == 0) return 0;
  double delay = static_cast<double>(policy.first_delay_ns);
  const auto longest = static_cast<double>(policy.longest_delay_ns);
  for (std::uint64_t i = 1; i < failures_in_row && delay < longest; ++i) delay *= policy.factor;
  return static_cast<std::int64_t>(std::clamp(delay, 0.0, longest));
}

}  // namespace

Decision decide(const RestartPolicy& policy, const RunResult& run, std::uint64_t& failures_in_row) {
  using Kind = RestartPolicy::Kind;
  if (run.stop_wanted || policy.kind == Kind::no) return {};
  if (policy.kind == Kind::on_failure && run.success) return {};
  if (run.ran_ns >= policy.reset_after_ns) failures_in_row = 0;
  if (policy.kind == Kind::on_failure && policy.most != 0 && failures_in_row >= policy.most) return {};
  const Decision decision{true, delay_of(policy, failures_in_row)};
  ++failures_in_row;
  return decision;
}

}  // namespace supervise
}  // namespace skink
