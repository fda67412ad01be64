// SPDX-License-Identifier: Apache-2.0
// OpenMetrics text: how it is written, and what of a container is in it.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "cli/exposition.h"
#include "cli/metrics_text.h"

namespace skink::cli {
namespace {

using testing::HasSubstr;
using testing::Not;

TEST(MetricLabel, EscapesWhatTheFormatNames) {
  EXPECT_EQ(metric_label("a", "plain, {b}=c"), "a=\"plain, {b}=c\"");
  EXPECT_EQ(metric_label("a", "say \"hi\""), R"(a="say \"hi\"")");
  EXPECT_EQ(metric_label("a", "C:\\DIR"), R"(a="C:\\DIR")");
  EXPECT_EQ(metric_label("a", "one\ntwo\n"), R"(a="one\ntwo\n")");
  EXPECT_EQ(metric_label("a", ""), "a=\"\"");
}

TEST(MetricLabel, IsUtf8ThatSteersNoTerminal) {
  EXPECT_EQ(metric_label("a", "é"), "a=\"é\"");
  EXPECT_EQ(metric_label("a", "\xff\x1b["), R"(a="\\xff\\x1b[")");
}

TEST(Seconds, AreExact) {
  EXPECT_EQ(seconds_text(0), "0");
  EXPECT_EQ(seconds_text(1), "0.000000001");
  EXPECT_EQ(seconds_text(1'500'000'000), "1.5");
  EXPECT_EQ(seconds_text(1'795'404'863'000'000'000), "1795404863");
  EXPECT_EQ(seconds_text(18'446'744'073'709'551'615U), "18446744073.709551615");
}

TEST(Exposition, WritesEachFamilyInOnePiece) {
  constexpr MetricFamily kFamilies[] = {{MetricFamily::Type::counter, "x_seconds", "seconds", "Time."},
                                        {MetricFamily::Type::gauge, "unused", "", "Nothing."},
                                        {MetricFamily::Type::gauge, "y", "", "Why."}};
  Exposition out(kFamilies);

  out.add(2, "", "1");
  out.add(0, "id=\"a\"", "0.5");
  out.add(2, "id=\"b\"", "2");
  out.add(0, "id=\"b\"", "7");

  EXPECT_EQ(out.text(),
            "# TYPE x_seconds counter\n# UNIT x_seconds seconds\n# HELP x_seconds Time.\n"
            "x_seconds_total{id=\"a\"} 0.5\nx_seconds_total{id=\"b\"} 7\n"
            "# TYPE y gauge\n# HELP y Why.\ny 1\ny{id=\"b\"} 2\n"
            "# EOF\n");
}

ContainerSample web_sample() {
  ContainerSample sample;
  sample.info.id = std::string(64, 'a');
  sample.info.name = "web";
  sample.info.phase = Phase::running;
  sample.info.restarts = 3;
  return sample;
}

TEST(MetricsText, OfNoContainersIsWhole) {
  const std::string text = metrics_text({}, true);

  EXPECT_THAT(text, HasSubstr("skink_containers{state=\"running\"} 0\n"));
  EXPECT_THAT(text, Not(HasSubstr("skink_container_")));
  EXPECT_TRUE(text.ends_with("\n# EOF\n"));
}

TEST(MetricsText, CountsContainersOnlyWhenAllAreThere) {
  EXPECT_THAT(metrics_text({web_sample()}, true), HasSubstr("skink_containers{state=\"running\"} 1\n"));
  EXPECT_THAT(metrics_text({web_sample()}, false), Not(HasSubstr("skink_containers")));
}

TEST(MetricsText, WhatIsNotKnownHasNoSeries) {
  const std::string text = metrics_text({web_sample()}, false);

  EXPECT_THAT(text, HasSubstr("skink_container_restarts_total{id=\"" + std::string(64, 'a') + "\",name=\"web\"} 3\n"));
  for (const char* absent : {"memory", "pressure", "network", "last_exit", "created", "cpu", "pids"})
    EXPECT_THAT(text, Not(HasSubstr(std::string("skink_container_") + absent)));
}

TEST(MetricsText, TimesAreSecondsAndSizesBytes) {
  ContainerSample sample = web_sample();
  auto& use = sample.use.emplace();
  use.cpu.total_ns = 2'500'000'000;
  use.memory.anon = 4096;
  use.cpu_pressure.emplace().some.total = 1'500'000;
  sample.interfaces = {{"eth0", {1, 2, 3, 4}, {5, 6, 7, 8}}};

  const std::string text = metrics_text({sample}, false);

  const std::string labels = "{id=\"" + std::string(64, 'a') + "\",name=\"web\"";
  EXPECT_THAT(text, HasSubstr("skink_container_cpu_usage_seconds_total" + labels + "} 2.5\n"));
  EXPECT_THAT(text, HasSubstr("skink_container_memory_anon_bytes" + labels + "} 4096\n"));
  EXPECT_THAT(text, HasSubstr("skink_container_pressure_waiting_seconds_total" + labels + ",resource=\"cpu\"} 1.5\n"));
  EXPECT_THAT(text, HasSubstr("skink_container_network_receive_drops_total" + labels + ",interface=\"eth0\"} 4\n"));
  EXPECT_THAT(text, HasSubstr("skink_container_network_transmit_bytes_total" + labels + ",interface=\"eth0\"} 5\n"));
}

TEST(MetricsText, AnEndThatNobodySawHasNoCode) {
  ContainerSample sample = web_sample();
  sample.info.last_exit = LastExit{.status = 137, .signal = 9, .oom = true, .error = {}};
  EXPECT_THAT(metrics_text({sample}, false), HasSubstr("skink_container_last_exit_code{"));

  sample.info.last_exit->known = false;

  EXPECT_THAT(metrics_text({sample}, false), Not(HasSubstr("last_exit")));
}

}  // namespace
}  // namespace skink::cli
