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

Result<StatusRanges> parse_status_ranges(std::string_view text) {
  StatusRanges ranges;
  if (text.empty()) return ranges;
  for (const auto piece : split(text, ',')) {
    const auto ends = split_once(piece, '-');
    const auto first = parse_int<int>(ends ? ends->first : piece);
    const auto last = ends ? parse_int<int>(ends->second) : first;
    if (!first || !last || *first < 0 || *last > 255 || *first > *last)
      return Error::make(Code::invalid_config, quoted(text),
                         ": expected exit statuses from 0 to 255, as in 75,100-110");
    ranges.push_back({*first, *last});
  }
  return ranges;
}

std::string to_text(const StatusRanges& ranges) {
  std::string text;
  for (const auto& [first, last] : ranges)
    text += first == last ? str(text.empty() ? "" : ",", first) : str(text.empty() ? "" : ",", first, '-', last);
  return text;
}

Result<void> parse_restart_budget(std::string_view text, RestartPolicy& policy) {
  const auto refuse = [&] {
    return Error::make(Code::invalid_config, "budget ", quoted(text),
                       ": expected a number of ends and a time, as in 5/1m, or 0 for none");
  };
  constexpr std::uint32_t kMost = 1000;
  const auto parts = split_once(text, '/');
  const auto most = parse_int<std::uint32_t>(parts ? parts->first : text);
  if (!most || *most > kMost || (*most != 0) != parts.has_value()) return refuse();
  std::int64_t time = 0;
  if (parts) {
    const auto parsed = parse_duration_ns(parts->second);
    if (!parsed || *parsed <= 0) return refuse();
    time = *parsed;
  }
  policy.budget = *most;
  policy.budget_ns = time;
  return {};
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

std::int64_t delay_of(const RestartPolicy& policy, std::uint64_t failures_in_row, double chance) {
  if (failures_in_row == 0) return 0;
  double delay = static_cast<double>(policy.first_delay_ns);
  const auto longest = static_cast<double>(policy.longest_delay_ns);
  for (std::uint64_t i = 1; i < failures_in_row && delay < longest; ++i) delay *= policy.factor;
  delay = std::clamp(delay, 0.0, longest) * (1 + policy.jitter * (2 * chance - 1));
  return static_cast<std::int64_t>(delay);
}

}  // namespace

namespace {

bool holds(const StatusRanges& ranges, int status) {
  return std::ranges::any_of(ranges, [status](const auto& r) { return status >= r.first && status <= r.last; });
}

// Notes this end; true when there have been as many as the budget has within its time.
bool spends_budget(const RestartPolicy& policy, const RunResult& run, Streak& streak) {
  if (policy.budget == 0) {
    streak.ends_ns.clear();
    return false;
  }
  std::erase_if(streak.ends_ns, [&](std::int64_t end) { return end + policy.budget_ns < run.now_ns; });
  streak.ends_ns.push_back(run.now_ns);
  return streak.ends_ns.size() >= policy.budget;
}

Decision stay(std::string why) { return {false, 0, std::move(why)}; }

Decision relaunch(std::int64_t delay_ns) {
  return {true, delay_ns, delay_ns == 0 ? "relaunched at once" : str("relaunched after ", duration_text(delay_ns))};
}

}  // namespace

Decision decide(const RestartPolicy& policy, const RunResult& run, Streak& streak) {
  using Kind = RestartPolicy::Kind;
  if (run.stop_wanted) return stay("stopped, as it was told");
  if (policy.kind == Kind::no) return stay("not relaunched: its policy is no");
  const bool spent = spends_budget(policy, run, streak);
  if (holds(policy.never, run.status)) return stay(str("not relaunched: status ", run.status, " is final for it"));
  if (spent)
    return stay(str("given up: it has ended ", policy.budget, " times within ", duration_text(policy.budget_ns)));
  if (holds(policy.at_once, run.status)) return relaunch(0);
  if (policy.kind == Kind::on_failure && run.success) return stay("not relaunched: it has ended well");
  if (run.ran_ns >= policy.reset_after_ns) streak.failures_in_row = 0;
  if (policy.kind == Kind::on_failure && policy.most != 0 && streak.failures_in_row >= policy.most)
    return stay(policy.most == 1 ? "given up after one relaunch"
                                 : str("given up after ", policy.most, " relaunches in a row"));
  const std::int64_t delay = delay_of(policy, streak.failures_in_row, run.chance);
  ++streak.failures_in_row;
  return relaunch(delay);
}

}  // namespace supervise
}  // namespace skink
