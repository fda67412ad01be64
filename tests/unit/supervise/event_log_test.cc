// SPDX-License-Identifier: Apache-2.0
#include "supervise/event_log.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "supervise/event_reader.h"
#include "sys/file.h"
#include "temp_dir.h"

namespace skink::supervise {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;

Event started(const std::string& id, const std::string& run = "1.1") {
  Event event;
  event.action = "start";
  event.id = id;
  event.run = run;
  event.attributes = {{"pid", 7}};
  return event;
}

void append_bytes(const TempDir& dir, std::string_view bytes) {
  const auto file = sys::open_at(dir.fd(), kEventFile, O_WRONLY | O_APPEND | O_CREAT, 0600);
  ASSERT_TRUE(file && sys::write_all(file->get(), bytes, kEventFile));
}

std::vector<std::string> ids(EventReader& reader) {
  std::vector<std::string> found;
  reader.read([&](const Event& event) { found.push_back(event.id); });
  return found;
}

TEST(EventLine, ComesBackAsItWasWritten) {
  Event event = started("abc");
  event.time_ns = 5;
  event.name = "web";
  event.image = "web:1.1";
  event.labels = {{"k", "v\n\x1b"}};

  const auto back = parse_event(dump(event));

  ASSERT_TRUE(back) << back.error().text();
  EXPECT_EQ(dump(*back), dump(event));
  EXPECT_EQ(dump(event).find('\n'), std::string::npos);
}

TEST(EventLine, IsShortWhateverIsInIt) {
  Event event = started("abc");
  event.time_ns = 5;
  for (int i = 0; i < 1000; ++i) event.labels[str("label", i)] = std::string(static_cast<std::size_t>(i), '\x01');
  event.attributes["error"] = std::string(100000, '\x02');
  event.image = std::string(5000, 'i');

  const std::string line = dump(event);

  EXPECT_LE(line.size(), kEventLimit);
  EXPECT_TRUE(parse_event(line));
}

TEST(EventLine, KeepsTheShortestLabels) {
  Event event = started("abc");
  event.time_ns = 5;
  event.labels = {{"a", "1"}, {"b", std::string(5000, 'x')}, {"c", "3"}};

  EXPECT_THAT(parse_event(dump(event))->labels, ElementsAre(testing::Pair("a", "1"), testing::Pair("c", "3")));
}

TEST(EventReader, ADamagedLineHidesNoOther) {
  const TempDir dir;
  append_event(dir.fd(), started("a"));
  append_bytes(dir, "\n{\"t\":1,\"type\":\"cont");
  append_event(dir.fd(), started("b"));
  append_bytes(dir, std::string(100000, 'x'));
  append_event(dir.fd(), started("c"));

  auto reader = EventReader::open(dir.path());

  ASSERT_TRUE(reader) << reader.error().text();
  EXPECT_THAT(ids(*reader), ElementsAre("a", "b", "c"));
}

TEST(EventReader, ALineIsReadWhenItIsWhole) {
  const TempDir dir;
  Event event = started("a");
  event.time_ns = 5;
  const std::string line = dump(event);
  auto reader = EventReader::open(dir.path());
  append_bytes(dir, line.substr(0, 20));
  EXPECT_THAT(ids(*reader), IsEmpty());

  append_bytes(dir, line.substr(20) + "\n");

  EXPECT_THAT(ids(*reader), ElementsAre("a"));
}

TEST(EventReader, TheSameOfTheSameRunComesOnce) {
  const TempDir dir;
  for (const char* run : {"1.1", "1.1", "1.2", "1.2", "2.1"}) append_event(dir.fd(), started("a", run));
  append_event(dir.fd(), started("b", "1.1"));
  auto reader = EventReader::open(dir.path());

  EXPECT_THAT(ids(*reader), ElementsAre("a", "a", "a", "b"));
}

TEST(EventReader, ARunIsRememberedWhenTheNextHasBegun) {
  const TempDir dir;
  for (const char* run : {"1.1", "1.2", "1.1", "1.2", "1.3", "1.2"}) append_event(dir.fd(), started("a", run));
  auto reader = EventReader::open(dir.path());

  EXPECT_THAT(ids(*reader), ElementsAre("a", "a", "a"));
}

TEST(EventReader, FollowsOverGenerations) {
  const TempDir dir;
  auto reader = EventReader::open(dir.path());
  std::vector<std::string> wanted, found;
  const auto read = [&] { reader->read([&](const Event& event) { found.push_back(event.id); }); };
  for (int i = 0; i < 2000; ++i) {
    Event event = started(str("id", i));
    event.name = std::string(1500, 'n');
    append_event(dir.fd(), event);
    wanted.push_back(event.id);
    if (i % 100 == 0) read();
  }
  read();

  EXPECT_EQ(found, wanted);
  EXPECT_TRUE(sys::is_there(dir.fd(), kOldEventFile));
}

TEST(EventReader, FindsTheGenerationThatWasPutAsideUnseen) {
  const TempDir dir;
  append_event(dir.fd(), started("first"));
  auto reader = EventReader::open(dir.path());
  EXPECT_THAT(ids(*reader), ElementsAre("first"));
  for (int generation = 0; generation < 2; ++generation) {
    append_event(dir.fd(), started(str("in ", generation)));
    append_bytes(dir, std::string(kEventGeneration, '\n'));
    append_event(dir.fd(), started(str("last of ", generation)));
  }
  append_event(dir.fd(), started("now"));

  EXPECT_THAT(ids(*reader), ElementsAre("in 0", "last of 0", "in 1", "last of 1", "now"));
}

TEST(EventLog, NeverGrowsWithoutEndWhenNobodyCanPutItAside) {
  const TempDir dir;
  append_event(dir.fd(), started("a"));
  const auto lock = fs::Lock::take(sys::open_at(dir.fd(), kEventFile, O_RDWR).value(), fs::Lock::Mode::exclusive, "x");
  for (int i = 0; i < 6; ++i) {
    append_bytes(dir, std::string(kEventGeneration, '\n'));
    append_event(dir.fd(), started("b"));
  }

  EXPECT_LE(sys::stat_at(dir.fd(), kEventFile, 0)->st_size, 5 * kEventGeneration);
}

TEST(EventLog, WhatCannotBeWrittenIsLost) {
  const TempDir dir;
  ASSERT_TRUE(sys::mkdir_at(dir.fd(), kEventFile, 0700));

  append_event(dir.fd(), started("a"));
  append_event(-1, started("b"));

  auto reader = EventReader::open(dir.path());
  EXPECT_THAT(ids(*reader), IsEmpty());
}

}  // namespace
}  // namespace skink::supervise
