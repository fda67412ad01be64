// SPDX-License-Identifier: Apache-2.0
#include "supervise/cri_lines.h"

#include <gtest/gtest.h>

#include <string>

namespace skink::supervise {
namespace {

constexpr std::int64_t kTime = 1'475'713'029'669'794'202;
constexpr const char* kStamp = "2016-10-06T00:17:09.669794202Z";

class CriLinesTest : public ::testing::Test {
 protected:
  void say(Stream stream, std::string_view bytes, std::int64_t time_ns = kTime) {
    while (!bytes.empty()) bytes.remove_prefix(lines_.take(stream, time_ns, bytes, text_));
  }
  static std::string line(std::string_view rest) { return str(kStamp, ' ', rest, '\n'); }

  CriLines lines_{8};
  std::string text_;
};

TEST_F(CriLinesTest, ALineIsFullAndKeepsItsBytes) {
  say(Stream::out, std::string_view("a\0\r\xff\n", 5));
  say(Stream::err, "\n");

  EXPECT_EQ(text_, line(std::string_view("stdout F a\0\r\xff", 13)) + line("stderr F "));
}

TEST_F(CriLinesTest, ALongLineIsParts) {
  say(Stream::out, "0123456789abcdefg\n");

  EXPECT_EQ(text_, line("stdout P 01234567") + line("stdout P 89abcdef") + line("stdout F g"));
}

TEST_F(CriLinesTest, ALineThatFillsItsPartsEndsByAnEmptyOne) {
  say(Stream::out, "01234567\nx\n");

  EXPECT_EQ(text_, line("stdout P 01234567") + line("stdout F ") + line("stdout F x"));
}

TEST_F(CriLinesTest, ALineInPiecesHasTheTimeOfItsLastByte) {
  say(Stream::out, "one", 1);
  say(Stream::err, "two\n");
  say(Stream::out, " and\n", kTime);

  EXPECT_EQ(text_, line("stderr F two") + line("stdout F one and"));
}

TEST_F(CriLinesTest, WhatIsCutEndsAndNothingIsCutBetweenLines) {
  say(Stream::out, "whole\nhalf");
  lines_.cut(Stream::out, text_);
  lines_.cut(Stream::out, text_);
  say(Stream::out, "01234567");
  lines_.cut(Stream::out, text_);

  EXPECT_EQ(text_, line("stdout F whole") + line("stdout F half") + line("stdout P 01234567") + line("stdout F "));
}

TEST_F(CriLinesTest, AGapIsTold) {
  say(Stream::out, "half");
  lines_.gap({Stream::out, kTime, {}, 7, Loss::disk_full}, text_);

  EXPECT_EQ(text_,
            line("stdout F half") + line("stderr F skink: 7 bytes of output are missing here: the disk was full"));
}

TEST_F(CriLinesTest, WhatHasNoEndIsAPart) {
  say(Stream::err, "prompt");
  EXPECT_EQ(lines_.held(Stream::err), 6u);
  lines_.finish(text_);

  EXPECT_EQ(text_, line("stderr P prompt"));
}

// As a successor does it, which knows of a line only that a part of it is written.
TEST_F(CriLinesTest, APlaceWithinALineIsRestored) {
  say(Stream::out, "01234567");
  CriLines after{8};
  after.restore(Stream::out, lines_.part_ns(Stream::out));
  after.cut(Stream::out, text_);

  EXPECT_EQ(text_, line("stdout P 01234567") + line("stdout F "));
}

}  // namespace
}  // namespace skink::supervise
