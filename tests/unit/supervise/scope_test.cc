// SPDX-License-Identifier: Apache-2.0
#include "supervise/scope.h"

#include <gtest/gtest.h>

#include <algorithm>

namespace skink::supervise {
namespace {

std::optional<std::uint64_t> number(const std::vector<cgroup::Property>& properties, std::string_view name) {
  const auto found = std::ranges::find(properties, name, &cgroup::Property::first);
  return found == properties.end() ? std::nullopt : std::optional(found->second.number);
}

TEST(PropertiesOfScope, NoDefaultOfSystemdsCutsShortWhatTheContainerMay) {
  struct Row {
    std::int64_t stop_seconds;
    std::uint64_t at_least;
  };
  for (const Row& row : {Row{0, 30}, Row{10, 90}, Row{60, 90}, Row{600, 630}, Row{9'223'372'036, 9'223'372'066}}) {
    const auto properties = properties_of_scope(row.stop_seconds * 1'000'000'000, {});

    EXPECT_EQ(number(properties, "TasksMax"), ~0ULL) << "else 15 % of what the machine can have";
    EXPECT_GE(number(properties, "TimeoutStopUSec"), row.at_least * 1'000'000) << row.stop_seconds;
    EXPECT_EQ(number(properties, "KillSignal"), static_cast<std::uint64_t>(kScopeStopSignal));
  }
}

TEST(PropertiesOfScope, StopsBeforeWhatItIsStoppedAfter) {
  const auto properties = properties_of_scope(0, {"network.target"});

  const auto after = std::ranges::find(properties, "After", &cgroup::Property::first);
  ASSERT_NE(after, properties.end());
  EXPECT_EQ(after->second, cgroup::bus::array("s", {cgroup::bus::text("network.target")}));
}

}  // namespace
}  // namespace skink::supervise
