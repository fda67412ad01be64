// SPDX-License-Identifier: Apache-2.0
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "oci/image.h"

namespace skink::oci {
namespace {

using testing::ElementsAre;

std::string config_with(std::string_view run, std::string_view rootfs = R"({"type": "layers", "diff_ids": []})") {
  return str(R"({"architecture": "amd64", "os": "linux", "rootfs": )", rootfs, R"(, "config": )", run, "}");
}

std::string config_error(std::string_view text) {
  const auto config = parse_image_config(text);
  return config ? "(parsed)" : config.error().text();
}

TEST(ParseImageConfig, ReadsWhatAContainerNeeds) {
  const std::string hex(64, 'c');
  const auto config = parse_image_config(str(R"({"created": "2015-10-31T22:22:56.015925234Z", "author": "A <a@b>",
    "architecture": "arm64", "variant": "v8", "os": "linux", "history": [{"empty_layer": true}], "future": 1,
    "config": {"User": "alice:staff", "ExposedPorts": {"8080/tcp": {}, "53": {}, "1-9/udp": {}},
      "Env": ["PATH=/bin", "EMPTY=", "A=b=c"], "Entrypoint": ["/bin/app"], "Cmd": ["-x", ""],
      "Volumes": {"/data": {}, "/var/log": {}}, "WorkingDir": "/home", "Labels": {"k": "v"}, "StopSignal": "SIGRTMIN+3",
      "OnBuild": null, "Healthcheck": {"Test": ["NONE"]}},
    "rootfs": {"type": "layers", "diff_ids": ["sha256:)",
                                             hex, R"("]}})"));

  ASSERT_TRUE(config) << config.error().text();
  EXPECT_EQ(to_text(config->platform), "linux/arm64/v8");
  EXPECT_EQ(config->created, "2015-10-31T22:22:56.015925234Z");
  EXPECT_EQ(config->author, "A <a@b>");
  EXPECT_EQ(config->run.user, "alice:staff");
  EXPECT_THAT(config->run.exposed_ports, ElementsAre("8080/tcp", "53", "1-9/udp"));
  EXPECT_THAT(config->run.env, ElementsAre("PATH=/bin", "EMPTY=", "A=b=c"));
  EXPECT_THAT(*config->run.entrypoint, ElementsAre("/bin/app"));
  EXPECT_THAT(*config->run.cmd, ElementsAre("-x", ""));
  EXPECT_THAT(config->run.volumes, ElementsAre("/data", "/var/log"));
  EXPECT_EQ(config->run.working_dir, "/home");
  EXPECT_EQ(config->run.labels.at("k"), "v");
  EXPECT_EQ(config->run.stop_signal, "SIGRTMIN+3");
  ASSERT_EQ(config->diff_ids.size(), 1U);
  EXPECT_EQ(config->diff_ids[0].hex(), hex);
}

TEST(ParseImageConfig, TellsAnEmptyEntrypointFromNone) {
  const auto config = parse_image_config(config_with(R"({"Entrypoint": [], "Cmd": null})"));

  ASSERT_TRUE(config) << config.error().text();
  EXPECT_TRUE(config->run.entrypoint.has_value());
  EXPECT_FALSE(config->run.cmd.has_value());
}

TEST(ParseImageConfig, TakesNullForEverythingOptional) {
  EXPECT_EQ(config_error(config_with("null")), "(parsed)");
  EXPECT_EQ(config_error(
                config_with(R"({"User": null, "Env": null, "Volumes": null, "Labels": null, "ExposedPorts": null})")),
            "(parsed)");
}

TEST(ParseImageConfig, NamesWhatIsMissing) {
  EXPECT_EQ(config_error(R"({"os": "linux", "rootfs": {}})"), "architecture: is missing");
  EXPECT_EQ(config_error(R"({"architecture": "amd64"})"), "os: is missing");
  EXPECT_EQ(config_error(R"({"architecture": "amd64", "os": "linux"})"), "rootfs: is missing");
  EXPECT_EQ(config_error(config_with("{}", "{}")), "rootfs.type: is missing");
  EXPECT_EQ(config_error(config_with("{}", R"({"type": "layers", "diff_ids": {}})")),
            "rootfs.diff_ids: an object is not a list");
  EXPECT_EQ(config_error(config_with("{}", R"({"type": "snapshot", "diff_ids": []})")),
            "rootfs.type: \"snapshot\" is not layers");
  EXPECT_EQ(config_error(config_with("{}", R"({"type": "layers", "diff_ids": ["sha256:x"]})")),
            "rootfs.diff_ids[0]: digest \"sha256:x\" is not sha256: and 64 lower-case hexadecimal digits");
  EXPECT_EQ(parse_image_config("{}").error().code(), Code::corrupt);
  EXPECT_EQ(parse_image_config("{").error().code(), Code::corrupt);
}

TEST(ParseImageConfig, ChecksTheEnvironment) {
  EXPECT_EQ(config_error(config_with(R"({"Env": ["A=1", "PATH"]})")), "config.Env: \"PATH\" is not NAME=VALUE");
  EXPECT_EQ(config_error(config_with(R"({"Env": ["=x"]})")), "config.Env: \"=x\" is not NAME=VALUE");
  EXPECT_EQ(config_error(config_with(R"({"Env": ["A=\u0000"]})")), "config.Env[0]: the string has a NUL byte in it");
  EXPECT_EQ(config_error(config_with(R"({"Env": "A=1"})")), "config.Env: \"A=1\" is not a list");
  EXPECT_EQ(config_error(config_with(R"({"Env": [1]})")), "config.Env[0]: 1 is not a string");
}

TEST(ParseImageConfig, ChecksPortsAndVolumes) {
  for (const char* port : {"-1", "0/tcp", "65536", "80/icmp", "80/", "/tcp", "a", "8-", "80/tcp/x", ""})
    EXPECT_EQ(config_error(config_with(str(R"({"ExposedPorts": {")", port, R"(": {}}})"))),
              str("config.ExposedPorts: \"", port, "\" is not a port such as 80/tcp"));
  for (const char* path : {"", "data", "/", "//", "./x"})
    EXPECT_EQ(config_error(config_with(str(R"({"Volumes": {")", path, R"(": {}}})"))),
              str("config.Volumes: \"", path, "\" is not an absolute path below /"));
  EXPECT_EQ(config_error(config_with(R"({"Volumes": {"/a\u0000": {}}})")),
            "config.Volumes: the string has a NUL byte in it");
  EXPECT_EQ(config_error(config_with(R"({"Volumes": ["/a"]})")), "config.Volumes: a list is not an object");
}

TEST(ParseImageConfig, ChecksTypesAndLengths) {
  EXPECT_EQ(config_error(config_with(R"({"User": 0})")), "config.User: 0 is not a string");
  EXPECT_EQ(config_error(config_with(R"({"Cmd": "sh"})")), "config.Cmd: \"sh\" is not a list");
  EXPECT_EQ(config_error(config_with(R"({"Labels": {"a": 1}})")), "config.Labels[\"a\"]: 1 is not a string");
  EXPECT_EQ(config_error(config_with(str(R"({"User": ")", std::string(257, 'u'), "\"}"))),
            "config.User: is longer than 256 bytes");
  EXPECT_EQ(config_error(config_with(str(R"({"StopSignal": ")", std::string(257, 'u'), "\"}"))),
            "config.StopSignal: is longer than 256 bytes");
  EXPECT_EQ(config_error(config_with(str(R"({"WorkingDir": "/)", std::string(4095, 'u'), "\"}"))),
            "config.WorkingDir: is longer than 4095 bytes");
  EXPECT_EQ(config_error("[1]"), "the document is a list, not an object");
}

TEST(ParseImageConfig, TakesAHundredThousandVariablesInTime) {
  std::string env = "\"A0=\"";
  for (int i = 1; i < 100'000; ++i) env += str(",\"A", i, "=\"");

  const auto config = parse_image_config(config_with(str(R"({"Env": [)", env, "]}")));

  ASSERT_TRUE(config) << config.error().text();
  EXPECT_EQ(config->run.env.size(), 100'000U);
}

}  // namespace
}  // namespace skink::oci
