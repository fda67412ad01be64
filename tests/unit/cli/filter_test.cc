// SPDX-License-Identifier: Apache-2.0
// Which containers `ps` shows.
#include <gtest/gtest.h>

#include "cli/ps.h"

namespace skink::cli {
namespace {

ContainerInfo web() {
  ContainerInfo info;
  info.id = "0123456789abcdef";
  info.name = "web-1";
  info.image = "web:1.1";
  info.image_id = "sha256:aa";
  info.phase = Phase::exited;
  info.last_exit = LastExit{.status = 3, .error = {}};
  info.labels = {{"app", "web"}, {"tier", "front"}};
  return info;
}

bool shown(std::vector<std::string> filters, const ContainerInfo& info = web()) {
  std::vector<Filter> parsed;
  for (const auto& text : filters) {
    auto filter = parse_filter(text);
    EXPECT_TRUE(filter) << text;
    if (filter) parsed.push_back(*filter);
  }
  return fits(info, parsed, [](const std::string& name) { return name == "stable" ? "sha256:aa" : ""; });
}

TEST(Filter, NamesFitByAPartAndByAnchors) {
  EXPECT_TRUE(shown({"name=web"}));
  EXPECT_TRUE(shown({"name=^/?web-1$"}));
  EXPECT_TRUE(shown({"name=-1$"}));
  EXPECT_FALSE(shown({"name=^web$"}));
  EXPECT_FALSE(shown({"name=db"}));
}

TEST(Filter, OneKeySeveralTimesMeansAnyOfThem) {
  EXPECT_TRUE(shown({"name=db", "name=web"}));
  EXPECT_TRUE(shown({"status=running", "status=exited"}));
}

TEST(Filter, LabelsMustAllFit) {
  EXPECT_TRUE(shown({"label=app", "label=tier=front"}));
  EXPECT_FALSE(shown({"label=app=web", "label=tier=back"}));
}

TEST(Filter, DifferentKeysMustAllFit) { EXPECT_FALSE(shown({"name=web", "status=running"})); }

TEST(Filter, ImagesFitByTheNameGivenOrByWhatANameMeansNow) {
  EXPECT_TRUE(shown({"ancestor=web:1.1"}));
  EXPECT_TRUE(shown({"ancestor=stable"}));
  EXPECT_FALSE(shown({"ancestor=other"}));
}

TEST(Filter, IdsFitByTheirBeginning) {
  EXPECT_TRUE(shown({"id=0123"}));
  EXPECT_FALSE(shown({"id=123"}));
}

TEST(Filter, ExitStatusesFitOnlyContainersThatHaveEnded) {
  EXPECT_TRUE(shown({"exited=3"}));
  EXPECT_FALSE(shown({"exited=0"}));
  ContainerInfo running = web();
  running.phase = Phase::running;
  EXPECT_FALSE(shown({"exited=3"}, running));
}

TEST(Filter, DamagedContainersAreTheirOwnState) {
  ContainerInfo damaged = web();
  damaged.problem = "truncated";
  EXPECT_TRUE(shown({"status=corrupt"}, damaged));
  EXPECT_FALSE(shown({"status=exited"}, damaged));
  EXPECT_TRUE(is_active(damaged)) << "people should see it without -a";
}

TEST(Filter, MistakesAreNamed) {
  EXPECT_EQ(parse_filter("name").error().text(), "\"name\" is not KEY=VALUE");
  EXPECT_EQ(parse_filter("colour=red").error().text(),
            "\"colour\" is not a filter: name, status, label, ancestor, id or exited");
  EXPECT_FALSE(parse_filter("status=dead"));
  EXPECT_FALSE(parse_filter("exited=x"));
}

TEST(Filter, WithoutDashAOnlyActiveContainersAreShown) {
  ContainerInfo info = web();
  EXPECT_FALSE(is_active(info));
  for (const Phase phase : {Phase::running, Phase::paused, Phase::restarting, Phase::unknown}) {
    info.phase = phase;
    EXPECT_TRUE(is_active(info));
  }
}

}  // namespace
}  // namespace skink::cli
