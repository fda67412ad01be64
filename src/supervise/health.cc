// SPDX-License-Identifier: Apache-2.0
// The probes of a run: when they are asked (how: probe_ask.cc), and what their answers mean. Every answer comes through
// the loop; what waits, for a moment, is the look whether the container is about to end (is_ending), and without a
// guard the start of a probe's process.
#include <unistd.h>

#include <algorithm>
#include <utility>

#include "base/text.h"
#include "fs/dir.h"
#include "supervise/supervisor.h"

namespace skink::supervise {
namespace {

constexpr std::size_t kStartup = 0, kLiveness = 1, kReadiness = 2;
constexpr std::size_t kMostPrinted = 4096;
// Whoever changes its mind without end is told of once a second, after a burst: the log of events is everybody's.
constexpr std::int64_t kHealthNs = 1'000'000'000, kHealthBurstNs = 10 * kHealthNs;

}  // namespace

std::string_view Supervisor::name_of(const ProbeState& state) const {
  constexpr std::string_view kWords[] = {"startup", "liveness", "readiness"};
  return kWords[static_cast<std::size_t>(&state - probes_.data())];
}

// At the start of a run, and when a successor takes one over: then what has passed has passed, what was counted counts,
// and what was put off is still to wait for.
void Supervisor::begin_probes() {
  const Probes& probes = container_.probes;
  const Probe* const list[] = {&probes.startup, &probes.liveness, &probes.readiness};
  const std::int64_t now = fs::monotonic_ns();
  const bool any = probes.startup.kind != Probe::Kind::none || probes.liveness.kind != Probe::Kind::none;
  const bool adopted = status_.probes_from_ns != 0;
  if (!adopted) status_.probes_from_ns = now;
  if (!adopted) status_.probe_health = any ? "starting" : "";
  if (!adopted || probes.readiness.kind == Probe::Kind::none) status_.probe_ready = false;
  if (probes.startup.kind == Probe::Kind::none) status_.startup_passed = true;
  if (!adopted) (void)::unlinkat(kFdRunDir, kHealthFile, 0);
  for (std::size_t i = 0; i < probes_.size(); ++i) {
    close_attempt(probes_[i]);
    probes_[i] = ProbeState{};
    if (list[i]->kind == Probe::Kind::none) continue;
    probes_[i].probe = list[i];
    probes_[i].passed = i == kLiveness ? status_.probe_health == "healthy" : i == kReadiness && status_.probe_ready;
    const ProbeTally& tally = status_.probe_tallies[i];
    probes_[i].failures = tally.failures;
    probes_[i].successes = tally.successes;
    if ((i == kStartup) == !status_.startup_passed)
      probes_[i].next_ns = std::max({now, status_.probes_from_ns + list[i]->delay_ns, tally.next_ns}) + 1;
  }
  show_health(false);
}

void Supervisor::end_probes() {
  for (auto& state : probes_) {
    end_asking(state);
    close_attempt(state);
    state = ProbeState{};
  }
  if (health_again_ns_ != 0) tell_event("health_status", {{"health", status_.health}});
  health_again_ns_ = 0;
  health_told_.clear();
  status_.health.clear();
  status_.probe_health.clear();
  status_.ready.reset();
  watchdog_at_ns_ = 0;
}

// Before a pause: a process that stands still on its way is no answer, and is asked for anew afterwards.
void Supervisor::put_off_launches() {
  for (auto& state : probes_) {
    if (state.launching == 0) continue;
    state.launching = 0;
    close_watched(state.output);
    state.deadline_ns = 0;
    state.next_ns = fs::monotonic_ns() + 1;
  }
}

// After a pause: what could not answer is given its time again.
void Supervisor::resume_probes() {
  const std::int64_t now = fs::monotonic_ns();
  for (auto& state : probes_) {
    if (state.deadline_ns != 0) state.deadline_ns = now + state.probe->timeout_ns;
    if (state.next_ns != 0) state.next_ns = std::max(state.next_ns, now + 1);
  }
  arm_watchdog();
}

void Supervisor::probe_done(ProbeState& state, const ProbeResult& result) {
  const std::int64_t now = fs::monotonic_ns();
  close_attempt(state);
  state.pid = 0;
  state.held_up = false;
  state.deadline_ns = 0;
  state.next_ns = now + state.probe->interval_ns;
  const std::string told = str(result.good ? "good: " : "bad: ", result.text.substr(0, kMostPrinted));
  if (told != state.told) {
    state.told = told;
    write_probe_texts();
  }
  if (result.good) {
    state.failures = 0;
    state.successes = std::min(state.successes + 1, state.probe->successes);
    keep_tally(state);
    if (state.successes >= state.probe->successes) probe_changed(state, true);
    return;
  }
  state.successes = 0;
  // While it may still be starting a failure says nothing.
  const bool counts = state.passed || now - status_.started_mono_ns >= state.probe->grace_ns;
  if (counts) ++state.failures;
  keep_tally(state);
  // What answers no more because it has ended is judged by how it has ended.
  if (counts && state.failures >= state.probe->failures && !is_ending()) probe_changed(state, false);
}

// For a successor. Of a probe that is content there is nothing to keep, so that asking costs no writing.
void Supervisor::keep_tally(const ProbeState& state) {
  const bool content = state.failures == 0 && state.successes >= state.probe->successes;
  ProbeTally& kept = status_.probe_tallies[static_cast<std::size_t>(&state - probes_.data())];
  const ProbeTally now = content ? ProbeTally{} : ProbeTally{state.failures, state.successes, state.next_ns};
  if (std::exchange(kept, now) != now) save();
}

// A process that ends closes what it has and takes its namespace along before it can be seen to have ended.
bool Supervisor::is_ending() const {
  constexpr int kMomentMs = 20;
  if (init_gone_ || init_is_over(kMomentMs)) return true;
  const auto now = sys::activity(status_.init);
  return now ? now->exiting : now.error().code() == Code::not_found;
}

// It has succeeded or failed as often as it had to.
void Supervisor::probe_changed(ProbeState& state, bool good) {
  const auto index = static_cast<std::size_t>(&state - probes_.data());
  state.passed = state.passed || good;
  if (index == kReadiness) {
    if (status_.probe_ready == good) return;
    status_.probe_ready = good;
    show_health(true);
    return;
  }
  if (index == kStartup && good) {
    // The others begin now.
    state.next_ns = 0;
    status_.startup_passed = true;
    status_.probe_tallies = {};
    if (probes_[kLiveness].probe == nullptr) status_.probe_health = "healthy";
    const std::int64_t now = status_.probes_from_ns = fs::monotonic_ns();
    for (const auto other : {kLiveness, kReadiness})
      if (probes_[other].probe != nullptr) probes_[other].next_ns = now + probes_[other].probe->delay_ns + 1;
    show_health(true);
    return;
  }
  const std::string_view health = good ? "healthy" : "unhealthy";
  if (status_.probe_health != health) {
    status_.probe_health = health;
    show_health(true);
  }
  if (!good) probe_failed(state);
}

void Supervisor::probe_failed(const ProbeState& state) {
  constexpr std::size_t kMostShown = 200;
  fail_run(str("its ", name_of(state), " probe (", to_text(*state.probe).substr(0, kMostShown), ") failed ",
               state.failures, state.failures == 1 ? " time" : " times in a row", ", ", state.told));
}

// With the policy no nobody would start it again: then it is only told.
void Supervisor::fail_run(std::string why) {
  if (container_.restart.kind == RestartPolicy::Kind::no || status_.stop_wanted || !status_.probe_failure.empty())
    return;
  status_.probe_failure = std::move(why);
  stop_within(container_.stop_timeout_ns);
}

namespace {

// What two say of one run, each of which may have nothing to say.
std::string_view worse_of(std::string_view a, std::string_view b) {
  for (const std::string_view word : {"unhealthy", "starting", "healthy"})
    if (a == word || b == word) return word;
  return "";
}

}  // namespace

// Health and readiness out of what the probes and the program itself say.
void Supervisor::show_health(bool tell) {
  const std::string health(worse_of(status_.probe_health, watchdog_health()));
  const bool by_probe = container_.probes.readiness.kind != Probe::Kind::none;
  const bool by_program = container_.ready_by == ReadyBy::container;
  std::optional<bool> ready;
  if (by_probe || by_program)
    ready = (!by_probe || status_.probe_ready) && (!by_program || (status_.said.ready && !status_.said.stopping));
  const bool ready_news = ready != status_.ready && ready.has_value();
  status_.health = health;
  status_.ready = ready;
  if (!tell) {
    health_told_ = health;
    return;
  }
  tell_health();
  if (ready_news) tell_event("ready", {{"ready", *ready}});
  save();
  tell_changed();
}

void Supervisor::tell_health() {
  health_again_ns_ = 0;
  if (status_.health == health_told_) return;
  if (status_.health == "healthy" || status_.health == "unhealthy") {
    const std::int64_t now = fs::monotonic_ns();
    if (health_paid_ns_ - now > kHealthBurstNs) {
      health_again_ns_ = health_paid_ns_ - kHealthBurstNs;
      return;
    }
    health_paid_ns_ = std::max(health_paid_ns_, now) + kHealthNs;
    tell_event("health_status", {{"health", status_.health}});
  }
  health_told_ = status_.health;
}

void Supervisor::write_probe_texts() {
  std::string text;
  for (const auto& state : probes_)
    if (!state.told.empty()) text += str(name_of(state), ": ", state.told, '\n');
  if (!watchdog_told_.empty()) text += str("watchdog: ", watchdog_told_, '\n');
  (void)fs::write_file_atomic(kFdRunDir, kHealthFile, text, 0600);
}

}  // namespace skink::supervise
