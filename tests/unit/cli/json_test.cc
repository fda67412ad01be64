// SPDX-License-Identifier: Apache-2.0
// JSON of containers and images, held against docs/json.md.
#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <array>

#include "base/text.h"
#include "cli/container_json.h"
#include "cli/doctor_json.h"
#include "cli/event_json.h"
#include "cli/image_json.h"
#include "cli/stats_json.h"
#include "cli/template.h"
#include "cli/top_table.h"
#include "sys/file.h"

namespace skink::cli {
namespace {

using testing::ElementsAreArray;

constexpr std::int64_t kThen = 1'795'404'863'000'000'000;  // 2026-11-23T03:34:23Z

ContainerInfo web_shown() {
  ContainerInfo info;
  info.id = std::string(64, 'a');
  info.name = "web";
  info.image = "web:1.1";
  info.image_id = "sha256:" + std::string(64, 'b');
  info.command = {"/bin/web", "-p", "80"};
  info.created_ns = info.started_ns = kThen - 180'000'000'000;
  info.phase = Phase::running;
  info.pid = 42;
  info.restarts = 3;
  info.labels = {{"app", "web"}, {"tier", "front"}};
  info.restart.kind = RestartPolicy::Kind::on_failure;
  info.restart.most = 5;
  return info;
}

image::Image base() {
  image::Image image;
  image.id = *oci::Digest::parse("sha256:" + std::string(64, 'c'));
  image.manifest = *oci::Digest::parse("sha256:" + std::string(64, 'd'));
  image.names = {"registry:5000/team/web:1.1", "web:latest"};
  image.config.platform = {"linux", "amd64", ""};
  image.config.created = "2026-11-23T03:34:13Z";
  image.config.run.cmd = std::vector<std::string>{"web"};
  image.config.run.labels = {{"note", "\x1b[2J"}};
  image.config.diff_ids = {*oci::Digest::parse("sha256:" + std::string(64, 'e'))};
  image.size = 7'812'345;
  return image;
}

std::vector<std::string> keys_of(const oci::Json& json) {
  std::vector<std::string> keys;
  for (const auto& [key, value] : json.items()) keys.push_back(key);
  return keys;
}

// The first cells of the table that follows `heading` in docs/json.md: "| `name` | string | ..." gives name.
std::vector<std::string> documented(const std::string& heading, int tables = 1) {
  const auto file = sys::open_at(AT_FDCWD, SKINK_SOURCE "/docs/json.md", O_RDONLY);
  const auto text = file ? sys::read_all(file->get(), 1 << 20, "docs/json.md") : Result<std::string>(file.error());
  std::vector<std::string> fields;
  bool inside = false;
  bool in_table = false;
  for (const auto line : split(text ? std::string_view(*text) : std::string_view(), '\n')) {
    if (line == heading) inside = true;
    if (!inside) continue;
    if (line.starts_with("| `")) fields.emplace_back(line.substr(3, line.find('`', 3) - 3));
    if (in_table && !line.starts_with('|') && --tables == 0) return fields;
    in_table = line.starts_with('|');
  }
  return fields;
}

TEST(ContainerJson, HasTheFieldsThatAreDocumentedInTheirOrder) {
  const oci::Json json = inspect_json(web_shown(), oci::Json::object(), kThen);

  EXPECT_THAT(keys_of(json), ElementsAreArray(documented("## Container: ps and inspect")));
  EXPECT_THAT(keys_of(json["restart"]), ElementsAreArray(documented("### restart")));
}

TEST(ContainerJson, HasTheDocumentedFieldsOfAnEnd) {
  ContainerInfo info = web_shown();
  info.last_exit = LastExit{.status = 137, .signal = 9, .oom = true, .error = {}, .at_ns = kThen};

  const oci::Json json = container_json(info, kThen)["exit"];

  EXPECT_THAT(keys_of(json), ElementsAreArray(documented("### exit")));
  EXPECT_EQ(json["status"], 137);
  EXPECT_EQ(json["oom"], true);
}

TEST(ContainerJson, WhatIsNotKnownIsNull) {
  ContainerInfo info = web_shown();
  EXPECT_TRUE(container_json(info, kThen)["finished"].is_null());
  EXPECT_TRUE(container_json(info, kThen)["exit"].is_null());
  EXPECT_TRUE(container_json(info, kThen)["next_try"].is_null());

  info.last_exit = LastExit{.known = false, .error = {}};
  EXPECT_TRUE(container_json(info, kThen)["exit"]["status"].is_null());
}

TEST(ContainerJson, TheNextTryIsThereOnlyWhileOneIsDue) {
  ContainerInfo info = web_shown();
  info.next_try_ns = kThen;
  EXPECT_TRUE(container_json(info, kThen)["next_try"].is_null());
  info.phase = Phase::restarting;
  EXPECT_EQ(container_json(info, kThen)["next_try"], "2026-11-23T03:34:23.000000000Z");
}

TEST(ContainerJson, ADamagedContainerIsInAStateOfItsOwn) {
  ContainerInfo info = web_shown();
  info.problem = "truncated";
  EXPECT_EQ(container_json(info, kThen)["state"], "corrupt");
  EXPECT_EQ(container_json(info, kThen)["problem"], "truncated");
}

TEST(StatsJson, HasTheFieldsThatAreDocumentedInTheirOrder) {
  const StatsEntry entry{{.info = web_shown(), .use = {}, .interfaces = {}}, {}, 0};

  const oci::Json json = stats_json(entry, Absent::null);

  EXPECT_THAT(keys_of(json), ElementsAreArray(documented("## skink stats")));
  for (const char* part : {"cpu", "memory", "network", "block_io"})
    EXPECT_THAT(keys_of(json[part]), ElementsAreArray(documented(str("### stats: ", std::string_view(part))))) << part;
  for (const char* resource : {"cpu", "memory", "io"})
    for (const char* kind : {"some", "full"})
      EXPECT_THAT(keys_of(json["pressure"][resource][kind]), ElementsAreArray(documented("### stats: pressure")));
}

TEST(StatsJson, WhatIsNotKnownIsLeftOut) {
  StatsEntry entry{{.info = web_shown(), .use = {}, .interfaces = {}}, {}, 0};
  EXPECT_EQ(keys_of(stats_json(entry, Absent::left_out)), (std::vector<std::string>{"id", "name", "state"}));

  entry.sample.use.emplace().memory.usage = 7;

  const oci::Json json = stats_json(entry, Absent::left_out);
  EXPECT_EQ(keys_of(json), (std::vector<std::string>{"id", "name", "state", "memory", "oom_kills"}));
  EXPECT_EQ(keys_of(json["memory"]), (std::vector<std::string>{"used", "usage"}));
}

TEST(StatsJson, TrafficIsTheSumOfAllInterfacesButLoopback) {
  StatsEntry entry{{.info = web_shown(), .use = {}, .interfaces = {}}, {}, 0};
  entry.sample.interfaces = {{"lo", {100, 1, 0, 0}, {100, 1, 0, 0}},
                             {"eth0", {10, 2, 0, 0}, {20, 3, 0, 0}},
                             {"eth1", {1, 1, 0, 0}, {2, 1, 0, 0}}};

  const oci::Json json = stats_json(entry, Absent::left_out)["network"];

  EXPECT_EQ(json["received_bytes"], 11);
  EXPECT_EQ(json["sent_bytes"], 22);
  EXPECT_EQ(json["sent_packets"], 4);
}

TEST(StatsRow, AContainerThatDoesNotRunHasNothingButItsName) {
  const StatsEntry entry{{.info = web_shown(), .use = {}, .interfaces = {}}, {}, 0};

  const Row row = stats_row(entry, false);

  ASSERT_EQ(row.size(), stats_heading().size());
  EXPECT_EQ(row[1], "web");
  for (std::size_t i = 2; i < row.size(); ++i) EXPECT_EQ(row[i], "--") << stats_heading()[i];
}

TEST(StatsRow, WithoutALimitMemoryIsAShareOfTheHosts) {
  StatsEntry entry{{.info = web_shown(), .use = {}, .interfaces = {}}, 12.346, 8U << 20};
  auto& memory = entry.sample.use.emplace().memory;
  memory.usage = 3U << 20;
  memory.inactive_file = 1U << 20;
  EXPECT_EQ(stats_row(entry, false)[2], "12.35%");
  EXPECT_EQ(stats_row(entry, false)[3], "2 MiB / 8 MiB");
  EXPECT_EQ(stats_row(entry, false)[4], "25.00%");

  memory.limit = 4U << 20;

  EXPECT_EQ(stats_row(entry, false)[3], "2 MiB / 4 MiB");
  EXPECT_EQ(docker_stats_json(entry, false)["MemPerc"], "50.00%");
}

TEST(ProcessJson, HasTheFieldsThatAreDocumentedInTheirOrder) {
  EXPECT_THAT(keys_of(process_json({}, {})), ElementsAreArray(documented("## skink top")));
}

TEST(DockerNames, OfPsAreDockers) {
  const oci::Json json = docker_ps_json(web_shown(), kThen, false);

  EXPECT_EQ(json["ID"], "aaaaaaaaaaaa");
  EXPECT_EQ(json["Names"], "web");
  EXPECT_EQ(json["Command"], "\"/bin/web -p 80\"");
  EXPECT_EQ(json["CreatedAt"], "2026-11-23 03:31:23 +0000 UTC");
  EXPECT_EQ(json["RunningFor"], "3 minutes ago");
  EXPECT_EQ(json["Status"], "Up 3 minutes");
  EXPECT_EQ(json["Labels"], "app=web,tier=front");
  EXPECT_EQ(docker_ps_json(web_shown(), kThen, true)["ID"], std::string(64, 'a'));
}

TEST(DockerNames, OfInspectAreDockers) {
  const oci::Json spec = {{"hostname", "h"}, {"process", {{"cwd", "/srv"}, {"env", {"A=1"}}}}};

  const oci::Json json = docker_inspect_json(web_shown(), spec);

  EXPECT_EQ(json["State"]["Pid"], 42);
  EXPECT_EQ(json["State"]["Running"], true);
  EXPECT_EQ(json["Path"], "/bin/web");
  EXPECT_EQ(json["Args"], oci::Json({"-p", "80"}));
  EXPECT_EQ(json["Config"]["WorkingDir"], "/srv");
  EXPECT_EQ(json["Config"]["Env"], oci::Json({"A=1"}));
  EXPECT_EQ(json["HostConfig"]["RestartPolicy"]["Name"], "on-failure");
  EXPECT_EQ(json["HostConfig"]["RestartPolicy"]["MaximumRetryCount"], 5);
}

TEST(DockerNames, OfInspectDoWithoutAConfiguration) {
  EXPECT_TRUE(docker_inspect_json(web_shown(), nullptr)["Config"]["Env"].is_null());
}

TEST(ImageJson, HasTheFieldsThatAreDocumentedInTheirOrder) {
  EXPECT_THAT(keys_of(image_json(base(), "web:latest")), ElementsAreArray(documented("## Image: images and inspect")));
  EXPECT_THAT(keys_of(inspect_image_json(base())), ElementsAreArray(documented("## Image: images and inspect", 2)));
}

TEST(ImageJson, BeginsWithTheName) {
  EXPECT_TRUE(json_line(image_json(base(), "web:latest")).starts_with("{\"name\":\"web:latest\",\"id\":\"sha256:cc"));
}

TEST(ImageJson, WhatTheImageSaysCannotSteerATerminal) {
  EXPECT_EQ(json_line(inspect_image_json(base())["labels"]), "{\"note\":\"\\u001b[2J\"}");
}

supervise::Event died() {
  supervise::Event event;
  event.time_ns = kThen;
  event.action = "die";
  event.id = std::string(64, 'a');
  event.name = "web";
  event.image = "team/web:1.1";
  event.labels = {{"app", "web"}};
  event.attributes = {{"exit_code", 3}, {"error", "\x1b[2J"}};
  return event;
}

TEST(EventJson, HasTheFieldsThatAreDocumentedInTheirOrder) {
  EXPECT_THAT(keys_of(event_json(died())), ElementsAreArray(documented("## Event: events")));
}

TEST(EventJson, IsDockersInTemplates) {
  const oci::Json json = docker_event_json(died());

  EXPECT_EQ(json["Actor"]["Attributes"]["exitCode"], "3");
  EXPECT_EQ(json["Actor"]["Attributes"]["app"], "web");
  EXPECT_EQ(json["timeNano"], kThen);
}

TEST(EventLine, IsPrintable) {
  EXPECT_EQ(event_line(died()), "2026-11-23T03:34:23.000000000Z container die " + std::string(64, 'a') +
                                    " (exit_code=3, error=\\x1b[2J, image=team/web:1.1, name=web)");
}

bool fits_one(std::string_view filter) { return fits(died(), {*parse_event_filter(filter)}); }

TEST(EventFilter, AreNamesIdsImagesAndLabels) {
  for (const char* filter : {"container=web", "container=aaaa", "event=die", "type=container", "image=team/web",
                             "image=team/web:1.1", "label=app", "label=app=web"})
    EXPECT_TRUE(fits_one(filter)) << filter;
  for (const char* filter : {"container=we", "container=", "event=start", "type=image", "image=web", "image=team/web:1",
                             "image=", "label=web", "label=app=we"})
    EXPECT_FALSE(fits_one(filter)) << filter;
}

TEST(EventFilter, AnyOfOneKeyEachOfLabels) {
  const auto fit = [](std::vector<std::string_view> texts) {
    std::vector<EventFilter> filters;
    for (const auto text : texts) filters.push_back(*parse_event_filter(text));
    return fits(died(), filters);
  };

  EXPECT_TRUE(fit({"event=start", "event=die"}));
  EXPECT_FALSE(fit({"event=die", "type=image"}));
  EXPECT_FALSE(fit({"label=app", "label=other"}));
}

TEST(FindingJson, HasTheFieldsThatAreDocumentedInTheirOrder) {
  EXPECT_THAT(keys_of(finding_json(Finding{})), ElementsAreArray(documented("## Finding: doctor")));
}

TEST(ImageNames, AreSplitAtTheTagNotAtThePort) {
  EXPECT_EQ(name_parts("registry:5000/team/web:1.1"),
            std::pair(std::string("registry:5000/team/web"), std::string("1.1")));
  EXPECT_EQ(name_parts("registry:5000/team/web"),
            std::pair(std::string("registry:5000/team/web"), std::string("<none>")));
  EXPECT_EQ(name_parts(""), std::pair(std::string("<none>"), std::string("<none>")));
}

TEST(ImageNames, OfImagesAreDockers) {
  const oci::Json json = docker_images_json(base(), "web:latest", kThen, false);

  EXPECT_EQ(json["Repository"], "web");
  EXPECT_EQ(json["Tag"], "latest");
  EXPECT_EQ(json["ID"], "cccccccccccc");
  EXPECT_EQ(json["CreatedSince"], "10 seconds ago");
  EXPECT_EQ(json["Size"], "7.81MB");
}

}  // namespace
}  // namespace skink::cli
