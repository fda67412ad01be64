# SPDX-License-Identifier: Apache-2.0
"""config.json as a document: every member with a value of another type or out of its range is refused with its JSON
path before anything is made, and members that nobody knows are ignored (config.md "Extensibility", "Valid values")."""

import json
import os
import re

import pytest
from skinktest import ALL

ID = {"containerID": 0, "hostID": 1000, "size": 32000}
HOOK = {"path": "/bin/true", "args": ["true"], "env": ["A=1"], "timeout": 5}
AT = {"major": 8, "minor": 0}

# Every member that the specification has for Linux. It is looked at and never run.
FULL = {
    "ociVersion": "1.3.0", "hostname": "h", "domainname": "d", "annotations": {"com.example.key": "value"},
    "process": {
        "terminal": True, "consoleSize": {"height": 25, "width": 80}, "cwd": "/", "env": ["A=1"], "args": ["true"],
        "user": {"uid": 1, "gid": 1, "umask": 18, "additionalGids": [5]},
        "rlimits": [{"type": "RLIMIT_CORE", "soft": 1, "hard": 2}],
        "capabilities": {kind: ["CAP_KILL"] for kind in ("bounding", "permitted", "inheritable", "effective", "ambient")},
        "noNewPrivileges": True, "apparmorProfile": "p", "selinuxLabel": "l", "oomScoreAdj": 1,
        "scheduler": {"policy": "SCHED_DEADLINE", "nice": 0, "priority": 0, "flags": ["SCHED_FLAG_RESET_ON_FORK"],
                      "runtime": 2000, "deadline": 200000, "period": 300000},
        "ioPriority": {"class": "IOPRIO_CLASS_BE", "priority": 4}, "execCPUAffinity": {"initial": "0", "final": "0"}},
    "root": {"path": "rootfs", "readonly": True},
    "mounts": [{"destination": "/x", "type": "bind", "source": "/", "options": ["rbind", "idmap"], "uidMappings": [ID], "gidMappings": [ID]}],
    "hooks": {kind: [HOOK] for kind in ("prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop")},
    "linux": {
        "namespaces": [{"type": "mount"}, {"type": "pid", "path": "/proc/1/ns/pid"}, {"type": "user"}, {"type": "network"},
                       {"type": "ipc"}, {"type": "uts"}, {"type": "cgroup"}, {"type": "time"}],
        "uidMappings": [ID], "gidMappings": [ID], "timeOffsets": {"monotonic": {"secs": 1, "nanosecs": 1}, "boottime": {"secs": 1, "nanosecs": 1}},
        "devices": [{"path": "/dev/x", "type": "c", "major": 1, "minor": 3, "fileMode": 438, "uid": 0, "gid": 0}],
        "netDevices": {"eth0": {"name": "eth1"}}, "cgroupsPath": "/a/b", "rootfsPropagation": "slave",
        "resources": {
            "unified": {"memory.high": "1"},
            "devices": [{"allow": False, "type": "c", "major": 1, "minor": 3, "access": "rwm"}],
            "pids": {"limit": 5},
            "blockIO": {"weight": 10, "leafWeight": 10, "weightDevice": [dict(AT, weight=10, leafWeight=10)],
                        "throttleReadBpsDevice": [dict(AT, rate=1)], "throttleWriteBpsDevice": [dict(AT, rate=1)],
                        "throttleReadIOPSDevice": [dict(AT, rate=1)], "throttleWriteIOPSDevice": [dict(AT, rate=1)]},
            "cpu": {"cpus": "0", "mems": "0", "period": 5000, "quota": 5000, "burst": 1, "realtimePeriod": 1, "realtimeRuntime": 1, "shares": 2, "idle": 0},
            "hugepageLimits": [{"pageSize": "2MB", "limit": 1}],
            "memory": {"limit": 1, "reservation": 1, "swap": 1, "kernel": 1, "kernelTCP": 1, "swappiness": 1,
                       "disableOOMKiller": True, "useHierarchy": True, "checkBeforeUpdate": True},
            "network": {"classID": 1, "priorities": [{"name": "lo", "priority": 1}]},
            "rdma": {"mlx5_1": {"hcaHandles": 1, "hcaObjects": 1}}},
        "seccomp": {"defaultAction": "SCMP_ACT_ERRNO", "defaultErrnoRet": 1, "flags": ["SECCOMP_FILTER_FLAG_LOG"], "listenerPath": "/s",
                    "listenerMetadata": "m", "architectures": ["SCMP_ARCH_X86_64"],
                    "syscalls": [{"names": ["getcwd"], "action": "SCMP_ACT_ERRNO", "errnoRet": 1,
                                  "args": [{"index": 0, "value": 1, "valueTwo": 1, "op": "SCMP_CMP_EQ"}]}]},
        "sysctl": {"net.ipv4.ip_forward": "1"}, "maskedPaths": ["/proc/kcore"], "readonlyPaths": ["/proc/sys"], "mountLabel": "l",
        "intelRdt": {"closID": "c", "schemata": ["L3:0=f"], "l3CacheSchema": "L3:0=f", "memBwSchema": "MB:0=1", "enableMonitoring": True},
        "memoryPolicy": {"mode": "MPOL_BIND", "nodes": "0", "flags": ["MPOL_F_STATIC_NODES"]},
        "personality": {"domain": "LINUX", "flags": []}}}

# Members that are maps with keys of the user's.
MAPS = ("annotations", "linux.sysctl", "linux.resources.unified", "linux.resources.rdma", "linux.netDevices", "linux.timeOffsets")
LARGEST = 2**64


def members(value, path="", steps=()):
    """Every value below, with its JSON path and the steps to it."""
    if steps:
        yield path, steps, value
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from members(inner, path if path in MAPS else (path + "." if path else "") + key, steps + (key,))
    elif isinstance(value, list):
        for index, inner in enumerate(value):
            yield from members(inner, "%s[%d]" % (path, index), steps + (index,))


def wrong_values(value):
    """Of another type than this one, or what no number there can be."""
    wrong = [[], {}, True, 7, "text", 1.5]
    if isinstance(value, bool):
        return [one for one in wrong if not isinstance(one, bool)]
    if isinstance(value, int):
        return [[], {}, True, "7", 1.5, -(2**63) - 1, LARGEST, 1e400]
    kind = type(value)
    return [one for one in wrong if not isinstance(one, kind)]


def changed(steps, value):
    config = json.loads(json.dumps(FULL))
    inner = config
    for step in steps[:-1]:
        inner = inner[step]
    inner[steps[-1]] = value
    return config


TOP = sorted({path.split(".")[0].split("[")[0] + ("." + path.split(".")[1].split("[")[0] if path.startswith(("linux.", "process.")) else "")
              for path, _, _ in members(FULL)})


@pytest.mark.parametrize("top", TOP)
def test_values_of_another_type_are_refused_with_their_path(oci, bundle, world, top):
    b, tried = bundle(), 0
    for index, (path, steps, value) in enumerate(members(FULL)):
        if path != top and not path.startswith((top + ".", top + "[")):
            continue
        wrongs = wrong_values(value)
        # Daily one value of each member, the first types more often than the others.
        for wrong in wrongs if ALL else [wrongs[index % len(wrongs)]]:
            b.save(json.dumps(changed(steps, wrong)).replace("Infinity", "1e400"))
            result = oci("create", "--bundle", b.dir, world.name())
            # A number of more than 64 bits is no number yet when it is read: its place in the text is told.
            assert result.status == 1 and (path in result.err or re.search(r"byte \d+: the number", result.err)), "%s = %r: %r" % (path, wrong, result)
            tried += 1
    assert tried > 0 and world.leaks(1) == []


REQUIRED = ["ociVersion", "root", "root.path", "process", "process.cwd", "process.args", "process.consoleSize.height", "process.consoleSize.width",
            "process.rlimits[0].type", "process.rlimits[0].soft", "process.rlimits[0].hard", "process.scheduler.policy",
            "process.ioPriority.class", "mounts[0].destination", "hooks.prestart[0].path", "hooks.poststop[0].path", "linux.namespaces[0].type",
            "linux.uidMappings[0].containerID", "linux.gidMappings[0].hostID", "linux.uidMappings[0].size", "linux.devices[0].path",
            "linux.devices[0].type", "linux.devices[0].major", "linux.devices[0].minor", "linux.resources.devices[0].allow",
            "linux.resources.blockIO.weightDevice[0].major", "linux.resources.blockIO.throttleReadBpsDevice[0].minor",
            "linux.resources.blockIO.throttleReadBpsDevice[0].rate", "linux.resources.hugepageLimits[0].pageSize",
            "linux.resources.hugepageLimits[0].limit", "linux.resources.network.priorities[0].name",
            "linux.resources.network.priorities[0].priority", "linux.seccomp.defaultAction", "linux.seccomp.syscalls[0].names",
            "linux.seccomp.syscalls[0].action", "linux.seccomp.syscalls[0].args[0].index", "linux.seccomp.syscalls[0].args[0].value",
            "linux.seccomp.syscalls[0].args[0].op", "linux.memoryPolicy.mode"]


def test_members_that_are_required(oci, bundle, world):
    b = bundle()
    places = {path: steps for path, steps, _ in members(FULL)}
    for path in REQUIRED:
        config = json.loads(json.dumps(FULL))
        inner = config
        for step in places[path][:-1]:
            inner = inner[step]
        del inner[places[path][-1]]
        b.save(json.dumps(config))
        result = oci("create", "--bundle", b.dir, world.name())
        assert result.status == 1 and path in result.err, "without %s: %r" % (path, result)
    assert world.leaks(1) == []


WORDS = {"process.rlimits[0].type": ["RLIMIT_WAT", "rlimit core", ""], "process.scheduler.policy": ["", "sched_other"], "process.scheduler.flags[0]": ["X"], "process.ioPriority.class": ["", "IDLE"],
         "linux.namespaces[0].type": ["", "net", "Mount", "wat"], "linux.devices[0].type": ["", "cc", "C", "x"],
         "linux.rootfsPropagation": ["wat", "Slave"], "linux.resources.devices[0].type": ["cb", "x"], "linux.resources.devices[0].access": ["x", "rw m"],
         "linux.seccomp.defaultAction": ["", "ALLOW"], "linux.seccomp.flags[0]": ["SECCOMP_FILTER_FLAG_NEW_LISTENER"],
         "linux.seccomp.architectures[0]": ["x86_64"], "linux.seccomp.syscalls[0].action": ["SCMP_ACT_WAT"],
         "linux.seccomp.syscalls[0].args[0].op": ["=="], "linux.memoryPolicy.mode": ["MPOL_WAT"], "linux.memoryPolicy.flags[0]": ["X"],
         "linux.personality.domain": ["BSD", ""], "process.cwd": ["", "relative"], "process.args[0]": [""],
         "process.env[0]": ["", "=x", "novalue", "A=\0"], "process.apparmorProfile": ["a\nb"], "process.selinuxLabel": ["a\0b"],
         "process.execCPUAffinity.initial": ["0-", "x"], "process.execCPUAffinity.final": ["1-0"], "hooks.prestart[0].path": ["relative", ""],
         "linux.cgroupsPath": ["/../x", "a/../../b", "a\nb"], "linux.devices[0].path": ["relative", "/dev/../../etc/x", "//", "/dev/\0"],
         "linux.resources.hugepageLimits[0].pageSize": ["", "2M", "../2MB", "2MB/../x"], "linux.resources.cpu.cpus": ["x", "1-0"],
         "linux.resources.cpu.mems": ["-1"], "linux.resources.network.priorities[0].name": ["", "a/b", "x" * 300],
         "linux.intelRdt.closID": ["..", "a/b", "x" * 300, "a\0b"], "linux.intelRdt.schemata[0]": ["L3:0=f\nL3:1=f"],
         "linux.intelRdt.memBwSchema": ["L3:0=f"], "linux.memoryPolicy.nodes": ["x", "0-"], "ociVersion": ["", "x", "2.0.0", "1"],
         "linux.namespaces[1].path": ["relative"], "linux.maskedPaths[0]": ["relative"], "linux.readonlyPaths[0]": ["../relative"]}
NUMBERS = {"process.user.uid": [-1, 2**32 - 1, 2**32], "process.user.gid": [-1, 2**32 - 1], "process.user.umask": [-1, 512],
           "process.user.additionalGids[0]": [-1, 2**32 - 1], "process.consoleSize.height": [-1, 65536], "process.consoleSize.width": [-1, 65536],
           "process.rlimits[0].soft": [-1, 3], "process.rlimits[0].hard": [-1], "process.oomScoreAdj": [-1001, 1001],
           "process.scheduler.nice": [20, -21], "process.scheduler.priority": [-1, 100], "process.scheduler.runtime": [-1], "process.ioPriority.priority": [-1, 8],
           "hooks.prestart[0].timeout": [0, -1], "linux.uidMappings[0].containerID": [-1, 2**32], "linux.uidMappings[0].size": [0, -1],
           "linux.gidMappings[0].hostID": [-1], "linux.timeOffsets.monotonic.nanosecs": [-1, 10**9], "linux.devices[0].major": [-1, 4096],
           "linux.devices[0].minor": [-1, 2**20], "linux.devices[0].fileMode": [-1, 2**32], "linux.devices[0].uid": [-1], "linux.resources.pids.limit": [-2],
           "linux.resources.blockIO.weight": [-1, 65536], "linux.resources.cpu.shares": [-1], "linux.resources.cpu.quota": [-2],
           "linux.resources.cpu.idle": [-1, 2], "linux.resources.cpu.realtimeRuntime": [-2], "linux.resources.hugepageLimits[0].limit": [-1],
           "linux.resources.memory.limit": [-2], "linux.resources.memory.swappiness": [-1, 101], "linux.resources.network.classID": [-1, 2**32],
           "linux.resources.devices[0].major": [-2], "linux.seccomp.defaultErrnoRet": [-1], "linux.seccomp.syscalls[0].errnoRet": [-1, 2**32],
           "linux.seccomp.syscalls[0].args[0].index": [-1, 6]}


@pytest.mark.parametrize("table", [WORDS, NUMBERS], ids=["words", "numbers"])
def test_values_that_are_none_of_the_allowed_ones(oci, bundle, world, table):
    b = bundle()
    places = {path: steps for path, steps, _ in members(FULL)}
    # Members of a map are found by their steps.
    places["linux.timeOffsets.monotonic.nanosecs"] = ("linux", "timeOffsets", "monotonic", "nanosecs")
    for path, values in table.items():
        for value in values:
            config = json.loads(json.dumps(RUNNABLE))
            merge(config, FULL, places[path], value)
            b.save(json.dumps(config))
            result = oci.fails("create", "--bundle", b.dir, world.name(), status=1)
            wanted = path.replace(".monotonic", "").rsplit("[", 1)[0] if path.endswith("]") else path.replace(".monotonic.nanosecs", "")
            assert wanted in result.err or wanted.rsplit(".", 1)[0] in result.err, "%s = %r: %r" % (path, value, result)
    assert world.leaks(1) == []


RUNNABLE = {"ociVersion": "1.3.0", "root": {"path": "rootfs"}, "process": {"args": ["true"], "cwd": "/"},
            "linux": {"namespaces": [{"type": kind} for kind in ("mount", "pid", "network", "ipc", "uts", "cgroup")]}}


def merge(config, full, steps, value):
    """Puts into a configuration that runs the object of the full one which the steps lead to, with this value."""
    step = steps[0]
    if len(steps) == 1:
        if isinstance(config, list):
            config[step] = value
        else:
            config[step] = value
        return
    top = steps[0] in ("process", "linux", "hooks", "root") and len(steps) > 2 or steps[0] in ("resources",)
    if top:
        config.setdefault(step, {})
    else:
        have = json.loads(json.dumps(full[step]))
        if isinstance(config, list):
            config[step] = have
        else:
            config[step] = have
    merge(config[step], full[step], steps[1:], value)


def test_members_that_nobody_knows_are_ignored(oci, bundle, world):
    b = bundle(["echo", "in"])
    b.config["hooks"] = {"poststop": [{"path": "/bin/true"}]}
    b.config["linux"]["resources"] = {"pids": {"limit": 99}, "devices": [{"allow": False}]}
    b.config["process"]["rlimits"] = [{"type": "RLIMIT_CORE", "soft": 0, "hard": 0}]

    def add(value):
        if isinstance(value, dict):
            for inner in list(value.values()):
                add(inner)
            value["com.example.future"] = {"a": [1, None, -5], "b": "\u00e4"}
        elif isinstance(value, list):
            for inner in value:
                add(inner)
    add(b.config)
    for maps in (b.config, b.config["linux"]):
        maps["solaris"] = maps["windows"] = {"anything": 1}
    assert oci.ok("run", "--bundle", b.save().dir, world.name()) == "in"


def test_members_that_are_null_are_absent(oci, bundle, world):
    b = bundle(["echo", "in"])
    for name in ("hooks", "annotations", "domainname"):
        b.config[name] = None
    for name in ("resources", "seccomp", "intelRdt", "memoryPolicy", "devices", "sysctl", "rootfsPropagation"):
        b.config["linux"][name] = None
    for name in ("rlimits", "scheduler", "ioPriority", "oomScoreAdj", "consoleSize", "apparmorProfile"):
        b.config["process"][name] = None
    assert oci.ok("run", "--bundle", b.save().dir, world.name()) == "in"


@pytest.mark.parametrize("text", ["", "[]", "5", "null", "{", '{"ociVersion": "1.3.0"} x', '{"ociVersion": "1.3.0", "ociVersion": "1.3.0"}',
                                  '{"ociVersion": NaN}', "{'a': 1}", '{"a": "\\ud800"}', "\ufeff{}", "[" * 100000, '{"a":' * 1000 + "1" + "}" * 1000])
def test_documents_that_are_none(oci, bundle, world, text):
    oci.fails("create", "--bundle", bundle().save(text).dir, world.name(), status=1, match="config.json")
    assert world.leaks(1) == []


@pytest.mark.parametrize("before, key", [('{"ociVersion"', "ociVersion"), ('"process": {', "cwd"), ('"linux": {', "namespaces"),
                                         ('"annotations": {', "a.b"), ('"namespaces": [{', "type"), ('"future": [{', "x")])
def test_keys_that_are_there_twice(oci, bundle, world, before, key):
    """Readers do not agree on which of them counts (docs/spec.md): neither does here, at whatever depth."""
    b = bundle(["true"])
    b.config = dict({"ociVersion": "1.3.0"}, **b.config)
    b.config.update(annotations={"a.b": "1"}, future=[{"x": 1}])
    text = json.dumps(b.config)
    assert oci("run", "--bundle", b.save(text).dir, world.name()).status == 0
    double = '{"ociVersion": "1.2.0", "ociVersion"' if key == "ociVersion" else before + '"%s": null, ' % key
    assert text.count(before) >= 1
    oci.fails("create", "--bundle", b.save(text.replace(before, double, 1)).dir, world.name(), status=1,
              match=["config.json: byte", 'the key "%s" twice' % key])
    assert world.leaks(1) == []


def test_every_member_is_in_the_table_of_the_manual():
    """docs/spec.md has a row for each field."""
    path = os.path.join(os.path.dirname(os.path.abspath(__file__)), "../../docs/spec.md")
    with open(path, encoding="utf-8") as file:
        cells = [line.split("|")[1] for line in file if line.startswith("| `")]
    listed = set()
    for cell in cells:
        words = re.findall(r"`([\w.]+)`", cell)
        listed |= {"%s.%s" % (words[0], word) for word in words[1:]} if ":" in cell else set(words)
    wanted = {re.sub(r"\[\d+\]", "", path) for path, _, value in members(FULL)
              if path in MAPS or not isinstance(value, (dict, list)) or isinstance(value, list) and not (value and isinstance(value[0], dict))}
    assert {path for path in wanted if not path.startswith(tuple(one + "." for one in MAPS))} - listed == set()
