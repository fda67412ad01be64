// SPDX-License-Identifier: Apache-2.0
// The command line of `run` and `create`.
#include "cli/run_command.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/resource.h>

#include "cli/seccomp_file.h"

namespace skink::cli {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

Surroundings outside_run() {
  Surroundings made;
  made.variable = [](const std::string& name) -> std::optional<std::string> {
    if (name == "HOME") return "/root";
    return std::nullopt;
  };
  made.read_file = [](const std::string& path) -> Result<std::string> {
    if (path == "vars") return std::string("FROM_FILE=1\nHOME\n");
    if (path == "labels") return std::string("app=file\nonly=file\n");
    if (path == "profile") return std::string(R"({"defaultAction":"SCMP_ACT_ERRNO","syscalls":[]})");
    return Error::from_errno(2, "openat ", path);
  };
  made.device = [](const std::string& path) -> Result<oci::Device> {
    if (path != "/dev/fuse") return Error::from_errno(2, path);
    oci::Device device;
    device.path = path;
    device.major = 10;
    device.minor = 229;
    return device;
  };
  made.devices = [] {
    oci::Device device;
    device.path = "/dev/kmsg";
    return std::vector<oci::Device>{device};
  };
  made.working_dir = "/where";
  return made;
}

struct Read {
  RunCommand command;
  std::string error;
};

Read parse_run(std::vector<const char*> args) {
  Read outcome;
  const auto line = parse_run(run_options(), args, outcome.command);
  if (!line) {
    outcome.error = line.error().text();
    return outcome;
  }
  if (auto complete = complete_run(outcome.command, outside_run()); !complete) outcome.error = complete.error().text();
  return outcome;
}

plan::RunOptions options_of(std::vector<const char*> args) {
  args.push_back("image");
  Read outcome = parse_run(std::move(args));
  EXPECT_EQ(outcome.error, "");
  return outcome.command.request.run;
}

std::string run_error(std::vector<const char*> args) {
  args.push_back("image");
  return parse_run(std::move(args)).error;
}

TEST(RunCommand, OptionsAfterTheImageBelongToTheProgram) {
  const auto outcome = parse_run({"-it", "--rm", "debian", "ls", "--rm", "-l"});

  EXPECT_EQ(outcome.error, "");
  EXPECT_EQ(outcome.command.image, "debian");
  EXPECT_THAT(outcome.command.request.run.args, ElementsAre("ls", "--rm", "-l"));
  EXPECT_TRUE(outcome.command.request.run.interactive && outcome.command.request.run.tty);
  EXPECT_TRUE(outcome.command.request.remove_at_end);
  EXPECT_FALSE(outcome.command.detach);
}

TEST(RunCommand, NeedsAnImageOrABundle) {
  EXPECT_EQ(parse_run({"--rm"}).error, "IMAGE or FILE.tar is missing");
  EXPECT_EQ(parse_run({""}).error, "IMAGE is empty");
  EXPECT_EQ(parse_run({"--bundle", "b"}).command.request.bundle, "/where/b");
  EXPECT_THAT(parse_run({"--bundle", "b", "image"}).error, HasSubstr("there is no IMAGE"));
}

TEST(RunCommand, InTheBackgroundAFailureIsRelaunchedUnlessSaidOtherwise) {
  const auto kind = [](std::vector<const char*> args) {
    args.push_back("image");
    return parse_run(std::move(args)).command.request.restart.kind;
  };
  EXPECT_EQ(kind({}), RestartPolicy::Kind::no);
  EXPECT_EQ(kind({"-d"}), RestartPolicy::Kind::on_failure);
  EXPECT_EQ(kind({"-d", "--rm"}), RestartPolicy::Kind::no);
  EXPECT_EQ(kind({"-d", "--restart", "no"}), RestartPolicy::Kind::no);
  EXPECT_EQ(kind({"--restart", "always"}), RestartPolicy::Kind::always);
}

TEST(RunCommand, TheOrderOfRestartOptionsDoesNotMatter) {
  const auto policy = parse_run({"--restart-delay", "1s", "--restart-factor=1.5", "--restart", "on-failure:3",
                                 "--restart-max-delay=2m", "--restart-reset", "30", "image"})
                          .command.request.restart;

  EXPECT_EQ(policy.kind, RestartPolicy::Kind::on_failure);
  EXPECT_EQ(policy.most, 3u);
  EXPECT_EQ(policy.first_delay_ns, 1'000'000'000);
  EXPECT_EQ(policy.longest_delay_ns, 120'000'000'000);
  EXPECT_EQ(policy.reset_after_ns, 30'000'000'000);
  EXPECT_DOUBLE_EQ(policy.factor, 1.5);
}

TEST(RunCommand, ContradictionsAreRefused) {
  EXPECT_THAT(run_error({"--rm", "--restart", "always"}), HasSubstr("contradict"));
  EXPECT_THAT(run_error({"--read-only", "--writable"}), HasSubstr("contradict"));
  EXPECT_EQ(run_error({"--restart-delay", "2m"}), "--restart-max-delay is shorter than --restart-delay");
}

TEST(RunCommand, TheRootIsReadOnlyUnlessAskedFor) {
  EXPECT_FALSE(options_of({}).writable);
  EXPECT_FALSE(options_of({"--read-only"}).writable);
  EXPECT_TRUE(options_of({"--writable"}).writable);
  EXPECT_TRUE(options_of({"--read-only=false"}).writable);
}

TEST(RunCommand, OnlyWhatIsWatchedAndThrownAwayIsNotKeptAcrossAReboot) {
  EXPECT_FALSE(parse_run({"--rm", "image"}).command.request.keep_durable);
  EXPECT_TRUE(parse_run({"image"}).command.request.keep_durable);
  EXPECT_TRUE(parse_run({"-d", "--rm", "image"}).command.request.keep_durable);
}

TEST(RunCommand, TheEnvironmentIsPutTogetherFromFilesOptionsAndTheCaller) {
  EXPECT_THAT(options_of({"-e", "A=1", "-e", "HOME", "-e", "NOT_SET", "--env-file", "vars"}).env,
              ElementsAre("FROM_FILE=1", "HOME=/root", "A=1", "HOME=/root"));
  EXPECT_EQ(run_error({"-e", "=x"}), "--env: \"=x\": expected NAME=VALUE or NAME");
  EXPECT_EQ(run_error({"--env-file", "none"}), "--env-file: openat none: No such file or directory");
}

TEST(RunCommand, LabelsOfOptionsWinOverThoseOfFiles) {
  const auto labels = options_of({"--label-file", "labels", "-l", "app=option", "-l", "bare"}).labels;

  EXPECT_EQ(labels.at("app"), "option");
  EXPECT_EQ(labels.at("only"), "file");
  EXPECT_EQ(labels.at("bare"), "");
}

TEST(RunCommand, AnEmptyEntrypointClearsTheImages) {
  EXPECT_FALSE(options_of({}).entrypoint);
  EXPECT_THAT(*options_of({"--entrypoint", ""}).entrypoint, IsEmpty());
  EXPECT_THAT(*options_of({"--entrypoint", "/bin/a b"}).entrypoint, ElementsAre("/bin/a b"));
}

TEST(RunCommand, VolumesAreBoundFromAbsoluteAndFromRelativePaths) {
  const auto volumes = options_of({"-v", "/srv:/data:ro", "-v", "./conf:/etc/app", "--tmpfs", "/cache:size=1m",
                                   "--mount", "type=tmpfs,target=/t"})
                           .volumes;

  ASSERT_EQ(volumes.size(), 4u);
  EXPECT_EQ(volumes[0].source, "/srv");
  EXPECT_EQ(volumes[1].destination, "/cache");
  EXPECT_EQ(volumes[3].source, "/where/./conf");
  EXPECT_EQ(volumes[3].destination, "/etc/app");
}

TEST(RunCommand, WhatIsNotThereYetNamesTheWay) {
  EXPECT_THAT(run_error({"-v", "data:/data"}), HasSubstr("named volumes are not there yet"));
  EXPECT_THAT(run_error({"-p", "80:80"}), HasSubstr("--network host"));
  EXPECT_THAT(run_error({"-P"}), HasSubstr("--network host"));
  EXPECT_THAT(run_error({"--network", "bridge"}), HasSubstr("none or host"));
  EXPECT_THAT(run_error({"--volumes-from", "x"}), HasSubstr("-v"));
}

TEST(RunCommand, LimitsAreRead) {
  const auto options = options_of({"-m", "64m", "--memory-swap", "-1", "--cpus", "1.5", "-c", "512", "--cpuset-cpus",
                                   "0-1", "--pids-limit=-1", "--ulimit", "nofile=10:20", "--shm-size=1g",
                                   "--oom-score-adj", "-5", "--storage-opt", "size=10m"});

  EXPECT_EQ(options.memory, 64 << 20);
  EXPECT_EQ(options.memory_swap, -1);
  EXPECT_DOUBLE_EQ(*options.cpus, 1.5);
  EXPECT_EQ(options.cpu_shares, 512);
  EXPECT_EQ(options.cpuset_cpus, "0-1");
  EXPECT_EQ(options.pids_limit, -1);
  ASSERT_EQ(options.ulimits.size(), 1u);
  EXPECT_EQ(options.ulimits[0].resource, RLIMIT_NOFILE);
  EXPECT_EQ(options.shm_size, 1 << 30);
  EXPECT_EQ(options.oom_score_adj, -5);
  EXPECT_EQ(options.storage_size, 10 << 20);
  EXPECT_THAT(run_error({"-m", "much"}), HasSubstr("--memory: \"much\" is not a size"));
  EXPECT_THAT(run_error({"--pids-limit", "x"}), HasSubstr("--pids-limit: \"x\""));
}

TEST(RunCommand, DevicesAreLookedUpAndAllowed) {
  const auto options = options_of({"--device", "/dev/fuse:/dev/f:r"});

  ASSERT_EQ(options.devices.size(), 1u);
  EXPECT_EQ(options.devices[0].path, "/dev/f");
  ASSERT_EQ(options.device_rules.size(), 1u);
  EXPECT_EQ(options.device_rules[0].minor, 229);
  EXPECT_EQ(options.device_rules[0].access, "r");
  EXPECT_EQ(run_error({"--device", "/dev/nope"}), "--device: /dev/nope: No such file or directory");
}

TEST(RunCommand, PrivilegedAddsTheDevicesOfTheHost) {
  const auto options = options_of({"--privileged"});

  EXPECT_TRUE(options.privileged);
  ASSERT_EQ(options.devices.size(), 1u);
  EXPECT_EQ(options.devices[0].path, "/dev/kmsg");
}

TEST(RunCommand, SecurityOptionsAreRead) {
  const auto options = options_of({"--security-opt", "no-new-privileges=false", "--security-opt", "seccomp=profile",
                                   "--cap-add", "NET_ADMIN", "--cap-drop", "ALL"});

  EXPECT_FALSE(options.no_new_privileges);
  ASSERT_TRUE(options.seccomp);
  EXPECT_EQ(options.seccomp->default_action, "SCMP_ACT_ERRNO");
  EXPECT_TRUE(options_of({"--security-opt", "seccomp=unconfined"}).seccomp_unconfined);
  EXPECT_THAT(run_error({"--security-opt", "seccomp=none"}), HasSubstr("none: No such file or directory"));
  EXPECT_THAT(run_error({"--cap-add", "FLY"}), HasSubstr("--cap-add: \"FLY\""));
}

TEST(RunCommand, StopSignalAndTimeoutAreRead) {
  const auto request = parse_run({"--stop-signal", "int", "--stop-timeout", "3", "image"}).command.request;

  EXPECT_EQ(request.stop_signal, 2);
  EXPECT_EQ(request.stop_timeout_ns, 3'000'000'000);
  EXPECT_EQ(run_error({"--stop-signal", "999"}), "--stop-signal: \"999\" is not a signal");
}

TEST(RunCommand, CreateDoesNotKnowTheBackground) {
  RunCommand command;
  const std::vector<const char*> args{"-d", "image"};

  const auto line = parse_run(create_options(), args, command);

  EXPECT_EQ(line.error().text(), "unknown option -d");
}

TEST(RunCommand, EveryOptionHasANameOfItsOwn) {
  const auto table = run_options();
  for (std::size_t i = 0; i < table.size(); ++i)
    for (std::size_t j = i + 1; j < table.size(); ++j) {
      EXPECT_STRNE(table[i].words.name, table[j].words.name);
      EXPECT_FALSE(table[i].words.letter != 0 && table[i].words.letter == table[j].words.letter) << table[i].words.name;
    }
}

constexpr std::uint64_t kSysAdmin = std::uint64_t{1} << 21U;

TEST(SeccompFile, DockersConditionsAreDecided) {
  const auto* text = R"({"defaultAction":"SCMP_ACT_ERRNO","defaultErrnoRet":1,
    "archMap":[{"architecture":"SCMP_ARCH_X86_64","subArchitectures":["SCMP_ARCH_X86"]},
               {"architecture":"SCMP_ARCH_AARCH64","subArchitectures":["SCMP_ARCH_ARM"]}],
    "syscalls":[{"names":["read"],"action":"SCMP_ACT_ALLOW"},
                {"names":["mount"],"action":"SCMP_ACT_ALLOW","includes":{"caps":["CAP_SYS_ADMIN"]}},
                {"names":["clone"],"action":"SCMP_ACT_ALLOW","excludes":{"caps":["CAP_SYS_ADMIN"]}},
                {"names":["s390"],"action":"SCMP_ACT_ALLOW","includes":{"arches":["s390x"]}},
                {"names":["ptrace"],"action":"SCMP_ACT_ALLOW","includes":{"minKernel":"4.8"}},
                {"names":["future"],"action":"SCMP_ACT_ALLOW","includes":{"minKernel":"99.1"}}]})";
  const auto names = [&](std::uint64_t capabilities) {
    std::vector<std::string> all;
    const auto profile = parse_seccomp_profile(text, capabilities);
    EXPECT_TRUE(profile) << profile.error().text();
    if (!profile) return all;
    EXPECT_EQ(profile->architectures.size(), 2u);
    for (const auto& rule : profile->syscalls) all.push_back(rule.names.at(0));
    return all;
  };

  EXPECT_THAT(names(0), ElementsAre("read", "clone", "ptrace"));
  EXPECT_THAT(names(kSysAdmin), ElementsAre("read", "mount", "ptrace"));
}

TEST(SeccompFile, SomethingElseIsRefused) {
  EXPECT_FALSE(parse_seccomp_profile("{}", 0));
  EXPECT_FALSE(parse_seccomp_profile("not json", 0));
  EXPECT_FALSE(parse_seccomp_profile(R"({"defaultAction":7})", 0));
}

}  // namespace
}  // namespace skink::cli
