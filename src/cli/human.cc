// SPDX-License-Identifier: Apache-2.0
// Times, sizes and states in words.
#include "cli/human.h"

#include <array>
#include <cmath>
#include <cstdio>
#include <ctime>

#include "base/durations.h"
#include "base/text.h"

namespace skink::cli {

namespace {

std::string fixed(double value, int digits, std::string_view unit) {
  std::array<char, 48> buffer{};
  const int length = std::snprintf(buffer.data(), buffer.size(), "%.*g", digits, value);
  return str(std::string_view(buffer.data(), static_cast<std::size_t>(length)), unit);
}

// Seconds below ten keep one digit after the point, so that a wait is never "0 s".
std::string short_wait(std::int64_t ns) {
  if (ns <= 0) return "now";
  if (ns < kSecond) return str("in ", (ns + 999'999) / 1'000'000, " ms");
  return str("in ", (ns + kSecond - 1) / kSecond, " s");
}

std::string exited_text(const ContainerInfo& container, std::int64_t now_ns) {
  const auto& last = container.last_exit;
  const std::string ago = human_ago(container.finished_ns != 0 ? container.finished_ns
                                    : last                     ? last->at_ns
                                                               : 0,
                                    now_ns);
  if (!last) return str("Exited ", ago);
  if (!last->known) return ago == "N/A" ? "Exited (unknown)" : str("Exited (unknown) ", ago);
  std::string text = str("Exited (", last->status, ") ", ago);
  if (last->oom) text += ", out of memory";
  if (!last->error.empty()) text += str(", ", shortened(last->error, 100));
  return text;
}

std::string health_text(const ContainerInfo& container) {
  if (container.health == "starting") return " (health: starting)";
  if (!container.health.empty()) return str(" (", container.health, container.ready == false ? ", not ready)" : ")");
  return container.ready == false ? " (not ready)" : "";
}

}  // namespace

std::string human_duration(std::int64_t ns) {
  const std::int64_t seconds = ns / kSecond;
  const std::int64_t minutes = seconds / 60;
  const std::int64_t hours = (seconds + 1800) / 3600;  // to the nearest, as docker rounds
  if (seconds < 1) return "Less than a second";
  if (seconds == 1) return "1 second";
  if (seconds < 60) return str(seconds, " seconds");
  if (minutes == 1) return "About a minute";
  if (minutes < 60) return str(minutes, " minutes");
  if (hours == 1) return "About an hour";
  if (hours < 48) return str(hours, " hours");
  if (hours < 24 * 14) return str(hours / 24, " days");
  if (hours < 24 * 60) return str(hours / 24 / 7, " weeks");
  if (hours < 24 * 365 * 2) return str(hours / 24 / 30, " months");
  return str(hours / 24 / 365, " years");
}

std::string human_ago(std::int64_t then_ns, std::int64_t now_ns) {
  if (then_ns == 0) return "N/A";
  return str(human_duration(now_ns > then_ns ? now_ns - then_ns : 0), " ago");
}

std::string human_size(std::int64_t bytes) {
  constexpr std::array<std::string_view, 6> kUnits{"B", "kB", "MB", "GB", "TB", "PB"};
  auto value = static_cast<double>(bytes);
  std::size_t unit = 0;
  while (value >= 1000.0 && unit + 1 < kUnits.size()) {
    value /= 1000.0;
    ++unit;
  }
  return fixed(value, 3, kUnits[unit]);
}

std::string human_limit(std::int64_t bytes) {
  constexpr std::array<std::string_view, 5> kUnits{" bytes", " KiB", " MiB", " GiB", " TiB"};
  auto value = static_cast<double>(bytes);
  std::size_t unit = 0;
  while (value >= 1024.0 && unit + 1 < kUnits.size()) {
    value /= 1024.0;
    ++unit;
  }
  return fixed(value, 4, kUnits[unit]);
}

std::string two_decimals(double value) {
  const long long hundredths = std::llround(value * 100.0);
  return str(hundredths / 100, '.', hundredths % 100 / 10, hundredths % 10);
}

std::string human_date(std::int64_t unix_ns) {
  const auto seconds = static_cast<std::time_t>(unix_ns / kSecond);
  std::tm parts{};
  if (gmtime_r(&seconds, &parts) == nullptr) return "N/A";
  std::array<char, 64> buffer{};
  const std::size_t length = std::strftime(buffer.data(), buffer.size(), "%Y-%m-%d %H:%M:%S +0000 UTC", &parts);
  return {buffer.data(), length};
}

std::string status_text(const ContainerInfo& container, std::int64_t now_ns) {
  if (!container.problem.empty()) return str("Corrupt: ", shortened(container.problem, 100));
  const std::int64_t up = container.started_ns != 0 ? now_ns - container.started_ns : 0;
  switch (container.phase) {
    case Phase::created: return "Created";
    case Phase::running:
      return str("Up ", human_duration(up), health_text(container), container.said.empty() ? "" : ": ",
                 shortened(container.said, 40));
    case Phase::paused: return str("Up ", human_duration(up), " (Paused)");
    case Phase::restarting: {
      std::string text = "Restarting";
      if (container.last_exit && container.last_exit->known) text += str(" (", container.last_exit->status, ')');
      if (container.last_exit && container.last_exit->oom) text += ", out of memory";
      return str(text, ", next try ", short_wait(container.next_try_ns - now_ns));
    }
    case Phase::exited: return exited_text(container, now_ns);
    case Phase::unknown: break;
  }
  return "Unknown";
}

std::string relaunches_text(std::uint64_t relaunches) {
  if (relaunches == 0) return {};
  return relaunches == 1 ? ", relaunched once" : str(", relaunched ", relaunches, " times");
}

std::string command_text(const std::vector<std::string>& command, std::size_t most) {
  std::string joined;
  for (const auto& word : command) {
    if (!joined.empty()) joined += ' ';
    joined += word;
  }
  return str('"', shortened(joined, most), '"');
}

std::string short_id(std::string_view id) {
  if (id.starts_with("sha256:")) id.remove_prefix(7);
  return printable(id.substr(0, 12));
}

std::string shortened(std::string_view text, std::size_t most) {
  std::string shown = printable(text);
  if (most == 0) return shown;
  std::size_t characters = 0;
  std::size_t cut = 0;  // where the text is cut when it is too long: before its character number `most`
  for (std::size_t i = 0; i < shown.size(); ++i) {
    if ((static_cast<unsigned char>(shown[i]) & 0xc0U) == 0x80) continue;
    if (++characters == most) cut = i;
  }
  if (characters <= most) return shown;
  return str(std::string_view(shown).substr(0, cut), "…");
}

}  // namespace skink::cli
