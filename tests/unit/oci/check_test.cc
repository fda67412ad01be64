// SPDX-License-Identifier: Apache-2.0
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sched.h>
#include <sys/resource.h>

#include "spec_fixture.h"

namespace skink::oci {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;

TEST(CheckSpec, HasNothingToSayAboutAPlainContainer) { EXPECT_THAT(findings(plain_spec()), IsEmpty()); }

TEST(CheckSpec, ReportsAllFindingsAtOnce) {
  Spec spec;

  spec.process.emplace();

  EXPECT_THAT(findings(spec), ElementsAre("ociVersion: \"\" is not a version that skink implements; write 1.3.0",
                                          "process.args: is missing or empty; the first entry is the program to run",
                                          "process.cwd: is missing", "root.path: is missing"));
}

TEST(CheckSpec, TakesAnyVersionOneOfTheSpecification) {
  for (const char* good : {"1.0.0", "1.0.2-dev", "1.2.1", "1.3.0+dev", "1.99.0", "1.0.0-rc.5+001"}) {
    Spec spec = plain_spec();
    spec.oci_version = good;
    EXPECT_THAT(findings(spec), IsEmpty()) << good;
  }
  for (const char* bad : {"",       "1",       "1.0",    "2.0.0",          "0.9.0",     "10.0.0",     "v1.0.0",
                          "1..0",   "1.0.0.0", "1.0.x",  "1.0.0-",         "1.0.0-01",  "1.0.0+",     "1.0.0 ",
                          "01.0.0", "1.02.0",  "1.-1.0", "1.0.4294967296", "1.0.0-a_b", "1.0.0-rc..1"}) {
    Spec spec = plain_spec();
    spec.oci_version = bad;
    EXPECT_EQ(check_spec(spec).at(0).code(), Code::unsupported) << bad;
  }
}

TEST(CheckSpec, WantsAProgramAndAnAbsoluteDirectory) {
  Spec spec = plain_spec();
  spec.process->args = {""};
  spec.process->cwd = "work";

  EXPECT_THAT(findings(spec), ElementsAre("process.args[0]: is empty; it is the program to run",
                                          "process.cwd: \"work\" is not an absolute path"));
}

TEST(CheckSpec, WantsANameInEachEnvironmentEntry) {
  Spec spec = plain_spec();
  spec.process->env = {"A=b", "A", "=b", "", "B=", "C==d", "\x1b[2J"};

  EXPECT_THAT(findings(spec),
              ElementsAre("process.env[1]: \"A\" is not NAME=VALUE", "process.env[2]: \"=b\" is not NAME=VALUE",
                          "process.env[3]: \"\" is not NAME=VALUE", "process.env[6]: \"\\x1b[2J\" is not NAME=VALUE"));
}

TEST(CheckSpec, WantsEachLimitOnceAndSoftBelowHard) {
  Spec spec = plain_spec();
  spec.process->rlimits = {{RLIMIT_NOFILE, 1024, 4096}, {RLIMIT_CPU, 5, 4}, {RLIMIT_NOFILE, 1, 1}};

  EXPECT_THAT(findings(spec), ElementsAre("process.rlimits[1].soft: 5 is above the hard limit 4 of RLIMIT_CPU",
                                          "process.rlimits[2].type: RLIMIT_NOFILE is in entry 0 already"));
}

TEST(CheckSpec, KnowsWhichParametersAPolicyTakes) {
  const auto with = [](const Scheduler& scheduler) {
    Spec spec = plain_spec();
    spec.process->scheduler = scheduler;
    return findings(spec);
  };

  EXPECT_THAT(with({.policy = SCHED_OTHER, .nice = 5}), IsEmpty());
  EXPECT_THAT(with({.policy = SCHED_RR, .priority = 99}), IsEmpty());
  EXPECT_THAT(with({.policy = SCHED_DEADLINE, .runtime = 1024, .deadline = 100000}), IsEmpty());
  EXPECT_THAT(with({.policy = SCHED_FIFO}),
              ElementsAre("process.scheduler.priority: 0 is not from 1 to 99, which this policy needs"));
  EXPECT_THAT(with({.policy = SCHED_OTHER, .priority = 1}),
              ElementsAre("process.scheduler.priority: is for SCHED_FIFO and SCHED_RR only"));
  EXPECT_THAT(with({.policy = SCHED_IDLE, .nice = 1}), IsEmpty());
  EXPECT_THAT(with({.policy = SCHED_RR, .nice = 19, .priority = 1}), IsEmpty());
  EXPECT_THAT(with({.policy = SCHED_OTHER, .runtime = 1}),
              ElementsAre("process.scheduler: runtime, deadline and period are for SCHED_DEADLINE only"));
  EXPECT_THAT(with({.policy = SCHED_DEADLINE, .runtime = 300000, .deadline = 200000}),
              ElementsAre("process.scheduler: SCHED_DEADLINE needs 0 < runtime <= deadline <= period"));
  EXPECT_THAT(with({.policy = SCHED_DEADLINE, .runtime = 1023, .deadline = 200000}),
              ElementsAre("process.scheduler.runtime: 1023 is below 1024 nanoseconds"));
  EXPECT_THAT(with({.policy = SCHED_DEADLINE, .runtime = 2000, .deadline = 99999}),
              ElementsAre("process.scheduler.deadline: 99999 is not from 100000 to 4194304000 nanoseconds"));
}

TEST(CheckSpec, ReadsListsOfCpus) {
  for (const char* good : {"0", "0-3,7", "1, 2-3", ""}) {
    Spec spec = plain_spec();
    spec.process->exec_cpu_affinity = ExecCpuAffinity{good, std::nullopt};
    EXPECT_THAT(findings(spec), IsEmpty()) << good;
  }
  for (const char* bad : {"3-0", "a", "0,", ",", "-1", "0-", "1 2", "4294967296"}) {
    Spec spec = plain_spec();
    spec.process->exec_cpu_affinity = ExecCpuAffinity{std::nullopt, bad};
    EXPECT_THAT(findings(spec), ElementsAre(testing::EndsWith(" is not a list of CPUs such as 0-3,7"))) << bad;
  }
}

TEST(CheckSpec, WantsLabelsOnOneLine) {
  Spec spec = plain_spec();
  spec.process->apparmor_profile = "a\nexec b";
  spec.process->selinux_label = "a\nb";

  EXPECT_THAT(findings(spec), ElementsAre("process.apparmorProfile: has a control byte in it",
                                          "process.selinuxLabel: has a control byte in it"));
}

TEST(CheckSpec, KeepsTheHostsNameWhatItIs) {
  Spec spec = plain_spec();
  spec.hostname = "name";
  spec.domainname = "example.org";
  EXPECT_THAT(findings(spec), IsEmpty());

  std::erase_if(spec.linux.namespaces, [](const Namespace& space) { return space.type == NamespaceType::uts; });
  EXPECT_THAT(findings(spec),
              ElementsAre("hostname: would be the host's own; add a uts namespace to linux.namespaces",
                          "domainname: would be the host's own; add a uts namespace to linux.namespaces"));
}

TEST(CheckSpec, BoundsTheHostName) {
  Spec spec = plain_spec();
  spec.hostname = std::string(64, 'x');
  EXPECT_THAT(findings(spec), IsEmpty());

  spec.hostname = std::string(65, 'x');
  spec.domainname = "a\nb";
  EXPECT_THAT(findings(spec), ElementsAre(testing::EndsWith("x\" is longer than 64 bytes"),
                                          "domainname: \"a\\x0ab\" has a space or control byte in it"));
}

TEST(CheckSpec, LooksAtMounts) {
  Spec spec = plain_spec();
  spec.mounts = {{.destination = ""},
                 {.destination = "relative"},
                 {.destination = "/a", .options = {"ro", "rbind"}},
                 {.destination = "/b", .source = "/x", .options = {"bind"}, .uid_mappings = {{0, 0, 1}}}};

  EXPECT_THAT(findings(spec),
              ElementsAre("mounts[0].destination: is empty", "mounts[2].source: is missing; a bind mount needs one",
                          "mounts[3]: has one of uidMappings and gidMappings; both are needed"));
}

TEST(CheckSpec, LooksAtHooks) {
  Spec spec = plain_spec();
  spec.hooks.create_runtime = {{.path = "/ok"}, {.path = "hook", .env = {"X"}, .timeout_seconds = 0}};
  spec.hooks.poststop = {{.path = ""}};

  EXPECT_THAT(findings(spec), ElementsAre("hooks.createRuntime[1].path: \"hook\" is not an absolute path",
                                          "hooks.createRuntime[1].env[0]: \"X\" is not NAME=VALUE",
                                          "hooks.createRuntime[1].timeout: is not above 0",
                                          "hooks.poststop[0].path: \"\" is not an absolute path"));
}

TEST(CheckSpec, WantsKeysInAnnotations) {
  Spec spec = plain_spec();
  spec.annotations = {{"", "x"}, {"a", ""}};

  EXPECT_THAT(findings(spec), ElementsAre("annotations: has an empty key"));
}

}  // namespace
}  // namespace skink::oci
