// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>

#include "cgroup/cgroup.h"

namespace skink::cgroup {
namespace {

Location sample() {
  return {Layout::hybrid,
          {{{"/sys/fs/cgroup/cpu,cpuacct", "cpu,cpuacct", false}, "/skink/0123"},
           {{"/sys/fs/cgroup/unified", "", true}, "/skink/0123"}}};
}

TEST(DumpLocation, ReadsBackTheSame) {
  const Location before = sample();

  const auto after = parse_location(dump_location(before));

  ASSERT_TRUE(after) << after.error().text();
  EXPECT_EQ(after->layout, before.layout);
  ASSERT_EQ(after->places.size(), 2U);
  for (std::size_t i = 0; i < 2; ++i) {
    EXPECT_EQ(after->places[i].hierarchy, before.places[i].hierarchy);
    EXPECT_EQ(after->places[i].path, before.places[i].path);
  }
}

TEST(ParseLocation, RefusesWhatIsNotALocation) {
  for (const char* text : {"", "[]", "v3", "v2\n", "v2\nx", "v2\n/x\t/sys", "v2\n/x\t\trel", "v2\n/../x\t\t/sys",
                           "v2\n\t\t/sys", "v2\n/x\t\t"})
    EXPECT_FALSE(parse_location(text)) << text;
}

}  // namespace
}  // namespace skink::cgroup
