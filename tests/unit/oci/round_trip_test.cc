// SPDX-License-Identifier: Apache-2.0
// What parse_spec reads, dump_spec writes and parse_spec reads again: on what runc and crun give as a start, and on one
// spec with every field.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "oci/json.h"
#include "oci/spec.h"

namespace skink::oci {
namespace {

// `runc spec` and `crun spec`.
constexpr std::string_view kRunc =
    R"json({"ociVersion": "1.0.2-dev", "process": {"terminal": true, "user": {"uid": 0, "gid": 0}, "args": ["sh"], "env": [
"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "TERM=xterm"], "cwd": "/", "capabilities":
{"bounding": ["CAP_AUDIT_WRITE", "CAP_KILL", "CAP_NET_BIND_SERVICE"], "effective": ["CAP_AUDIT_WRITE",
"CAP_KILL", "CAP_NET_BIND_SERVICE"], "permitted": ["CAP_AUDIT_WRITE", "CAP_KILL", "CAP_NET_BIND_SERVICE"],
"ambient": ["CAP_AUDIT_WRITE", "CAP_KILL", "CAP_NET_BIND_SERVICE"]}, "rlimits": [{"type": "RLIMIT_NOFILE",
"hard": 1024, "soft": 1024}], "noNewPrivileges": true}, "root": {"path": "rootfs", "readonly": true},
"hostname": "runc", "mounts": [{"destination": "/proc", "type": "proc", "source": "proc"}, {"destination":
"/dev", "type": "tmpfs", "source": "tmpfs", "options": ["nosuid", "strictatime", "mode=755", "size=65536k"]}, {
"destination": "/dev/pts", "type": "devpts", "source": "devpts", "options": ["nosuid", "noexec", "newinstance",
"ptmxmode=0666", "mode=0620", "gid=5"]}, {"destination": "/dev/shm", "type": "tmpfs", "source": "shm",
"options": ["nosuid", "noexec", "nodev", "mode=1777", "size=65536k"]}, {"destination": "/dev/mqueue", "type":
"mqueue", "source": "mqueue", "options": ["nosuid", "noexec", "nodev"]}, {"destination": "/sys", "type": "sysfs"
, "source": "sysfs", "options": ["nosuid", "noexec", "nodev", "ro"]}, {"destination": "/sys/fs/cgroup", "type":
"cgroup", "source": "cgroup", "options": ["nosuid", "noexec", "nodev", "relatime", "ro"]}], "linux": {
"resources": {"devices": [{"allow": false, "access": "rwm"}]}, "namespaces": [{"type": "pid"}, {"type":
"network"}, {"type": "ipc"}, {"type": "uts"}, {"type": "mount"}], "maskedPaths": ["/proc/acpi", "/proc/asound",
"/proc/kcore", "/proc/keys", "/proc/latency_stats", "/proc/timer_list", "/proc/timer_stats", "/proc/sched_debug"
, "/sys/firmware", "/proc/scsi"], "readonlyPaths": ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys",
"/proc/sysrq-trigger"]}})json";

constexpr std::string_view kCrun =
    R"json({"ociVersion": "1.0.0", "process": {"terminal": true, "user": {"uid": 0, "gid": 0}, "args": ["sh"], "env": [
"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "TERM=xterm"], "cwd": "/", "capabilities":
{"bounding": ["CAP_AUDIT_WRITE", "CAP_KILL", "CAP_NET_BIND_SERVICE"], "effective": ["CAP_AUDIT_WRITE",
"CAP_KILL", "CAP_NET_BIND_SERVICE"], "inheritable": [], "permitted": ["CAP_AUDIT_WRITE", "CAP_KILL",
"CAP_NET_BIND_SERVICE"], "ambient": ["CAP_AUDIT_WRITE", "CAP_KILL", "CAP_NET_BIND_SERVICE"]}, "rlimits": [{
"type": "RLIMIT_NOFILE", "hard": 1024, "soft": 1024}], "noNewPrivileges": true}, "root": {"path": "rootfs",
"readonly": true}, "hostname": "crun", "mounts": [{"destination": "/proc", "type": "proc", "source": "proc"}, {
"destination": "/dev", "type": "tmpfs", "source": "tmpfs", "options": ["nosuid", "strictatime", "mode=755",
"size=65536k"]}, {"destination": "/dev/pts", "type": "devpts", "source": "devpts", "options": ["nosuid",
"noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"]}, {"destination": "/dev/shm", "type": "tmpfs",
"source": "shm", "options": ["nosuid", "noexec", "nodev", "mode=1777", "size=65536k"]}, {"destination":
"/dev/mqueue", "type": "mqueue", "source": "mqueue", "options": ["nosuid", "noexec", "nodev"]}, {"destination":
"/sys", "type": "sysfs", "source": "sysfs", "options": ["nosuid", "noexec", "nodev", "ro"]}, {"destination":
"/sys/fs/cgroup", "type": "cgroup", "source": "cgroup", "options": ["nosuid", "noexec", "nodev", "relatime",
"ro"]}], "linux": {"resources": {"devices": [{"allow": false, "access": "rwm"}]}, "namespaces": [{"type": "pid"
}, {"type": "network"}, {"type": "ipc"}, {"type": "uts"}, {"type": "mount"}], "maskedPaths": ["/proc/acpi",
"/proc/asound", "/proc/kcore", "/proc/keys", "/proc/latency_stats", "/proc/timer_list", "/proc/timer_stats",
"/proc/sched_debug", "/sys/firmware", "/proc/scsi"], "readonlyPaths": ["/proc/bus", "/proc/fs", "/proc/irq",
"/proc/sys", "/proc/sysrq-trigger"]}})json";

constexpr std::string_view kEverything = R"json({"ociVersion": "1.3.0",
"process": {"terminal": true, "consoleSize": {"height": 25, "width": 80},
 "user": {"uid": 1000, "gid": 1001, "umask": 18, "additionalGids": [5, 6]},
 "args": ["sh", "-c", "", "\u00fc \" \\ \n"], "env": ["A=1", "EMPTY="], "cwd": "/work",
 "capabilities": {"bounding": ["CAP_CHOWN", "CAP_BPF"], "effective": ["CAP_CHOWN"], "inheritable": ["CAP_KILL"],
  "permitted": ["CAP_CHOWN", "CAP_KILL"], "ambient": ["CAP_KILL"]},
 "rlimits": [{"type": "RLIMIT_NOFILE", "hard": 18446744073709551615, "soft": 1024}], "noNewPrivileges": true,
 "apparmorProfile": "profile", "oomScoreAdj": -500,
 "scheduler": {"policy": "SCHED_DEADLINE", "nice": -3, "priority": 4, "flags": ["SCHED_FLAG_RESET_ON_FORK",
  "SCHED_FLAG_UTIL_CLAMP_MAX"], "runtime": 1, "deadline": 2, "period": 3},
 "selinuxLabel": "system_u:system_r:svirt_lxc_net_t:s0", "ioPriority": {"class": "IOPRIO_CLASS_IDLE", "priority": 4},
 "execCPUAffinity": {"initial": "0-3,7", "final": "1"}},
"root": {"path": "rootfs", "readonly": true}, "hostname": "h", "domainname": "d",
"mounts": [{"destination": "/data", "type": "none", "source": "/src", "options": ["rbind", "ro"],
 "uidMappings": [{"containerID": 0, "hostID": 1, "size": 2}], "gidMappings": [{"containerID": 3, "hostID": 4, "size": 5}]}],
"hooks": {"prestart": [{"path": "/a", "args": ["a", "b"], "env": ["X=y"], "timeout": 5}], "createRuntime": [{"path": "/b"}],
 "createContainer": [{"path": "/c"}], "startContainer": [{"path": "/d"}], "poststart": [{"path": "/e"}],
 "poststop": [{"path": "/f"}]},
"annotations": {"a.b/c": "d", "e": ""},
"linux": {"uidMappings": [{"containerID": 0, "hostID": 100000, "size": 65536}],
 "gidMappings": [{"containerID": 0, "hostID": 200000, "size": 65536}],
 "sysctl": {"net.core.somaxconn": "256"},
 "resources": {"devices": [{"allow": false, "type": "a", "access": "rwm"},
   {"allow": true, "type": "c", "major": 10, "minor": 229, "access": "rw"}],
  "memory": {"limit": 1, "reservation": 2, "swap": 3, "kernel": -1, "kernelTCP": 0, "swappiness": 0,
   "disableOOMKiller": false, "useHierarchy": true, "checkBeforeUpdate": true},
  "cpu": {"shares": 1024, "quota": -1, "burst": 0, "period": 500000, "realtimeRuntime": 950000, "realtimePeriod": 1000000,
   "cpus": "2-3", "mems": "0-7", "idle": 0},
  "pids": {"limit": 0},
  "blockIO": {"weight": 10, "leafWeight": 11, "weightDevice": [{"major": 8, "minor": 0, "weight": 500, "leafWeight": 300}],
   "throttleReadBpsDevice": [{"major": 8, "minor": 1, "rate": 600}],
   "throttleWriteBpsDevice": [{"major": 8, "minor": 2, "rate": 601}],
   "throttleReadIOPSDevice": [{"major": 8, "minor": 3, "rate": 602}],
   "throttleWriteIOPSDevice": [{"major": 8, "minor": 4, "rate": 0}]},
  "hugepageLimits": [{"pageSize": "2MB", "limit": 209715200}],
  "network": {"classID": 1048577, "priorities": [{"name": "eth0", "priority": 500}, {"name": "eth1", "priority": 0}]},
  "rdma": {"mlx4_0": {"hcaObjects": 1000}, "mlx5_1": {"hcaHandles": 3, "hcaObjects": 10000}},
  "unified": {"io.max": "259:0 rbps=2097152\n253:0 rbps=1", "memory.high": "max"}},
 "cgroupsPath": "/a/b",
 "namespaces": [{"type": "pid"}, {"type": "network", "path": "/run/netns/a"}, {"type": "mount"}, {"type": "ipc"},
  {"type": "uts"}, {"type": "user"}, {"type": "cgroup"}, {"type": "time"}],
 "devices": [{"type": "c", "path": "/dev/fuse", "major": 10, "minor": 229, "fileMode": 438, "uid": 1, "gid": 2},
  {"type": "p", "path": "/dev/pipe"}],
 "netDevices": {"eth0": {"name": "inside"}, "eth1": {}},
 "seccomp": {"defaultAction": "SCMP_ACT_ERRNO", "defaultErrnoRet": 38, "architectures": ["SCMP_ARCH_X86_64",
   "SCMP_ARCH_X32"], "flags": ["SECCOMP_FILTER_FLAG_LOG"], "listenerPath": "/run/agent.sock", "listenerMetadata": "m",
  "syscalls": [{"names": ["read", "write"], "action": "SCMP_ACT_ALLOW"}, {"names": ["ioctl"], "action": "SCMP_ACT_ERRNO",
   "errnoRet": 0, "args": [{"index": 1, "value": 18446744073709551615, "valueTwo": 21522, "op": "SCMP_CMP_MASKED_EQ"}]}]},
 "rootfsPropagation": "rslave", "maskedPaths": ["/proc/kcore"], "readonlyPaths": ["/proc/sys"], "mountLabel": "label",
 "intelRdt": {"closID": "group", "schemata": ["L3:0=7f0"], "l3CacheSchema": "L3:0=f", "memBwSchema": "MB:0=20",
  "enableMonitoring": true},
 "memoryPolicy": {"mode": "MPOL_BIND", "nodes": "0", "flags": ["MPOL_F_STATIC_NODES"]},
 "personality": {"domain": "LINUX32"}, "timeOffsets": {"boottime": {"secs": -7, "nanosecs": 5}, "monotonic": {"secs": 9}}}
})json";

std::string dumped(std::string_view text) {
  const auto spec = parse_spec(text);
  EXPECT_TRUE(spec) << (spec ? "" : spec.error().text());
  return spec ? dump_spec(*spec) : "";
}

TEST(RoundTrip, KeepsEveryFieldInTheOrderOfTheSpecification) {
  EXPECT_EQ(dumped(kEverything), dump_json(*parse_json(kEverything)));
}

TEST(RoundTrip, ComesToRestAfterOneStep) {
  for (const std::string_view text : {kRunc, kCrun, kEverything}) EXPECT_EQ(dumped(dumped(text)), dumped(text));
}

TEST(RoundTrip, KeepsWhatRuncAndCrunGive) {
  // Both write capabilities in an order of their own and crun an empty list; neither means anything.
  auto expected = nlohmann::json::parse(kCrun);
  expected["process"]["capabilities"].erase("inheritable");
  for (auto& [name, set] : expected["process"]["capabilities"].items())
    set = {"CAP_KILL", "CAP_NET_BIND_SERVICE", "CAP_AUDIT_WRITE"};
  auto got = nlohmann::json::parse(dumped(kCrun));
  EXPECT_EQ(got["linux"]["resources"]["devices"][0]["type"], "a") << "absent means all";
  got["linux"]["resources"]["devices"][0].erase("type");

  EXPECT_EQ(got, expected);
}

TEST(RoundTrip, TheDefaultsOfRuncAndCrunHaveNoFindings) {
  for (const std::string_view text : {kRunc, kCrun})
    for (const Error& finding : check_spec(*parse_spec(text))) ADD_FAILURE() << finding.text();
}

TEST(RoundTrip, WritesAnEmptySpecAsOneThatParsesAgain) {
  const Spec spec{.oci_version = std::string(kSpecVersion)};

  EXPECT_EQ(dump_spec(spec), R"({"ociVersion":"1.3.0","root":{"path":""}})");
  EXPECT_TRUE(parse_spec(dump_spec(spec)));
}

TEST(RoundTrip, WritesAnEmptyProcessWithItsUser) {
  Spec spec{.oci_version = "1.0.2"};
  spec.process.emplace();
  spec.process->capabilities.emplace();
  spec.root.path = "/r";

  EXPECT_EQ(dump_spec(spec),
            R"({"ociVersion":"1.0.2","process":{"user":{"uid":0,"gid":0},"capabilities":{}},"root":{"path":"/r"}})");
}

TEST(RoundTrip, NeverThrowsAboutBytesThatAreNotUtf8) {
  Spec spec{.oci_version = "1.0.2"};
  spec.hostname = "\xff";

  EXPECT_THAT(dump_spec(spec), testing::HasSubstr("\xef\xbf\xbd"));
}

}  // namespace
}  // namespace skink::oci
