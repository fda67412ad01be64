// SPDX-License-Identifier: Apache-2.0
#include "supervise/notices.h"

#include <gtest/gtest.h>

#include "skink/engine.h"
#include "supervise/status.h"

namespace skink::supervise {
namespace {

TEST(Notices, LinesOfADatagramAreTakenEachAndTheRestIsPassedOver) {
  const Notice notice = parse_notice("READY=1\nSTATUS=a=b\nWATCHDOG=1\nWATCHDOG_USEC=2000\nMAINPID=7\nnothing\n");

  EXPECT_TRUE(notice.ready && notice.alive);
  EXPECT_FALSE(notice.stopping || notice.trigger);
  EXPECT_EQ(notice.status, "a=b");
  EXPECT_EQ(notice.watchdog_ns, 2'000'000);
}

TEST(Notices, WhatIsNoNumberOrNoYesSaysNothing) {
  const Notice notice = parse_notice("READY=0\nSTOPPING=yes\nWATCHDOG=later\nWATCHDOG_USEC=-1\nWATCHDOG_USEC=1x");

  EXPECT_FALSE(notice.ready || notice.stopping || notice.alive || notice.trigger);
  EXPECT_FALSE(notice.watchdog_ns || notice.status);
}

TEST(Notices, NoTextAndNoTimeIsLongerThanCanBeKept) {
  const Notice notice = parse_notice("STATUS=" + std::string(5000, 'x') + "\nWATCHDOG_USEC=9223372036854775807");

  EXPECT_EQ(notice.status.value_or("").size(), 512u);
  EXPECT_GT(notice.watchdog_ns.value_or(0), 0);
}

TEST(Notices, ASuccessorReadsWhatWasSaid) {
  Status status;
  status.boot_id = "boot";
  status.said = {.ready = true, .stopping = false, .watched = true, .missed = true, .status = "s", .watchdog_ns = 0};
  status.probe_health = "starting";
  status.probe_ready = true;

  const auto read = parse_status(dump(status));

  ASSERT_TRUE(read.has_value());
  EXPECT_EQ(read->said, status.said);
  EXPECT_TRUE(read->probe_ready && read->probe_health == "starting");
}

TEST(ReadyBy, PodmansWordsGoThereAndBack) {
  for (const auto by : {ReadyBy::conmon, ReadyBy::container, ReadyBy::healthy, ReadyBy::ignore}) {
    const auto read = parse_ready_by(to_text(by));
    ASSERT_TRUE(read.has_value());
    EXPECT_EQ(*read, by);
  }
  EXPECT_FALSE(parse_ready_by("systemd").has_value());
}

}  // namespace
}  // namespace skink::supervise
