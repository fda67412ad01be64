// SPDX-License-Identifier: Apache-2.0
// Filters of `skink images` and `skink image prune`.
#include "cli/image_filter.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace skink::cli {
namespace {

using testing::HasSubstr;

std::string error_of(std::string_view text, std::span<const ImageFilter::Key> allowed = kListFilters) {
  const auto filter = parse_image_filter(text, allowed);
  return filter ? "" : filter.error().text();
}

TEST(ImageFilter, SaysWhichKeysTheVerbKnows) {
  EXPECT_EQ(error_of("dangling=true"), "");
  EXPECT_THAT(error_of("dangling=perhaps"), HasSubstr("neither true nor false"));
  EXPECT_EQ(error_of("colour=red"),
            "\"colour\" is not a filter: dangling=, reference=, label=, before=, since=, until=");
  EXPECT_EQ(error_of("reference=x", kPruneFilters), "\"reference\" is not a filter: label=, label!=, until=");
  EXPECT_EQ(error_of("label!=x=y", kPruneFilters), "");
  EXPECT_THAT(error_of("label"), HasSubstr("is not KEY=VALUE"));
  EXPECT_THAT(error_of("reference="), HasSubstr("nothing follows"));
}

TEST(ImageFilter, APatternFitsANameWithOrWithoutItsTag) {
  for (const char* pattern : {"team/web:1", "team/web", "team/*", "*/web:*", "team/w[a-f]b", "team/we?"})
    EXPECT_TRUE(reference_fits("team/web:1", pattern)) << pattern;
  for (const char* pattern : {"web", "*", "team/web:2", "team*", "team/web:"})
    EXPECT_FALSE(reference_fits("team/web:1", pattern)) << pattern;
  EXPECT_TRUE(reference_fits("host:5000/team/web:1", "host:5000/*/web"));
}

}  // namespace
}  // namespace skink::cli
