// SPDX-License-Identifier: Apache-2.0
// Times, sizes and states in words.
#include "cli/human.h"

#include <gtest/gtest.h>

#include "base/text.h"
#include "cli/load_progress.h"

namespace skink::cli {
namespace {

constexpr std::int64_t kSecond = 1'000'000'000;
constexpr std::int64_t kMinute = 60 * kSecond;
constexpr std::int64_t kHour = 60 * kMinute;
constexpr std::int64_t kDay = 24 * kHour;
constexpr std::int64_t kNow = 1'764'000'000 * kSecond;

ContainerInfo container(Phase phase) {
  ContainerInfo info;
  info.phase = phase;
  info.started_ns = kNow - 3 * kMinute;
  return info;
}

ContainerInfo exited(int status) {
  ContainerInfo info = container(Phase::exited);
  info.finished_ns = kNow - 5 * kSecond;
  info.last_exit = LastExit{.status = status, .error = {}};
  return info;
}

TEST(TwoDecimals, AreRounded) {
  EXPECT_EQ(two_decimals(0), "0.00");
  EXPECT_EQ(two_decimals(0.049), "0.05");
  EXPECT_EQ(two_decimals(99.996), "100.00");
  EXPECT_EQ(two_decimals(1234.5), "1234.50");
}

TEST(HumanDuration, UsesTheLargestUnitThatSaysSomething) {
  EXPECT_EQ(human_duration(0), "Less than a second");
  EXPECT_EQ(human_duration(kSecond), "1 second");
  EXPECT_EQ(human_duration(59 * kSecond), "59 seconds");
  EXPECT_EQ(human_duration(kMinute), "About a minute");
  EXPECT_EQ(human_duration(3 * kMinute), "3 minutes");
  EXPECT_EQ(human_duration(kHour), "About an hour");
  EXPECT_EQ(human_duration(90 * kMinute), "2 hours");
  EXPECT_EQ(human_duration(47 * kHour), "47 hours");
  EXPECT_EQ(human_duration(3 * kDay), "3 days");
  EXPECT_EQ(human_duration(21 * kDay), "3 weeks");
  EXPECT_EQ(human_duration(90 * kDay), "3 months");
  EXPECT_EQ(human_duration(800 * kDay), "2 years");
}

TEST(HumanDuration, AClockThatWentBackGivesNoNegativeAge) {
  EXPECT_EQ(human_ago(kNow + kHour, kNow), "Less than a second ago");
}

TEST(HumanDuration, NoTimeIsNotFiftyYears) { EXPECT_EQ(human_ago(0, kNow), "N/A"); }

TEST(HumanSize, HasThreeDigitsAndDecimalUnits) {
  EXPECT_EQ(human_size(0), "0B");
  EXPECT_EQ(human_size(999), "999B");
  EXPECT_EQ(human_size(1240), "1.24kB");
  EXPECT_EQ(human_size(7'812'345), "7.81MB");
  EXPECT_EQ(human_size(170'000'000), "170MB");
  EXPECT_EQ(human_size(3'200'000'000), "3.2GB");
}

TEST(HumanSize, LimitsAreInPowersOf1024) {
  EXPECT_EQ(human_limit(64 << 20), "64 MiB");
  EXPECT_EQ(human_limit(1536LL << 20), "1.5 GiB");
}

TEST(HumanDate, IsUtc) { EXPECT_EQ(human_date(1'795'404'863 * kSecond), "2026-11-23 03:34:23 +0000 UTC"); }

TEST(StatusText, TellsHowLongAContainerIsUp) {
  EXPECT_EQ(status_text(container(Phase::running), kNow), "Up 3 minutes");
  EXPECT_EQ(status_text(container(Phase::paused), kNow), "Up 3 minutes (Paused)");
  EXPECT_EQ(status_text(container(Phase::created), kNow), "Created");
}

TEST(StatusText, TellsStatusAndReasonOfAnEnd) {
  EXPECT_EQ(status_text(exited(137), kNow), "Exited (137) 5 seconds ago");

  ContainerInfo oom = exited(137);
  oom.last_exit->oom = true;
  EXPECT_EQ(status_text(oom, kNow), "Exited (137) 5 seconds ago, out of memory");

  ContainerInfo failed = exited(127);
  failed.last_exit->error = "exec: \"fo\x1bo\": not found";
  EXPECT_EQ(status_text(failed, kNow), "Exited (127) 5 seconds ago, exec: \"fo\\x1bo\": not found");
}

TEST(StatusText, InventsNothingWhereNobodySawTheEnd) {
  ContainerInfo info = exited(0);
  info.last_exit->known = false;
  EXPECT_EQ(status_text(info, kNow), "Exited (unknown) 5 seconds ago");
  EXPECT_EQ(status_text(container(Phase::unknown), kNow), "Unknown");
}

TEST(StatusText, TellsWhenTheNextTryIs) {
  ContainerInfo info = container(Phase::restarting);
  info.last_exit = LastExit{.status = 1, .error = {}};
  info.next_try_ns = kNow + 12 * kSecond - 1;
  EXPECT_EQ(status_text(info, kNow), "Restarting (1), next try in 12 s");
  info.next_try_ns = kNow + 400'000'000;
  EXPECT_EQ(status_text(info, kNow), "Restarting (1), next try in 400 ms");
  info.next_try_ns = kNow - 1;
  EXPECT_EQ(status_text(info, kNow), "Restarting (1), next try now");
}

TEST(StatusText, DamageComesFirst) {
  ContainerInfo info = container(Phase::running);
  info.problem = "config.json: not JSON";
  EXPECT_EQ(status_text(info, kNow), "Corrupt: config.json: not JSON");
}

TEST(CommandText, IsQuotedCutAndPrintable) {
  EXPECT_EQ(command_text({"sh", "-c", "exit 1"}, 20), "\"sh -c exit 1\"");
  EXPECT_EQ(command_text({"sh", "-c", "sleep 1000000000000"}, 12), "\"sh -c sleep…\"");
  EXPECT_EQ(command_text({"\x1b[2J"}, 0), "\"\\x1b[2J\"");
  EXPECT_EQ(command_text({}, 20), "\"\"");
}

TEST(Shortened, CutsBetweenCharactersNotBytes) {
  EXPECT_EQ(shortened("äöüß", 4), "äöüß");
  EXPECT_EQ(shortened("äöüßé", 4), "äöü…");
}

TEST(ShortId, LeavesTheAlgorithmAway) {
  EXPECT_EQ(short_id("sha256:0123456789abcdef"), "0123456789ab");
  EXPECT_EQ(short_id("0123456789abcdef"), "0123456789ab");
}

TEST(ProgressLine, SaysThatOnlyTheDiskIsWaitedFor) {
  image::LayerProgress layer{
      .state = image::LayerProgress::State::running, .label = "one", .bytes = 1000, .size = 1000};
  const std::string bar = str("one [", std::string(24, '#'), "]  1kB of 1kB");
  EXPECT_EQ(progress_line(layer, 2 * kSecond, 80), bar + "  500B/s");

  layer.state = image::LayerProgress::State::syncing;

  EXPECT_EQ(progress_line(layer, 2 * kSecond, 80), bar + "  writing to disk");
  EXPECT_EQ(progress_line(layer, 2 * kSecond, 20).size(), 20U);
}

}  // namespace
}  // namespace skink::cli
