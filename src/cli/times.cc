// SPDX-License-Identifier: Apache-2.0
// Reading points in time.
#include "cli/times.h"

#include "base/durations.h"
#include "base/text.h"
#include "fs/dir.h"

namespace skink::cli {

namespace {

constexpr std::int64_t kMostSeconds = 9'000'000'000;  // the year 2255; more would not fit into nanoseconds

// Seconds with up to nine digits behind the point.
std::optional<std::int64_t> unix_seconds(std::string_view text) {
  const auto pair = split_once(text, '.');
  const auto whole = parse_int<std::int64_t>(pair ? pair->first : text);
  if (!whole || *whole < 0 || *whole > kMostSeconds) return std::nullopt;
  if (!pair) return *whole * kSecond;
  if (pair->second.empty() || pair->second.size() > 9) return std::nullopt;
  auto fraction = parse_int<std::uint32_t>(pair->second);
  if (!fraction) return std::nullopt;
  std::int64_t ns = *fraction;
  for (std::size_t i = pair->second.size(); i < 9; ++i) ns *= 10;
  return *whole * kSecond + ns;
}

}  // namespace

Result<std::int64_t> parse_time(std::string_view text, std::int64_t now_ns) {
  if (const auto seconds = unix_seconds(text)) return *seconds;
  if (const auto time = fs::parse_rfc3339(text)) return *time;
  if (const auto time = fs::parse_rfc3339(str(text, "T00:00:00Z"))) return *time;
  if (const auto time = fs::parse_rfc3339(str(text, 'Z'))) return *time;
  if (const auto before = parse_duration_ns(text)) return now_ns - *before;
  return Error::make(Code::invalid_config, quoted(text),
                     " is not a time: 10m (ago), 2026-11-23T03:34:23Z, 2026-11-23 or Unix seconds");
}

}  // namespace skink::cli
