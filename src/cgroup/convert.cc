// SPDX-License-Identifier: Apache-2.0
#include "cgroup/convert.h"

#include <algorithm>
#include <cmath>
#include <optional>
#include <utility>
#include <vector>

#include "base/text.h"

namespace skink::cgroup {
namespace {

using Range = std::pair<unsigned, unsigned>;

// "0-3,8" as ranges; nothing when it is no list.
std::optional<std::vector<Range>> parse_list(std::string_view text) {
  std::vector<Range> ranges;
  for (const std::string_view piece : split(text, ',')) {
    const auto ends = split_once(piece, '-');
    const auto from = parse_int<unsigned>(ends ? ends->first : piece);
    const auto to = ends ? parse_int<unsigned>(ends->second) : from;
    if (!from || !to || *to < *from) return std::nullopt;
    ranges.emplace_back(*from, *to);
  }
  std::ranges::sort(ranges);
  return ranges;
}

}  // namespace

std::uint64_t weight_of_shares(std::uint64_t shares) {
  constexpr std::uint64_t kLeast = 2, kMost = 262144;
  if (shares == 0) return 0;
  if (shares <= kLeast) return 1;
  if (shares >= kMost) return 10000;
  // A parabola in log2(shares) through (1, 0), (10, 2) and (18, 4): 2 is 1, 1024 is 100, 262144 is 10000.
  const double log = std::log2(static_cast<double>(shares));
  return static_cast<std::uint64_t>(std::ceil(std::pow(10.0, (log * log + 125.0 * log) / 612.0 - 7.0 / 34.0)));
}

std::uint64_t io_weight_of_blkio(std::uint64_t weight) {
  if (weight == 0) return 0;
  const std::uint64_t inside = std::clamp<std::uint64_t>(weight, 10, 1000);
  return 1 + (inside - 10) * 9999 / 990;
}

Result<std::int64_t> swap_max(std::int64_t swap, std::int64_t limit) {
  if (swap < 0) return std::int64_t{-1};
  if (limit < 0) return swap;
  if (limit == 0)
    return Error::make(Code::invalid_config,
                       "counts memory and swap together and needs linux.resources.memory.limit beside it on cgroup v2");
  if (swap < limit)
    return Error::make(Code::invalid_config, swap, " is less than the memory limit of ", limit,
                       "; it counts memory and swap together");
  return swap - limit;
}

std::string or_max(std::int64_t value) { return value < 0 ? "max" : str(value); }

Result<void> check_component(std::string_view name, std::string_view what) {
  const bool odd =
      name.empty() || name == "." || name == ".." || name.size() > 255 ||
      std::ranges::any_of(name, [](char c) { return c == '/' || c == 0x7f || static_cast<unsigned char>(c) < 0x20; });
  if (!odd) return {};
  return Error::make(Code::invalid_config, what, ": ", quoted(name.substr(0, 64)), " is not a plain file name");
}

bool list_within(std::string_view some, std::string_view all) {
  const auto wanted = parse_list(some), offered = parse_list(all);
  if (!wanted || !offered) return false;
  return std::ranges::all_of(*wanted, [&](const Range& range) {
    // Offered ranges are sorted and may touch: cover the range from its left end on.
    unsigned next = range.first;
    for (const Range& have : *offered) {
      if (have.first <= next && next <= have.second) {
        if (have.second >= range.second) return true;
        next = have.second + 1;
      }
    }
    return false;
  });
}

}  // namespace skink::cgroup
