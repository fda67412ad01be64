// SPDX-License-Identifier: Apache-2.0
#include "plan/run_options.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <linux/capability.h>

#include <algorithm>

#include "plan/run_mounts.h"

namespace skink::plan {
namespace {

using ::testing::AllOf;
using ::testing::Contains;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;
using ::testing::StartsWith;

constexpr std::uint64_t bit(unsigned capability) { return std::uint64_t{1} << capability; }

/// An image with a command and a container of it.
class MakeSpec : public ::testing::Test {
 protected:
  MakeSpec() {
    config.run.entrypoint = oci::Strings{"/bin/app"};
    config.run.cmd = oci::Strings{"serve"};
    config.run.env = {"PATH=/opt/bin:/bin", "LANG=C"};
    facts.config = &config;
    facts.user.additional_gids = {0};
    facts.home = "/root";
    facts.container_id = std::string("0123456789abcdef") + std::string(48, '0');
    facts.files_dir = "/run/skink/containers/0123";
    facts.all_capabilities = (std::uint64_t{1} << 41) - 1;
  }
  oci::Spec make() {
    auto spec = make_spec(options, facts, notes);
    if (!spec) {
      ADD_FAILURE() << spec.error().text();
      return {};
    }
    return std::move(spec).value();
  }
  std::string refusal() {
    const auto spec = make_spec(options, facts, notes);
    return spec ? "accepted" : spec.error().text();
  }
  static const oci::Mount* mount_at(const oci::Spec& spec, std::string_view destination) {
    for (const oci::Mount& mount : spec.mounts)
      if (mount.destination == destination) return &mount;
    return nullptr;
  }
  std::vector<std::string> destinations(const oci::Spec& spec) {
    std::vector<std::string> all;
    for (const oci::Mount& mount : spec.mounts) all.push_back(mount.destination);
    return all;
  }
  void bind(std::string source, std::string destination, oci::Strings words = {}) {
    options.volumes.push_back({VolumeOption::Kind::bind, std::move(source), std::move(destination), std::move(words)});
  }

  oci::ImageConfig config;
  RunOptions options;
  ImageFacts facts;
  std::vector<std::string> notes;
};

// ---- the command ----

TEST_F(MakeSpec, RunsTheImagesEntrypointWithItsCommand) {
  EXPECT_THAT(make().process->args, ElementsAre("/bin/app", "serve"));
}

TEST_F(MakeSpec, ArgumentsReplaceTheImagesCommand) {
  options.args = {"--help"};

  EXPECT_THAT(make().process->args, ElementsAre("/bin/app", "--help"));
}

TEST_F(MakeSpec, AnEntrypointOfTheCallersComesWithoutTheImagesCommand) {
  options.entrypoint = oci::Strings{"/bin/sh"};
  EXPECT_THAT(make().process->args, ElementsAre("/bin/sh"));

  options.args = {"-c", "x"};
  EXPECT_THAT(make().process->args, ElementsAre("/bin/sh", "-c", "x"));

  options.entrypoint = oci::Strings{};
  EXPECT_THAT(make().process->args, ElementsAre("-c", "x"));
}

TEST_F(MakeSpec, NeedsACommandFromSomewhere) {
  config.run.entrypoint.reset();
  config.run.cmd.reset();
  EXPECT_EQ(refusal(), "image has no command; give one after the image name");

  config.run.entrypoint = oci::Strings{};
  options.entrypoint = oci::Strings{};
  config.run.cmd = oci::Strings{"x"};
  EXPECT_EQ(refusal(), "image has no command; give one after the image name");

  options.args = {""};
  EXPECT_EQ(refusal(), "the command is an empty string");
  options.args = {"a", std::string("b\0c", 3)};
  EXPECT_THAT(refusal(), HasSubstr("NUL"));
}

// ---- environment, directory, host name ----

TEST_F(MakeSpec, MergesTheEnvironmentByName) {
  options.env = {"LANG=de", "NEW=1", "NEW=2", "HOME=/h"};
  options.tty = true;

  EXPECT_THAT(make().process->env,
              ElementsAre("PATH=/opt/bin:/bin", "HOSTNAME=0123456789ab", "TERM=xterm", "LANG=de", "NEW=2", "HOME=/h"));
}

TEST_F(MakeSpec, HasPathAndHomeWhenNobodySaysThem) {
  config.run.env.clear();
  facts.home = "/home/app";

  EXPECT_THAT(make().process->env, ElementsAre("PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
                                               "HOSTNAME=0123456789ab", "HOME=/home/app"));
}

TEST_F(MakeSpec, ANameWithoutValueRemovesTheVariable) {
  options.env = {"LANG", "ABSENT"};

  EXPECT_THAT(make().process->env, Not(Contains(StartsWith("LANG"))));
}

TEST_F(MakeSpec, RefusesVariablesWithoutAName) {
  options.env = {"=x"};
  EXPECT_EQ(refusal(), "--env \"=x\": expected NAME=VALUE");
  options.env.clear();
  config.run.env = {"=\x1b[2J"};
  EXPECT_EQ(refusal(), "the image's environment \"=\\x1b[2J\": expected NAME=VALUE");
}

TEST_F(MakeSpec, StartsInTheDirectoryOfCallerOrImage) {
  EXPECT_EQ(make().process->cwd, "/");
  config.run.working_dir = "/srv";
  EXPECT_EQ(make().process->cwd, "/srv");
  options.working_dir = "/w";
  EXPECT_EQ(make().process->cwd, "/w");
  options.working_dir = "w";
  EXPECT_EQ(refusal(), "--workdir \"w\": expected an absolute path");
  options.working_dir.clear();
  config.run.working_dir = "srv";
  EXPECT_EQ(refusal(), "the image's working directory \"srv\": expected an absolute path");
}

TEST_F(MakeSpec, NamesTheHostAfterTheContainer) {
  EXPECT_EQ(make().hostname, "0123456789ab");
  options.hostname = "web-1.example";
  EXPECT_EQ(make().hostname, "web-1.example");
  EXPECT_THAT(make().process->env, Contains("HOSTNAME=web-1.example"));
  for (const char* name : {"a b", "a\nb", "-a", ".a", "a/b"}) {
    options.hostname = name;
    EXPECT_THAT(refusal(), HasSubstr("expected at most 64 letters")) << name;
  }
  options.hostname = std::string(65, 'a');
  EXPECT_THAT(refusal(), HasSubstr("--hostname"));
}

TEST_F(MakeSpec, LeavesTheHostsNameAloneWhenItIsShared) {
  options.host_uts = true;
  const oci::Spec spec = make();
  EXPECT_EQ(spec.hostname, "");
  EXPECT_THAT(spec.process->env, Not(Contains(StartsWith("HOSTNAME="))));

  options.hostname = "mine";
  EXPECT_EQ(refusal(), "--hostname \"mine\": would rename the host; leave out --uts host");
}

// ---- namespaces ----

TEST_F(MakeSpec, HasANamespaceOfEachKindButUserAndTime) {
  const oci::Spec spec = make();
  for (const auto type : {oci::NamespaceType::mount, oci::NamespaceType::pid, oci::NamespaceType::uts,
                          oci::NamespaceType::ipc, oci::NamespaceType::network, oci::NamespaceType::cgroup})
    EXPECT_NE(spec.find_namespace(type), nullptr);
  EXPECT_EQ(spec.linux.namespaces.size(), 6U);
}

TEST_F(MakeSpec, LeavesOutWhatIsTheHosts) {
  options.host_pid = options.host_ipc = options.host_uts = options.host_network = true;

  const oci::Spec spec = make();

  EXPECT_EQ(spec.linux.namespaces.size(), 2U);
  EXPECT_EQ(mount_at(spec, "/dev/shm")->source, "/dev/shm");
  EXPECT_EQ(mount_at(spec, "/dev/shm")->type, "bind");
  EXPECT_THAT(notes, Contains(HasSubstr("--network host")));
}

// ---- mounts ----

TEST_F(MakeSpec, MountsTheUsualPlacesParentsFirst) {
  const oci::Spec spec = make();

  EXPECT_THAT(destinations(spec),
              ElementsAre("/proc", "/dev", "/sys", "/tmp", "/run", "/dev/pts", "/dev/shm", "/dev/mqueue", "/etc/hosts",
                          "/etc/hostname", "/etc/resolv.conf", "/var/tmp", "/sys/fs/cgroup"));
  EXPECT_THAT(mount_at(spec, "/proc")->options, ElementsAre("nosuid", "noexec", "nodev"));
  EXPECT_THAT(mount_at(spec, "/sys")->options, Contains("ro"));
  EXPECT_THAT(mount_at(spec, "/sys/fs/cgroup")->options, Contains("ro"));
  EXPECT_THAT(mount_at(spec, "/dev/shm")->options, Contains("size=67108864"));
  EXPECT_THAT(mount_at(spec, "/etc/hosts")->options, AllOf(Contains("bind"), Contains("ro")));
  EXPECT_EQ(mount_at(spec, "/etc/hosts")->source, "/run/skink/containers/0123/hosts");
  EXPECT_THAT(mount_at(spec, "/tmp")->options, ElementsAre("nosuid", "nodev", "mode=1777", "size=65536k", "tmpcopyup"));
  EXPECT_TRUE(spec.root.readonly);
  EXPECT_EQ(spec.root.path, "rootfs");
}

TEST_F(MakeSpec, NeedsNoScratchWhenTheRootIsWritable) {
  options.writable = true;

  const oci::Spec spec = make();

  EXPECT_FALSE(spec.root.readonly);
  for (const char* path : {"/tmp", "/run", "/var/tmp"}) EXPECT_EQ(mount_at(spec, path), nullptr) << path;
}

TEST_F(MakeSpec, BindsVolumesPrivatelyWithoutSetuidAndDevices) {
  bind("/srv/data", "/data/sub/", {"ro", "rro"});
  bind("/srv", "/data");
  bind("/dev/bus/usb", "/dev/bus/usb");
  bind("/x", "/x", {"suid", "dev", "bind", "rslave"});

  const oci::Spec spec = make();

  EXPECT_THAT(mount_at(spec, "/data/sub")->options,
              ElementsAre("ro", "rro", "rbind", "rprivate", "src-flags", "nosuid", "nodev"));
  EXPECT_THAT(mount_at(spec, "/dev/bus/usb")->options, Not(Contains("nodev")));
  EXPECT_THAT(mount_at(spec, "/x")->options, ElementsAre("suid", "dev", "bind", "rslave", "src-flags"));
  const auto all = destinations(spec);
  EXPECT_LT(std::find(all.begin(), all.end(), "/data"), std::find(all.begin(), all.end(), "/data/sub"));
}

TEST_F(MakeSpec, AVolumeTakesThePlaceOfADefault) {
  bind("/srv/tmp", "/tmp");
  bind("/srv/var", "/var");
  bind("/srv/hosts", "/etc/hosts");
  bind("/dev", "/dev");

  const oci::Spec spec = make();
  const auto all = destinations(spec);

  EXPECT_EQ(mount_at(spec, "/tmp")->type, "bind");
  EXPECT_EQ(mount_at(spec, "/var/tmp"), nullptr) << "it is in the volume";
  EXPECT_EQ(mount_at(spec, "/etc/hosts")->source, "/srv/hosts");
  EXPECT_EQ(mount_at(spec, "/dev/pts"), nullptr);
  EXPECT_EQ(mount_at(spec, "/dev")->source, "/dev");
  EXPECT_EQ(std::count(all.begin(), all.end(), "/tmp"), 1);
}

TEST_F(MakeSpec, RefusesVolumesOnTheRootOnProcAndTwice) {
  bind("/srv", "/a/..");
  EXPECT_EQ(refusal(), "volume on /: the root file system is the image's; give a directory in it");
  options.volumes.clear();
  bind("/proc", "/proc");
  EXPECT_THAT(refusal(), StartsWith("volume on /proc:"));
  options.volumes.clear();
  bind("/a", "/x");
  bind("/b", "/x/");
  EXPECT_EQ(refusal(), "two volumes on \"/x\": give one");
}

TEST_F(MakeSpec, MakesAnImagesVolumesOfMemoryAndSaysSoOnce) {
  config.run.volumes = {"/var/lib/data", "/cache/", "/../../srv/x", "/kept"};
  bind("/srv/kept", "/kept");

  const oci::Spec spec = make();

  EXPECT_EQ(mount_at(spec, "/var/lib/data")->type, "tmpfs");
  EXPECT_THAT(mount_at(spec, "/cache")->options, ElementsAre("nosuid", "nodev", "size=65536k", "tmpcopyup"));
  EXPECT_EQ(mount_at(spec, "/srv/x")->type, "tmpfs") << "inside the container, like any other path";
  EXPECT_EQ(mount_at(spec, "/kept")->type, "bind");
  EXPECT_THAT(notes, ElementsAre("image declares volumes /var/lib/data, /cache, /srv/x: they are tmpfs of one "
                                 "incarnation; -v SRC:DST keeps data"));
}

TEST_F(MakeSpec, RefusesImageVolumesThatWouldHideTheIsolation) {
  for (const char* path : {"/", "/proc", "/proc/sys", "/sys", "/sys/fs/cgroup", "/dev", "/dev/../dev/shm", "//proc//x",
                           "/etc/resolv.conf", "relative", ""}) {
    config.run.volumes = {path};
    EXPECT_THAT(refusal(), StartsWith("the image declares a volume")) << path;
  }
  config.run.volumes = {"/process"};
  EXPECT_EQ(refusal(), "accepted");
}

TEST_F(MakeSpec, TmpfsHasTheImagesContentAndALimitUnlessToldOtherwise) {
  options.volumes.push_back({VolumeOption::Kind::tmpfs, "", "/cache", {}});
  options.volumes.push_back({VolumeOption::Kind::tmpfs, "", "/x", {"size=5", "exec", "notmpcopyup", "mode=700"}});

  const oci::Spec spec = make();

  EXPECT_THAT(mount_at(spec, "/cache")->options, ElementsAre("nosuid", "nodev", "noexec", "size=65536k", "tmpcopyup"));
  EXPECT_THAT(mount_at(spec, "/x")->options, ElementsAre("size=5", "exec", "mode=700", "nosuid", "nodev"));
}

// ---- privileges ----

TEST_F(MakeSpec, GivesRootTheDefaultCapabilities) {
  const auto caps = *make().process->capabilities;

  EXPECT_EQ(caps.bounding, 0xa80425fbU & ~bit(CAP_NET_RAW));
  EXPECT_EQ(caps.effective, caps.bounding);
  EXPECT_EQ(caps.permitted, caps.bounding);
  EXPECT_EQ(caps.inheritable, 0U);
  EXPECT_EQ(caps.ambient, 0U);
}

TEST_F(MakeSpec, GivesOtherUsersNone) {
  facts.user.uid = 1000;
  options.cap_add = {"NET_ADMIN"};

  const auto caps = *make().process->capabilities;

  EXPECT_NE(caps.bounding & bit(CAP_NET_ADMIN), 0U);
  EXPECT_EQ(caps.effective | caps.permitted | caps.inheritable | caps.ambient, 0U);
}

TEST_F(MakeSpec, AddsAndDropsCapabilities) {
  const auto bounding = [&] { return make().process->capabilities->bounding; };
  const std::uint64_t usual = bounding();

  options.cap_add = {"NET_RAW", "cap_sys_admin"};
  options.cap_drop = {"CHOWN"};
  EXPECT_EQ(bounding(), (usual | bit(CAP_NET_RAW) | bit(CAP_SYS_ADMIN)) & ~bit(CAP_CHOWN));
  options.cap_drop = {"ALL"};
  EXPECT_EQ(bounding(), bit(CAP_NET_RAW) | bit(CAP_SYS_ADMIN));
  options.cap_add = {"ALL"};
  options.cap_drop = {"SYS_ADMIN"};
  EXPECT_EQ(bounding(), facts.all_capabilities & ~bit(CAP_SYS_ADMIN));

  options.cap_add = {"NET_ADM"};
  EXPECT_EQ(refusal(), "--cap-add \"NET_ADM\": no such capability; expected a name such as NET_ADMIN, or ALL");
  facts.all_capabilities = bit(CAP_NET_RAW) - 1;
  options.cap_add = {"NET_RAW"};
  EXPECT_EQ(refusal(), "--cap-add \"NET_RAW\": this kernel or skink itself does not have it");
}

TEST_F(MakeSpec, ConfinesByDefault) {
  const oci::Spec spec = make();

  EXPECT_TRUE(spec.process->no_new_privileges);
  ASSERT_TRUE(spec.linux.seccomp);
  EXPECT_EQ(spec.linux.seccomp->default_errno_ret, 38U);
  EXPECT_THAT(spec.linux.masked_paths, AllOf(Contains("/proc/kcore"), Contains("/proc/keys"),
                                             Contains("/proc/key-users"), Contains("/proc/interrupts"),
                                             Contains("/sys/firmware"), Contains("/sys/devices/virtual/powercap")));
  EXPECT_THAT(spec.linux.readonly_paths,
              ElementsAre("/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"));
}

TEST_F(MakeSpec, MasksWhatTheHostHasBesides) {
  facts.masked_paths = {"/sys/devices/system/cpu/cpu0/thermal_throttle"};

  EXPECT_THAT(make().linux.masked_paths, Contains("/sys/devices/system/cpu/cpu0/thermal_throttle"));
}

TEST_F(MakeSpec, TakesConfinementAwayPieceByPiece) {
  options.seccomp_unconfined = true;
  EXPECT_FALSE(make().linux.seccomp);
  EXPECT_THAT(make().linux.masked_paths, Not(IsEmpty()));

  options.seccomp_unconfined = false;
  options.unmask_all = true;
  EXPECT_TRUE(make().linux.seccomp);
  EXPECT_THAT(make().linux.masked_paths, IsEmpty());
  EXPECT_THAT(make().linux.readonly_paths, IsEmpty());

  options.no_new_privileges = false;
  EXPECT_FALSE(make().process->no_new_privileges);

  options.seccomp = oci::Seccomp{.default_action = "SCMP_ACT_LOG"};
  EXPECT_EQ(make().linux.seccomp->default_action, "SCMP_ACT_LOG");
}

TEST_F(MakeSpec, PrivilegedHasEverythingAndSaysSo) {
  options.privileged = true;

  const oci::Spec spec = make();

  EXPECT_EQ(spec.process->capabilities->bounding, facts.all_capabilities);
  EXPECT_FALSE(spec.linux.seccomp);
  EXPECT_THAT(spec.linux.masked_paths, IsEmpty());
  EXPECT_THAT(mount_at(spec, "/sys")->options, Not(Contains("ro")));
  EXPECT_THAT(mount_at(spec, "/sys/fs/cgroup")->options, Not(Contains("ro")));
  ASSERT_EQ(spec.linux.resources->devices.size(), 1U);
  EXPECT_TRUE(spec.linux.resources->devices[0].allow);
  EXPECT_EQ(spec.linux.resources->devices[0].type, 'a');
  EXPECT_THAT(notes, Contains(HasSubstr("--privileged")));

  options.seccomp = oci::Seccomp{.default_action = "SCMP_ACT_LOG"};
  EXPECT_TRUE(make().linux.seccomp) << "a profile that was named stays";
}

// ---- devices and limits ----

TEST_F(MakeSpec, DeniesDevicesButTheUsualOnesAndThoseAskedFor) {
  options.devices = {{'c', "/dev/fuse", 10, 229, {}, 0, 0}, {'b', "/dev/sda", 8, 0, {}, 0, 0}};
  options.device_rules = {{true, 'b', 8, 0, "r"}};

  const oci::Spec spec = make();
  const auto& rules = spec.linux.resources->devices;
  const auto access = [&](char type, int major, int minor) {
    std::string words;
    for (const auto& rule : rules)
      if (rule.allow && rule.type == type && rule.major == major && rule.minor == minor) words += rule.access;
    return words;
  };

  EXPECT_FALSE(rules.front().allow);
  EXPECT_EQ(rules.front().type, 'a');
  EXPECT_EQ(access('c', 1, 3), "rwm");
  EXPECT_EQ(access('c', 5, 2), "rwm");
  EXPECT_EQ(access('c', 10, 229), "rwm");
  EXPECT_EQ(access('b', 8, 0), "r") << "the rule that was given, and no wider one";
  EXPECT_EQ(access('c', 1, 1), "") << "/dev/mem";
  EXPECT_EQ(spec.linux.devices.size(), 2U);
}

TEST_F(MakeSpec, LimitsProcessesWhenNobodyAsks) {
  EXPECT_EQ(make().linux.resources->pids_limit, 4096);
  options.pids_limit = 10;
  EXPECT_EQ(make().linux.resources->pids_limit, 10);
  options.pids_limit = 0;
  EXPECT_EQ(make().linux.resources->pids_limit, -1);
  options.pids_limit = -5;
  EXPECT_THAT(refusal(), StartsWith("--pids-limit -5"));
}

TEST_F(MakeSpec, GivesAsMuchSwapAsMemoryUnlessTold) {
  EXPECT_FALSE(make().linux.resources->memory);
  options.memory = 64 << 20;
  EXPECT_EQ(make().linux.resources->memory->limit, 64 << 20);
  EXPECT_EQ(make().linux.resources->memory->swap, 128 << 20);
  options.memory_swap = -1;
  EXPECT_EQ(make().linux.resources->memory->swap, -1);
  options.memory_swap = 64 << 20;
  EXPECT_EQ(make().linux.resources->memory->swap, 64 << 20);
  options.memory_swap = 1;
  EXPECT_THAT(refusal(), HasSubstr("cannot be less than --memory"));
  options.memory.reset();
  EXPECT_THAT(refusal(), HasSubstr("needs --memory"));
  options.memory_swap.reset();
  options.memory_reservation = 5;
  EXPECT_EQ(make().linux.resources->memory->reservation, 5);
  EXPECT_FALSE(make().linux.resources->memory->limit);
  options.memory = 4;
  EXPECT_THAT(refusal(), HasSubstr("is more than --memory 4"));
  options.memory = -4;
  EXPECT_THAT(refusal(), StartsWith("--memory -4"));
}

TEST_F(MakeSpec, TurnsCpusIntoAQuota) {
  EXPECT_FALSE(make().linux.resources->cpu);
  options.cpus = 1.5;
  options.cpu_shares = 512;
  options.cpuset_cpus = "0-1";
  const auto cpu = *make().linux.resources->cpu;
  EXPECT_EQ(cpu.quota, 150000);
  EXPECT_EQ(cpu.period, 100000U);
  EXPECT_EQ(cpu.shares, 512U);
  EXPECT_EQ(cpu.cpus, "0-1");
  options.cpus = 0.001;
  EXPECT_THAT(refusal(), StartsWith("--cpus"));
  options.cpus = 1;
  options.cpu_shares = 1;
  EXPECT_THAT(refusal(), StartsWith("--cpu-shares 1"));
}

TEST_F(MakeSpec, TakesOverWhatIsAlreadyInItsForm) {
  options.ulimits = {{7, 1, 2}};
  options.sysctl = {{"net.core.somaxconn", "1"}};
  options.oom_score_adj = 500;
  options.apparmor_profile = "p";
  options.selinux_label = "l";
  facts.user.uid = 5;
  facts.user.additional_gids = {5, 6};

  const oci::Spec spec = make();

  EXPECT_EQ(spec.process->rlimits.size(), 1U);
  EXPECT_EQ(spec.linux.sysctl.at("net.core.somaxconn"), "1");
  EXPECT_EQ(spec.process->oom_score_adj, 500);
  EXPECT_EQ(spec.process->apparmor_profile, "p");
  EXPECT_EQ(spec.process->selinux_label, "l");
  EXPECT_THAT(spec.process->user.additional_gids, ElementsAre(5, 6));
  EXPECT_EQ(spec.linux.cgroups_path, "/skink/" + facts.container_id);
}

TEST_F(MakeSpec, RefusesSysctlsOfNamespacesThatAreTheHosts) {
  options.sysctl = {{"kernel.core_pattern", "|/x"}};
  EXPECT_THAT(refusal(), HasSubstr("kernel.core_pattern"));
  options.sysctl = {{"net.core.somaxconn", "1"}};
  options.host_network = true;
  EXPECT_THAT(refusal(), HasSubstr("net.core.somaxconn"));
}

TEST_F(MakeSpec, LabelsOfAnImageSteerNothing) {
  config.run.labels = {{"org.skink.init", "true"}, {"run.oci.hooks", "x"}};
  options.labels = {{"a", "b"}};
  EXPECT_THAT(make().annotations, IsEmpty());

  options.init = true;
  options.annotations = {{"mine", "1"}};
  EXPECT_THAT(make().annotations, ElementsAre(std::pair("mine", "1"), std::pair("org.skink.init", "true")));
}

// ---- the whole ----

std::string without_newlines(std::string text) {
  std::erase(text, '\n');
  return text;
}

TEST_F(MakeSpec, ADefaultContainerIsAValidConfigurationThatReadsBack) {
  const oci::Spec spec = make();

  for (const Error& finding : oci::check_spec(spec)) ADD_FAILURE() << finding.text();
  const auto again = oci::parse_spec(oci::dump_spec(spec));
  ASSERT_TRUE(again) << again.error().text();
  EXPECT_EQ(oci::dump_spec(*again), oci::dump_spec(spec));
}

TEST_F(MakeSpec, ADefaultContainerIsTheGoldenOne) {
  oci::Spec spec = make();
  spec.linux.seccomp.reset();  // tests/unit/security has it

  EXPECT_EQ(oci::dump_spec(spec), without_newlines(R"golden({"ociVersion":"1.3.0",
"process":{"user":{"uid":0,"gid":0,"additionalGids":[0]},
"args":["/bin/app","serve"],
"env":["PATH=/opt/bin:/bin","HOSTNAME=0123456789ab","LANG=C","HOME=/root"],
"cwd":"/",
"capabilities":{"bounding":["CAP_CHOWN","CAP_DAC_OVERRIDE","CAP_FOWNER","CAP_FSETID","CAP_KILL","CAP_SETGID",
"CAP_SETUID","CAP_SETPCAP","CAP_NET_BIND_SERVICE","CAP_SYS_CHROOT","CAP_MKNOD","CAP_AUDIT_WRITE","CAP_SETFCAP"],
"effective":["CAP_CHOWN","CAP_DAC_OVERRIDE","CAP_FOWNER","CAP_FSETID","CAP_KILL","CAP_SETGID","CAP_SETUID",
"CAP_SETPCAP","CAP_NET_BIND_SERVICE","CAP_SYS_CHROOT","CAP_MKNOD","CAP_AUDIT_WRITE","CAP_SETFCAP"],
"permitted":["CAP_CHOWN","CAP_DAC_OVERRIDE","CAP_FOWNER","CAP_FSETID","CAP_KILL","CAP_SETGID","CAP_SETUID",
"CAP_SETPCAP","CAP_NET_BIND_SERVICE","CAP_SYS_CHROOT","CAP_MKNOD","CAP_AUDIT_WRITE","CAP_SETFCAP"]},
"noNewPrivileges":true},
"root":{"path":"rootfs","readonly":true},
"hostname":"0123456789ab",
"mounts":[{"destination":"/proc","type":"proc","source":"proc","options":["nosuid","noexec","nodev"]},
{"destination":"/dev","type":"tmpfs","source":"tmpfs","options":["nosuid","strictatime","mode=755","size=65536k"]},
{"destination":"/sys","type":"sysfs","source":"sysfs","options":["nosuid","noexec","nodev","ro"]},
{"destination":"/tmp","type":"tmpfs","source":"tmpfs","options":["nosuid","nodev","mode=1777","size=65536k",
"tmpcopyup"]},
{"destination":"/run","type":"tmpfs","source":"tmpfs","options":["nosuid","nodev","mode=0755","size=65536k",
"tmpcopyup"]},
{"destination":"/dev/pts","type":"devpts","source":"devpts","options":["nosuid","noexec","newinstance",
"ptmxmode=0666","mode=0620","gid=5"]},
{"destination":"/dev/shm","type":"tmpfs","source":"shm","options":["nosuid","noexec","nodev","mode=1777",
"size=67108864"]},
{"destination":"/dev/mqueue","type":"mqueue","source":"mqueue","options":["nosuid","noexec","nodev"]},
{"destination":"/etc/hosts","type":"bind","source":"/run/skink/containers/0123/hosts","options":["bind","rprivate",
"nosuid","noexec","nodev","ro"]},
{"destination":"/etc/hostname","type":"bind","source":"/run/skink/containers/0123/hostname","options":["bind",
"rprivate","nosuid","noexec","nodev","ro"]},
{"destination":"/etc/resolv.conf","type":"bind","source":"/run/skink/containers/0123/resolv.conf","options":["bind",
"rprivate","nosuid","noexec","nodev","ro"]},
{"destination":"/var/tmp","type":"tmpfs","source":"tmpfs","options":["nosuid","nodev","mode=1777","size=65536k",
"tmpcopyup"]},
{"destination":"/sys/fs/cgroup","type":"cgroup","source":"cgroup","options":["nosuid","noexec","nodev","ro"]}],
"linux":{"resources":{"devices":[{"allow":false,"type":"a","access":"rwm"},
{"allow":true,"type":"c","access":"m"},
{"allow":true,"type":"b","access":"m"},
{"allow":true,"type":"c","major":1,"minor":3,"access":"rwm"},
{"allow":true,"type":"c","major":1,"minor":5,"access":"rwm"},
{"allow":true,"type":"c","major":1,"minor":7,"access":"rwm"},
{"allow":true,"type":"c","major":1,"minor":8,"access":"rwm"},
{"allow":true,"type":"c","major":1,"minor":9,"access":"rwm"},
{"allow":true,"type":"c","major":5,"minor":0,"access":"rwm"},
{"allow":true,"type":"c","major":5,"minor":1,"access":"rwm"},
{"allow":true,"type":"c","major":5,"minor":2,"access":"rwm"},
{"allow":true,"type":"c","major":136,"access":"rwm"}],
"pids":{"limit":4096}},
"cgroupsPath":"/skink/0123456789abcdef000000000000000000000000000000000000000000000000",
"namespaces":[{"type":"mount"},{"type":"cgroup"},{"type":"pid"},{"type":"uts"},{"type":"ipc"},{"type":"network"}],
"maskedPaths":["/proc/acpi","/proc/asound","/proc/interrupts","/proc/kcore","/proc/key-users","/proc/keys",
"/proc/latency_stats","/proc/sched_debug","/proc/scsi","/proc/timer_list","/proc/timer_stats",
"/sys/devices/virtual/powercap","/sys/firmware"],
"readonlyPaths":["/proc/bus","/proc/fs","/proc/irq","/proc/sys","/proc/sysrq-trigger"]}})golden"));
}

// ---- files ----

TEST(MakeHosts, NamesLocalhostTheContainerAndWhatWasAdded) {
  RunOptions options;
  options.add_host = {"db:10.0.0.7", "six:fd00::7"};

  EXPECT_EQ(make_hosts(options, "web.example"),
            "127.0.0.1\tlocalhost\n"
            "::1\tlocalhost ip6-localhost ip6-loopback\n"
            "fe00::0\tip6-localnet\n"
            "ff00::0\tip6-mcastprefix\n"
            "ff02::1\tip6-allnodes\n"
            "ff02::2\tip6-allrouters\n"
            "10.0.0.7\tdb\n"
            "fd00::7\tsix\n"
            "127.0.1.1\tweb.example web\n");
  EXPECT_THAT(make_hosts({}, ""), Not(HasSubstr("127.0.1.1")));
}

TEST(MakeResolvConf, TakesTheHostsResolversButThoseOnItsLoopback) {
  const std::string host =
      "# made by hand\ndomain old.example\nsearch a.example b.example\nnameserver 127.0.0.53\nnameserver 10.0.0.1 ; x\n"
      "options edns0 trust-ad\nsortlist 1.2.3.4\nnameserver\n";

  EXPECT_EQ(*make_resolv_conf({}, host), "search a.example b.example\nnameserver 10.0.0.1\noptions edns0 trust-ad\n");
  EXPECT_EQ(*make_resolv_conf({.host_network = true}, "nameserver 127.0.0.53\n"), "nameserver 127.0.0.53\n");
  EXPECT_EQ(*make_resolv_conf({}, "nameserver 127.0.0.53\n"), "nameserver 127.0.0.53\n") << "better than none";
  EXPECT_EQ(*make_resolv_conf({}, ""), "");
}

TEST(MakeResolvConf, OptionsOverrideTheHost) {
  RunOptions options;
  options.dns = {"9.9.9.9", "fd00::1"};
  options.dns_search = {"mine.example"};
  EXPECT_EQ(*make_resolv_conf(options, "search x\nnameserver 10.0.0.1\n"),
            "search mine.example\nnameserver 9.9.9.9\nnameserver fd00::1\n");
  options.dns_search = {"."};
  EXPECT_EQ(*make_resolv_conf(options, "search x\n"), "nameserver 9.9.9.9\nnameserver fd00::1\n");
  options.dns = {"resolver\nevil"};
  EXPECT_EQ(make_resolv_conf(options, "").error().text(), "--dns \"resolver\\x0aevil\": expected an IP address");
}

TEST(CleanPath, WorksOnTheTextAlone) {
  EXPECT_EQ(*clean_path("/a/./b//c/"), "/a/b/c");
  EXPECT_EQ(*clean_path("/../../a/../b"), "/b");
  EXPECT_EQ(*clean_path("//"), "/");
  EXPECT_FALSE(clean_path(""));
  EXPECT_FALSE(clean_path("a"));
  EXPECT_FALSE(clean_path(std::string("/a\0b", 4)));
}

}  // namespace
}  // namespace skink::plan
