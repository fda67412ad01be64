// SPDX-License-Identifier: Apache-2.0
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "oci/spec.h"

namespace skink::oci {
namespace {

using testing::ElementsAre;

Result<Spec> parse_with(std::string_view members) {
  return parse_spec(str(R"({"ociVersion": "1.0.2")", members.empty() ? "" : ", ", members, '}'));
}

std::string error_of(const std::string& members) {
  const auto spec = parse_with(members);
  return spec ? "(parsed)" : spec.error().text();
}

std::string in_process(std::string_view members) { return str(R"("process": {)", members, '}'); }
std::string in_linux(std::string_view members) { return str(R"("linux": {)", members, '}'); }
std::string in_resources(std::string_view members) { return in_linux(str(R"("resources": {)", members, '}')); }

TEST(ParseSpec, ReadsTheUser) {
  const auto spec = parse_with(
      in_process(R"("user": {"uid": 4294967294, "gid": 5, "umask": 63, "additionalGids": [1, 2147483648]})"));

  ASSERT_TRUE(spec) << spec.error().text();
  const User& user = spec->process->user;
  EXPECT_EQ(user.uid, 4294967294U);
  EXPECT_EQ(user.gid, 5U);
  EXPECT_EQ(user.umask, 63U);
  EXPECT_THAT(user.additional_gids, ElementsAre(1U, 2147483648U));
}

TEST(ParseSpec, ReadsCapabilitiesAsMasks) {
  const auto spec =
      parse_with(in_process(R"("capabilities": {"bounding": ["CAP_CHOWN", "CAP_BPF"], "ambient": null})"));

  ASSERT_TRUE(spec) << spec.error().text();
  EXPECT_EQ(spec->process->capabilities->bounding, (std::uint64_t{1} << 39) | 1);
  EXPECT_EQ(spec->process->capabilities->ambient, 0U);
}

TEST(ParseSpec, IgnoresWhatItDoesNotKnowAndTakesNullAsAbsent) {
  const auto spec = parse_with(
      R"("future": {"x": [1]}, "process": null, "mounts": null, "windows": {"layerFolders": 7}, "linux": {"namespaces": null, "Sysctl": 1})");

  ASSERT_TRUE(spec) << spec.error().text();
  EXPECT_FALSE(spec->process.has_value());
  EXPECT_TRUE(spec->linux.namespaces.empty());
}

TEST(ParseSpec, FindsANamespaceByItsType) {
  const auto spec = parse_with(in_linux(R"("namespaces": [{"type": "pid"}, {"type": "network", "path": "/run/n"}])"));

  ASSERT_TRUE(spec);
  EXPECT_EQ(spec->find_namespace(NamespaceType::network)->path, "/run/n");
  EXPECT_EQ(spec->find_namespace(NamespaceType::uts), nullptr);
}

TEST(ParseSpec, DropsTheFileTypeFromADevicesMode) {
  const auto spec =
      parse_with(in_linux(R"("devices": [{"type": "c", "path": "/dev/x", "major": 1, "minor": 3, "fileMode": 8630}])"));

  ASSERT_TRUE(spec) << spec.error().text();
  EXPECT_EQ(spec->linux.devices[0].file_mode, 0666U);
}

TEST(ParseSpec, TakesMinusOneAsAnyDevice) {
  const auto spec = parse_with(in_resources(R"("devices": [{"allow": true, "type": "c", "major": 5, "minor": -1}])"));

  ASSERT_TRUE(spec) << spec.error().text();
  EXPECT_EQ(spec->linux.resources->devices[0].major, 5);
  EXPECT_FALSE(spec->linux.resources->devices[0].minor.has_value());
}

struct Mistake {
  std::string members, error;
};

void expect_errors(const std::vector<Mistake>& mistakes) {
  for (const Mistake& mistake : mistakes) EXPECT_EQ(error_of(mistake.members), mistake.error) << mistake.members;
}

TEST(ParseSpec, NamesPathValueAndExpectation) {
  expect_errors({
      {R"("root": [])", "root: a list is not an object"},
      {R"("root": {})", "root.path: is missing"},
      {R"("root": {"path": null})", "root.path: is missing"},
      {R"("root": {"path": "r", "readonly": "yes"})", "root.readonly: \"yes\" is not true or false"},
      {R"("hostname": 5)", "hostname: 5 is not a string"},
      {R"("hostname": "a\u0000b")", "hostname: the string has a NUL byte in it"},
      {R"("mounts": {"destination": "/x"})", "mounts: an object is not a list"},
      {R"("mounts": [{"destination": "/x"}, {"type": "proc"}])", "mounts[1].destination: is missing"},
      {R"("mounts": [{"destination": "/x", "options": [1]}])", "mounts[0].options[0]: 1 is not a string"},
      {R"("annotations": {"a.b": {}})", "annotations[\"a.b\"]: an object is not a string"},
      {R"("annotations": {"a\u0000b": "x"})", "annotations[\"a\\x00b\"]: the key has a NUL byte in it"},
      {R"("hooks": {"poststop": [{"path": "/x", "timeout": 0}]})",
       "hooks.poststop[0].timeout: 0 is not a number from 1 to 2147483647"},
      {R"("hooks": {"prestart": [{}]})", "hooks.prestart[0].path: is missing"},
      {R"("hooks": [])", "hooks: a list is not an object"},
  });
}

TEST(ParseSpec, ChecksNumbersBeforeItNarrowsThem) {
  const auto uid = [](const char* number) { return in_process(str(R"("user": {"uid": )", number, '}')); };
  const std::string range = " is not a number from 0 to 4294967294";
  expect_errors({
      {uid("-1"), "process.user.uid: -1" + range},
      {uid("4294967295"), "process.user.uid: 4294967295" + range},
      {uid("4294967296"), "process.user.uid: 4294967296" + range},
      {uid("18446744073709551615"), "process.user.uid: 18446744073709551615" + range},
      {uid("-9223372036854775808"), "process.user.uid: -9223372036854775808" + range},
      {uid("\"0\""), "process.user.uid: \"0\"" + range},
      {uid("0.0"), "process.user.uid: 0.0 is not a whole number from 0 to 4294967294"},
      {uid("1e3"), "process.user.uid: 1000.0 is not a whole number from 0 to 4294967294"},
      {uid("true"), "process.user.uid: true" + range},
      {in_process(R"("user": {"additionalGids": [0, -1]})"), "process.user.additionalGids[1]: -1" + range},
      {in_process(R"("user": {"umask": 512})"), "process.user.umask: 512 is not a number from 0 to 511"},
      {in_process(R"("consoleSize": {"height": 65536, "width": 1})"),
       "process.consoleSize.height: 65536 is not a number from 0 to 65535"},
      {in_process(R"("oomScoreAdj": -1001)"), "process.oomScoreAdj: -1001 is not a number from -1000 to 1000"},
      {in_process(R"("rlimits": [{"type": "RLIMIT_CPU", "hard": -1, "soft": 1}])"),
       "process.rlimits[0].hard: -1 is not a number from 0 to 18446744073709551615"},
      {in_linux(R"("uidMappings": [{"containerID": 0, "hostID": 4294967295, "size": 1}])"),
       "linux.uidMappings[0].hostID: 4294967295" + range},
      {in_resources(R"("memory": {"limit": -2})"),
       "linux.resources.memory.limit: -2 is not a number from -1 to 9223372036854775807"},
      {in_resources(R"("memory": {"limit": 9223372036854775808})"),
       "linux.resources.memory.limit: 9223372036854775808 is not a number from -1 to 9223372036854775807"},
      {in_resources(R"("memory": {"swappiness": 101})"),
       "linux.resources.memory.swappiness: 101 is not a number from 0 to 100"},
      {in_resources(R"("blockIO": {"weight": 65536})"),
       "linux.resources.blockIO.weight: 65536 is not a number from 0 to 65535"},
      {in_resources(R"("pids": 5)"), "linux.resources.pids: 5 is not an object"},
      {in_resources(R"("pids": {"limit": "5"})"),
       "linux.resources.pids.limit: \"5\" is not a number from -1 to 9223372036854775807"},
  });
}

TEST(ParseSpec, RefusesUnknownWords) {
  expect_errors({
      {in_process(R"("rlimits": [{"type": "RLIMIT_FUN", "hard": 1, "soft": 1}])"),
       "process.rlimits[0].type: \"RLIMIT_FUN\" is not a resource limit, such as RLIMIT_NOFILE"},
      {in_process(R"("scheduler": {"policy": "SCHED_FUN"})"),
       "process.scheduler.policy: \"SCHED_FUN\" is not one of SCHED_OTHER, SCHED_FIFO, SCHED_RR, SCHED_BATCH, "
       "SCHED_ISO, "
       "SCHED_IDLE, SCHED_DEADLINE"},
      {in_process(R"("scheduler": {"policy": "SCHED_RR", "flags": ["X"]})"),
       "process.scheduler.flags[0]: \"X\" is not one of SCHED_FLAG_RESET_ON_FORK, SCHED_FLAG_RECLAIM, "
       "SCHED_FLAG_DL_OVERRUN, SCHED_FLAG_KEEP_POLICY, SCHED_FLAG_KEEP_PARAMS, SCHED_FLAG_UTIL_CLAMP_MIN, "
       "SCHED_FLAG_UTIL_CLAMP_MAX"},
      {in_process(R"("ioPriority": {"class": "IOPRIO_CLASS_NONE", "priority": 0})"),
       "process.ioPriority.class: \"IOPRIO_CLASS_NONE\" is not one of IOPRIO_CLASS_RT, IOPRIO_CLASS_BE, "
       "IOPRIO_CLASS_IDLE"},
      {in_process(R"("ioPriority": {"class": "IOPRIO_CLASS_BE", "priority": 8})"),
       "process.ioPriority.priority: 8 is not a number from 0 to 7"},
      {in_linux(R"("namespaces": [{"type": "net"}])"),
       "linux.namespaces[0].type: \"net\" is not one of pid, network, mount, ipc, uts, user, cgroup, time"},
      {in_linux(R"("namespaces": [{}])"), "linux.namespaces[0].type: is missing"},
      {in_linux(R"("rootfsPropagation": "sharedd")"),
       "linux.rootfsPropagation: \"sharedd\" is not one of shared, slave, private, unbindable, rshared, rslave, "
       "rprivate, runbindable"},
      {in_linux(R"("personality": {"domain": "LINUX64"})"),
       "linux.personality.domain: \"LINUX64\" is not one of LINUX, LINUX32"},
      {in_linux(R"("personality": {"domain": "LINUX", "flags": ["X"]})"),
       "linux.personality.flags: \"X\" is not a word that the specification knows"},
      {in_linux(R"("devices": [{"type": "x", "path": "/dev/x"}])"),
       "linux.devices[0].type: \"x\" is not one of c, b, u, p"},
      {in_linux(R"("devices": [{"type": "c", "path": "/dev/x"}])"), "linux.devices[0].major: is missing"},
      {in_linux(R"("devices": [{"type": "b", "path": "/dev/x", "major": 4096, "minor": 0}])"),
       "linux.devices[0].major: 4096 is not a number from 0 to 4095"},
      {in_linux(R"("devices": [{"type": "b", "path": "/dev/x", "major": 8, "minor": 1048576}])"),
       "linux.devices[0].minor: 1048576 is not a number from 0 to 1048575"},
      {in_linux(R"("devices": [{"type": "p", "path": "/dev/x"}])"), "(parsed)"},
      {in_resources(R"("devices": [{"type": "c"}])"), "linux.resources.devices[0].allow: is missing"},
      {in_linux(R"("netDevices": {"eth0": {"name": 1}})"), "linux.netDevices[\"eth0\"].name: 1 is not a string"},
      {in_linux(R"("timeOffsets": {"monotonic": {"nanosecs": 1000000000}})"),
       "linux.timeOffsets[\"monotonic\"].nanosecs: 1000000000 is not a number from 0 to 999999999"},
      {in_linux(R"("memoryPolicy": {"mode": "MPOL_X"})"),
       "linux.memoryPolicy.mode: \"MPOL_X\" is not one of MPOL_DEFAULT, MPOL_BIND, MPOL_INTERLEAVE, "
       "MPOL_WEIGHTED_INTERLEAVE, MPOL_PREFERRED, MPOL_PREFERRED_MANY, MPOL_LOCAL"},
  });
}

TEST(ParseSpec, RefusesUnknownWordsOfSeccomp) {
  const auto rule = [](std::string_view members) {
    return in_linux(
        str(R"("seccomp": {"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": ["read"], )", members, "}]}"));
  };
  expect_errors({
      {in_linux(R"("seccomp": {})"), "linux.seccomp.defaultAction: is missing"},
      {in_linux(R"("seccomp": {"defaultAction": "ALLOW"})"),
       "linux.seccomp.defaultAction: \"ALLOW\" is not one of SCMP_ACT_KILL, SCMP_ACT_KILL_PROCESS, "
       "SCMP_ACT_KILL_THREAD, SCMP_ACT_TRAP, SCMP_ACT_ERRNO, SCMP_ACT_TRACE, SCMP_ACT_ALLOW, SCMP_ACT_LOG, "
       "SCMP_ACT_NOTIFY"},
      {in_linux(R"("seccomp": {"defaultAction": "SCMP_ACT_LOG", "flags": ["SECCOMP_FILTER_FLAG_NEW_LISTENER"]})"),
       "linux.seccomp.flags[0]: \"SECCOMP_FILTER_FLAG_NEW_LISTENER\" is not one of SECCOMP_FILTER_FLAG_TSYNC, "
       "SECCOMP_FILTER_FLAG_LOG, SECCOMP_FILTER_FLAG_SPEC_ALLOW, SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV"},
      {rule(R"("action": "SCMP_ACT_LOG", "args": [{"index": 6, "value": 0, "op": "SCMP_CMP_EQ"}])"),
       "linux.seccomp.syscalls[0].args[0].index: 6 is not a number from 0 to 5"},
      {rule(R"("action": "SCMP_ACT_LOG", "args": [{"index": 1, "value": 0, "op": "=="}])"),
       "linux.seccomp.syscalls[0].args[0].op: \"==\" is not one of SCMP_CMP_NE, SCMP_CMP_LT, SCMP_CMP_LE, "
       "SCMP_CMP_EQ, SCMP_CMP_GE, SCMP_CMP_GT, SCMP_CMP_MASKED_EQ"},
      {rule(R"("args": [])"), "linux.seccomp.syscalls[0].action: is missing"},
  });
  EXPECT_THAT(error_of(in_linux(R"("seccomp": {"defaultAction": "SCMP_ACT_LOG", "architectures": ["x86"]})")),
              testing::StartsWith("linux.seccomp.architectures[0]: \"x86\" is not one of SCMP_ARCH_X86, "));
}

TEST(ParseSpec, SaysWhenTheDocumentIsNoConfig) {
  EXPECT_EQ(parse_spec("[]").error().text(), "the document is a list, not an object");
  EXPECT_EQ(parse_spec("{}").error().text(), "ociVersion: is missing");
  EXPECT_EQ(parse_spec("{").error().text(), "byte 1: unexpected end of input; expected string literal");
  EXPECT_EQ(parse_spec("{}").error().code(), Code::invalid_config);
  EXPECT_EQ(parse_spec(std::string((16U << 20) + 1, ' ')).error().text(),
            "16777217 bytes of JSON; at most 16777216 are read");
}

TEST(ParseSpec, ShowsAForeignValueCutAndWithoutControlBytes) {
  EXPECT_EQ(error_of(in_linux(R"("rootfsPropagation": "\u001b[2J")")).find('\x1b'), std::string::npos);

  const std::string error = error_of(in_linux(str(R"("personality": {"domain": ")", std::string(5000, 'x'), "\"}")));
  EXPECT_LT(error.size(), 200U);
  EXPECT_THAT(error, testing::HasSubstr("xxx\"... (5000 bytes) is not one of"));
}

TEST(ParseProcess, TakesOneProcessAndChecksIt) {
  const auto process =
      parse_process(R"({"args": ["sh", "-c", ""], "env": ["A=b", "C="], "user": {"uid": 7, "gid": 8}})");

  ASSERT_TRUE(process) << process.error().text();
  EXPECT_THAT(process->args, ElementsAre("sh", "-c", ""));
  EXPECT_EQ(process->user.gid, 8U);
  EXPECT_EQ(parse_process("{}").error().text(),
            "process.args: is missing or empty; the first entry is the program to run");
  EXPECT_EQ(parse_process(R"({"args": ["x"], "user": {"uid": -1}})").error().text(),
            "process.user.uid: -1 is not a number from 0 to 4294967294");
  EXPECT_EQ(parse_process(R"({"args": ["x"], "env": ["NAME"]})").error().text(),
            "process.env[0]: \"NAME\" is not NAME=VALUE");
}

TEST(ParseResources, TakesOneObjectAndChecksIt) {
  const auto resources = parse_resources(R"({"memory": {"limit": 5}, "pids": {"limit": -1}})");

  ASSERT_TRUE(resources) << resources.error().text();
  EXPECT_EQ(resources->memory->limit, 5);
  EXPECT_FALSE(resources->memory->swap.has_value());
  EXPECT_EQ(resources->pids_limit, -1);
  EXPECT_EQ(parse_resources(R"({"memory": {"limit": "5"}})").error().text(),
            "memory.limit: \"5\" is not a number from -1 to 9223372036854775807");
  EXPECT_EQ(parse_resources(R"({"unified": {"../x": "1"}})").error().text(),
            "unified[\"../x\"]: is not the name of a cgroup file such as memory.high");
}

}  // namespace
}  // namespace skink::oci
