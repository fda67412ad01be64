// SPDX-License-Identifier: Apache-2.0
#include "base/text.h"

#include <gtest/gtest.h>

namespace skink {
namespace {

TEST(ParseInt, TakesTheWholeTextOrNothing) {
  EXPECT_EQ(parse_int<int>("42"), 42);
  EXPECT_EQ(parse_int<int>("-1"), -1);
  for (const char* bad : {"", " 1", "1 ", "+1", "0x1", "1a", "99999999999", "--1"})
    EXPECT_FALSE(parse_int<int>(bad).has_value()) << bad;
  EXPECT_FALSE(parse_int<unsigned>("-1").has_value());
}

TEST(Printable, EscapesWhatSteersATerminal) {
  EXPECT_EQ(printable("plain ünïcode"), "plain ünïcode");
  EXPECT_EQ(printable("\x1b[2J"), "\\x1b[2J");
  EXPECT_EQ(printable(std::string_view("a\0b\n\x7f", 5)), "a\\x00b\\x0a\\x7f");
  EXPECT_EQ(printable("\xc2\x9b"), "\\u{9b}") << "the 8-bit CSI";
  EXPECT_EQ(printable("\xe2\x80\xae"), "\\u{202e}") << "right-to-left override";
}

TEST(Printable, ShowsBytesThatAreNotUtf8) {
  EXPECT_EQ(printable("\xff\xc0\xaf"), "\\xff\\xc0\\xaf");
  EXPECT_EQ(printable("\xed\xa0\x80"), "\\xed\\xa0\\x80") << "a surrogate";
  EXPECT_EQ(printable("\xe2\x82"), "\\xe2\\x82") << "cut short";
}

TEST(ParseSize, KnowsDockersUnits) {
  EXPECT_EQ(*parse_size("64"), 64);
  EXPECT_EQ(*parse_size("64b"), 64);
  EXPECT_EQ(*parse_size("1k"), 1024);
  EXPECT_EQ(*parse_size("2M"), 2 << 20);
  EXPECT_EQ(*parse_size("3gb"), std::int64_t{3} << 30);
  EXPECT_EQ(*parse_size("-1"), -1);
}

TEST(ParseSize, SaysWhatItTakes) {
  for (const char* bad : {"", "m", "12q", "-2", "1.5g", "9999999999g", "0x10"}) {
    const auto size = parse_size(bad);
    ASSERT_FALSE(size) << bad;
    EXPECT_EQ(size.error().text(),
              str(quoted(bad), " is not a size; use bytes or a number with b, k, m, g or t, as in 64m"));
  }
}

TEST(ParseDuration, KnowsSecondsAndGoForms) {
  EXPECT_EQ(*parse_duration_ns("10"), 10'000'000'000);
  EXPECT_EQ(*parse_duration_ns("100ms"), 100'000'000);
  EXPECT_EQ(*parse_duration_ns("1m30s"), 90'000'000'000);
  EXPECT_EQ(*parse_duration_ns("1.5h"), 5'400'000'000'000);
  for (const char* bad : {"", "-1", "s", "1x", "1s2", "1e5s", "999999999999h"})
    EXPECT_FALSE(parse_duration_ns(bad)) << bad;
}

TEST(Split, KeepsEmptyPieces) {
  EXPECT_EQ(split("a::b", ':').size(), 3U);
  EXPECT_EQ(split("", ':').size(), 1U);
  EXPECT_FALSE(split_once("ab", ':').has_value());
}

TEST(DurationText, NamesTheTwoLargestUnits) {
  EXPECT_EQ(duration_text(0), "0s");
  EXPECT_EQ(duration_text(400'000'000), "400ms");
  EXPECT_EQ(duration_text(1'500'000'000), "1s500ms");
  EXPECT_EQ(duration_text(3'600'000'000'000), "1h");
  EXPECT_EQ(duration_text(3'661'000'000'000), "1h1m");
  EXPECT_EQ(duration_text(61'000'000'001), "1m1s");
  EXPECT_EQ(duration_text(1), "1ns");
}

}  // namespace
}  // namespace skink
