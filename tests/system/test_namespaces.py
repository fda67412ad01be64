# SPDX-License-Identifier: Apache-2.0
"""skink-oci: linux.namespaces, made and joined by path, id mappings, timeOffsets and netDevices."""

import json
import os
import subprocess

import pytest
from skinktest import read_text, status_of, wait_for

KINDS = {"pid": "pid", "network": "net", "ipc": "ipc", "uts": "uts", "mount": "mnt", "cgroup": "cgroup", "time": "time", "user": "user"}
MAP = [{"containerID": 0, "hostID": 100000, "size": 65536}]


def state(oci, name):
    return json.loads(oci.ok("state", name))


def namespace(pid, kind):
    return os.readlink("/proc/%d/ns/%s" % (pid, KINDS[kind]))


def without(b, *kinds):
    b.config["linux"]["namespaces"] = [one for one in b.config["linux"]["namespaces"] if one["type"] not in kinds]
    return b.config["linux"]["namespaces"]


def with_user(world, b, mappings=None):
    os.chmod(world.base, 0o755)
    b.config["linux"]["namespaces"].append({"type": "user"})
    b.config["linux"]["uidMappings"] = b.config["linux"]["gidMappings"] = mappings or MAP
    subprocess.run(["chown", "-R", "100000:100000", b.rootfs], check=True)


def start(oci, world, b):
    b.save()
    name = world.name()
    oci.ok("create", "--bundle", b.dir, name)
    oci.ok("start", name)
    return name, state(oci, name)["pid"]


@pytest.fixture
def holder(world):
    """Processes in namespaces of their own: holder("-n", ...) is the pid of one, as unshare(1) makes it."""
    running = []

    def hold(*flags):
        process = subprocess.Popen(["unshare", *flags, "sleep", "1000"], env=world.environment())
        running.append(process)
        fork = "-f" in flags

        def ready():
            pid = process.pid
            if fork:
                children = read_text("/proc/%d/task/%d/children" % (pid, pid), "").split()
                if not children:
                    return 0
                pid = int(children[0])
            return pid if read_text("/proc/%d/comm" % pid, "").strip() == "sleep" else 0
        return wait_for(ready)
    yield hold
    for process in running:
        for child in read_text("/proc/%d/task/%d/children" % (process.pid, process.pid), "").split():
            os.kill(int(child), 9)
        process.kill()
        process.wait()


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_a_new_namespace(oci, bundle, world, kind):
    b = bundle(["sleep", "1000"])
    if kind == "user":
        with_user(world, b)
    elif kind == "time":
        b.config["linux"]["namespaces"].append({"type": "time"})
    _, pid = start(oci, world, b)
    for each in KINDS:
        made = each == kind or each in ("pid", "network", "ipc", "uts", "mount", "cgroup")
        assert (namespace(pid, each) != namespace(os.getpid(), each)) == made, each


@pytest.mark.parametrize("kind", ["pid", "network", "ipc", "uts", "cgroup"])
def test_a_namespace_that_is_shared_with_the_host(oci, bundle, world, kind):
    b = bundle(["sleep", "1000"])
    without(b, kind)
    b.config["linux"]["readonlyPaths"] = b.config["linux"]["maskedPaths"] = []
    if kind == "uts":
        del b.config["hostname"]
    name, pid = start(oci, world, b)
    assert namespace(pid, kind) == namespace(os.getpid(), kind)
    oci.ok("delete", "--force", name)


@pytest.mark.parametrize("kind, flags", [("pid", ["-p", "-f", "--kill-child"]), ("network", ["-n"]), ("ipc", ["-i"]), ("uts", ["-u"]),
                                         ("cgroup", ["-C"]), ("time", ["-T", "-f"])])
def test_a_namespace_joined_by_path(oci, bundle, world, holder, kind, flags):
    other = holder(*flags)
    b = bundle(["sleep", "1000"])
    without(b, kind).append({"type": kind, "path": "/proc/%d/ns/%s" % (other, KINDS[kind])})
    name, pid = start(oci, world, b)
    assert namespace(pid, kind) == namespace(other, kind) != namespace(os.getpid(), kind)
    assert namespace(pid, "mount") != namespace(os.getpid(), "mount")
    if kind == "uts":
        assert subprocess.run(["nsenter", "-t", str(other), "-u", "hostname"], capture_output=True, text=True).stdout.strip() == "bundle"
    oci.ok("delete", "--force", name)
    assert os.path.exists("/proc/%d" % other)


def test_all_namespaces_joined_at_once(oci, bundle, world, holder):
    flags = {"network": "-n", "ipc": "-i", "uts": "-u", "cgroup": "-C", "pid": "-p"}
    other = holder("-f", "--kill-child", *flags.values())
    b = bundle(["sleep", "1000"])
    for kind in flags:
        without(b, kind).append({"type": kind, "path": "/proc/%d/ns/%s" % (other, KINDS[kind])})
    b.save()
    _, pid = start(oci, world, b)
    for kind in flags:
        assert namespace(pid, kind) == namespace(other, kind), kind


def map_user(pid):
    for name in ("uid_map", "gid_map"):
        with open("/proc/%d/%s" % (pid, name), "w") as file:
            file.write("0 100000 65536\n")


@pytest.mark.parametrize("also", [[], ["-n", "-i", "-u"]])
@pytest.mark.parametrize("uid", [0, 1000])
def test_a_user_namespace_joined_by_path(oci, bundle, world, holder, also, uid):
    """As pods have it: the user namespace of a sandbox and the namespaces that belong to it."""
    other = holder("-U", *also)
    map_user(other)
    b = bundle(["sh", "-c", "touch /tmp/x; echo y >/dev/null; sleep 1000"], user={"uid": uid, "gid": uid})
    os.chmod(world.base, 0o755)
    subprocess.run(["chown", "-R", "100000:100000", b.rootfs], check=True)
    joined = ["user"] + (["network", "ipc", "uts"] if also else [])
    for kind in joined:
        without(b, kind).append({"type": kind, "path": "/proc/%d/ns/%s" % (other, KINDS[kind])})
    _, pid = start(oci, world, b)
    for kind in joined:
        assert namespace(pid, kind) == namespace(other, kind), kind
    assert status_of(pid)["Uid"].split() == [str(100000 + uid)] * 4
    wait_for(lambda: os.path.exists("/proc/%d/root/tmp/x" % pid))
    assert os.stat("/proc/%d/root/tmp/x" % pid).st_uid == 100000 + uid


def test_a_user_namespace_with_a_network_of_the_hosts(oci, bundle, world, holder):
    """The network was made for the container by somebody with privilege: it is joined before that is given up."""
    network, user = holder("-n"), holder("-U")
    map_user(user)
    b = bundle(["sleep", "1000"])
    os.chmod(world.base, 0o755)
    subprocess.run(["chown", "-R", "100000:100000", b.rootfs], check=True)
    b.config["mounts"] = [mount for mount in b.config["mounts"] if mount["type"] != "sysfs"]
    without(b, "network").extend([{"type": "network", "path": "/proc/%d/ns/net" % network}, {"type": "user", "path": "/proc/%d/ns/user" % user}])
    _, pid = start(oci, world, b)
    assert namespace(pid, "network") == namespace(network, "network") and namespace(pid, "user") == namespace(user, "user")


def test_a_mount_namespace_joined_by_path(oci, bundle, world, holder):
    """Its root stays what it is for those who live there; the container has its own below the bundle."""
    other = holder("-m")
    b = bundle(["sh", "-c", "touch /tmp/x; sleep 1000"])
    without(b, "mount").append({"type": "mount", "path": "/proc/%d/ns/mnt" % other})
    name, pid = start(oci, world, b)
    assert namespace(pid, "mount") == namespace(other, "mount")
    wait_for(lambda: os.path.exists("/proc/%d/root/tmp/x" % pid))
    assert os.path.exists("/proc/%d/root/usr/sbin" % other) and not os.path.exists("/proc/%d/root/usr/sbin" % pid)
    assert world.host_mounts() == world.mounts_before
    oci.ok("delete", "--force", name)
    assert os.path.exists("/proc/%d/root/usr/sbin" % other)


@pytest.mark.parametrize("change, wanted", [
    (lambda spaces: spaces.append({"type": "mount", "path": "/proc/self/ns/mnt"}), "host's own"),
    (lambda spaces: spaces.extend([{"type": "mount"}, {"type": "time", "path": "/no/such"}]), "/no/such"),
    (lambda spaces: spaces.extend([{"type": "mount"}, {"type": "time", "path": "/etc/passwd"}]), "time.*/etc/passwd"),
    (lambda spaces: spaces.extend([{"type": "mount"}, {"type": "time", "path": "relative"}]), r"linux.namespaces\[6\].path"),
    (lambda spaces: spaces.extend([{"type": "mount"}, {"type": "mount"}]), r"linux.namespaces\[6\].type")])
def test_namespaces_that_are_wrong(oci, bundle, world, change, wanted):
    b = bundle()
    change(without(b, "mount"))
    b.save()
    oci.fails("create", "--bundle", b.dir, world.name(), status=1, match=wanted)
    assert world.leaks(3) == []


def test_id_mappings_of_several_ranges(oci, bundle, world):
    b = bundle(["sleep", "1000"], user={"uid": 5, "gid": 2000, "additionalGids": [7]})
    mappings = [{"containerID": 0, "hostID": 100000, "size": 1000}, {"containerID": 2000, "hostID": 300000, "size": 500}]
    with_user(world, b, mappings)
    _, pid = start(oci, world, b)
    for name in ("uid_map", "gid_map"):
        assert read_text("/proc/%d/%s" % (pid, name)).split() == ["0", "100000", "1000", "2000", "300000", "500"]
    assert read_text("/proc/%d/setgroups" % pid).strip() == "allow"
    status = status_of(pid)
    assert status["Uid"].split() == ["100005"] * 4 and status["Gid"].split() == ["300000"] * 4 and status["Groups"].split() == ["100007"]


def test_without_mappings_the_caller_is_root_and_nobody_else_is_there(oci, bundle, world):
    b = bundle(["sh", "-c", "cat /proc/self/uid_map /proc/self/gid_map; stat -c %u /proc/1; sleep 1000"])
    b.config["linux"]["namespaces"].append({"type": "user"})
    b.save()
    name, pid = start(oci, world, b)
    for kind in ("uid_map", "gid_map"):
        assert read_text("/proc/%d/%s" % (pid, kind)).split() == ["0", "0", "1"]
    assert oci.ok("exec", name, "cat", "/proc/self/uid_map").split() == ["0", "0", "1"]
    b.config["process"]["user"] = {"uid": 1, "gid": 0}
    b.save()
    oci.fails("create", "--bundle", b.dir, world.name(), match=["process.user.uid", "uidMappings"])


@pytest.mark.parametrize("ro", [True, False])
def test_sysfs_with_a_user_namespace_and_the_hosts_network_is_the_hosts(oci, bundle, world, ro):
    """The kernel gives a sysfs only to who owns the network namespace."""
    b = bundle(["sh", "-c", "cat /proc/self/mountinfo; ls /sys/class/net"])
    without(b, "network")
    b.config["linux"]["namespaces"].append({"type": "user"})
    for mount in b.config["mounts"]:
        if mount["destination"] == "/sys":
            mount["options"] = ["nosuid", "noexec", "nodev"] + (["ro"] if ro else [])
    b.save()
    out = oci.ok("run", "--bundle", b.dir, world.name()).splitlines()
    lines = [line.split() for line in out if " - " in line]
    below = [fields for fields in lines if fields[4] == "/sys" or (fields[4].startswith("/sys/") and " tmpfs " not in " ".join(fields))]
    # /sys itself, and the host's mounts below it.
    assert below[0][4] == "/sys" and len([fields for fields in below if fields[4].startswith("/sys/fs/cgroup")]) > 0
    for fields in below:
        assert not ro or "ro" in fields[5].split(","), fields
    assert {"nosuid", "noexec", "nodev"} <= set(below[0][5].split(","))
    assert sorted(out[-len(os.listdir("/sys/class/net")):]) == sorted(os.listdir("/sys/class/net"))


def test_time_offsets(oci, bundle, world):
    b = bundle(["sh", "-c", "cat /proc/uptime; cat /proc/self/timens_offsets; sleep 1000"])
    b.config["linux"]["namespaces"].append({"type": "time"})
    b.config["linux"]["timeOffsets"] = {"monotonic": {"secs": 86400, "nanosecs": 7}, "boottime": {"secs": 10000000}}
    b.save()
    name = world.name()
    with open(world.path("out"), "wb") as out:
        assert oci("create", "--bundle", b.dir, name, stdout=out, stderr=out).status == 0
    oci.ok("start", name)
    pid = state(oci, name)["pid"]
    assert namespace(pid, "time") == os.readlink("/proc/%d/ns/time_for_children" % pid) != namespace(os.getpid(), "time")
    assert [line.split() for line in read_text("/proc/%d/timens_offsets" % pid).splitlines()] == [["monotonic", "86400", "7"], ["boottime", "10000000", "0"]]
    wait_for(lambda: "boottime" in read_text(world.path("out")))
    assert float(read_text(world.path("out")).split()[0]) > 10000000


def test_exec_has_the_containers_time(bare, bundle, world):
    b = bundle(["sleep", "1000"])
    b.config["linux"]["namespaces"].append({"type": "time"})
    b.config["linux"]["timeOffsets"] = {"boottime": {"secs": 10000000}}
    b.save()
    name = world.name()
    bare.ok("run", "-d", "--name", name, "--bundle", b.dir)
    assert bare.ok("exec", name, "readlink", "/proc/self/ns/time") == namespace(bare.pid(name), "time") != namespace(os.getpid(), "time")
    assert float(bare.ok("exec", name, "cat", "/proc/uptime").split()[0]) > 10000000


@pytest.mark.parametrize("offsets, wanted", [
    ({"realtime": {"secs": 1}}, "linux.timeOffsets"), ({"monotonic": {"nanosecs": 1000000000}}, r"linux.timeOffsets.*monotonic.*nanosecs"),
    ({"monotonic": {"secs": "x"}}, r"linux.timeOffsets.*monotonic.*secs"), ({"monotonic": {"secs": -(1 << 40)}}, "linux.timeOffsets")])
def test_time_offsets_that_are_wrong(oci, bundle, world, offsets, wanted):
    b = bundle()
    b.config["linux"]["namespaces"].append({"type": "time"})
    b.config["linux"]["timeOffsets"] = offsets
    b.save()
    oci.fails("create", "--bundle", b.dir, world.name(), status=1, match=wanted)
    without(b, "time")
    b.config["linux"]["namespaces"].append({"type": "time", "path": "/proc/self/ns/time"})
    b.config["linux"]["timeOffsets"] = {"monotonic": {"secs": 1}}
    b.save()
    oci.fails("create", "--bundle", b.dir, world.name(), status=1, match="linux.timeOffsets")


def test_mappings_and_offsets_for_namespaces_that_are_not_there(oci, bundle, world):
    """As with runc and crun they have no effect, in exec neither; here one is told."""
    b = bundle(["sh", "-c", "cat /proc/self/uid_map /proc/self/gid_map /proc/self/timens_offsets; sleep 1000"])
    b.config["linux"]["uidMappings"] = b.config["linux"]["gidMappings"] = MAP
    b.config["linux"]["timeOffsets"] = {"monotonic": {"secs": 1000}}
    name = world.name()
    with open(world.path("out"), "wb") as out:
        result = oci("create", "--bundle", b.save().dir, name, stdout=out)
    assert result.status == 0, result
    assert "linux.uidMappings and linux.gidMappings are ignored" in result.err and "linux.timeOffsets is ignored" in result.err
    oci.ok("start", name)
    pid = state(oci, name)["pid"]
    for kind in ("user", "time"):
        assert namespace(pid, kind) == namespace(os.getpid(), kind)
    expected = [read_text("/proc/self/" + file) for file in ("uid_map", "gid_map", "timens_offsets")]
    wait_for(lambda: "boottime" in read_text(world.path("out")))
    assert read_text(world.path("out")) == "".join(expected)
    assert oci.ok("exec", name, "cat", "/proc/self/uid_map").split() == expected[0].split()


# Net devices: the "host" is a network namespace of the test's.

class Host:
    def __init__(self, pid):
        self.pid, self.before = pid, ["nsenter", "-t", str(pid), "-n"]

    def ip(self, *words):
        return subprocess.run(self.before + ["ip", *words], check=True, capture_output=True, text=True).stdout

    def names(self):
        return sorted(link["ifname"] for link in json.loads(self.ip("-j", "link")))


def see(pid):
    out = subprocess.run(["nsenter", "-t", str(pid), "-n", "ip", "-j", "addr"], check=True, capture_output=True, text=True).stdout
    return {link["ifname"]: link for link in json.loads(out)}


def told(link, scope="global"):
    return sorted("%s/%d" % (one["local"], one["prefixlen"]) for one in link["addr_info"] if one["scope"] == scope)


@pytest.fixture
def host(holder):
    one = Host(holder("-n"))
    one.ip("link", "add", "veth0", "mtu", "1400", "address", "02:00:00:00:00:07", "type", "veth", "peer", "name", "peer0")
    one.ip("addr", "add", "10.9.8.7/24", "brd", "10.9.8.255", "dev", "veth0", "label", "veth0:1")
    one.ip("addr", "add", "10.9.8.8/24", "dev", "veth0")
    one.ip("addr", "add", "2001:db8::7/64", "dev", "veth0", "nodad")
    one.ip("addr", "add", "169.254.3.3/16", "dev", "veth0", "scope", "link")
    one.ip("addr", "add", "10.9.9.9/32", "dev", "veth0", "valid_lft", "3000", "preferred_lft", "2000")
    one.ip("link", "set", "peer0", "up")
    one.ip("link", "set", "veth0", "up")
    return one


ADDRESSES = ["10.9.8.7/24", "10.9.8.8/24", "2001:db8::7/64"]


def run_with(oci, world, b, host, devices):
    b.config["linux"]["netDevices"] = devices
    b.save()
    name = world.name()
    result = oci("create", "--bundle", b.dir, name, before=host.before)
    return name, result


@pytest.mark.parametrize("given, inside", [({}, "veth0"), ({"name": ""}, "veth0"), ({"name": "eth7"}, "eth7"), ({"name": "net%d"}, "net0")])
@pytest.mark.parametrize("user", [False, True])
def test_net_devices(oci, bundle, world, host, given, inside, user):
    b = bundle(["sleep", "1000"])
    if user:
        with_user(world, b)
    name, result = run_with(oci, world, b, host, {"veth0": given})
    assert result.status == 0, result
    links = see(state(oci, name)["pid"])
    assert sorted(links) == sorted(["lo", inside]) and host.names() == ["lo", "peer0"]
    link = links[inside]
    assert link["mtu"] == 1400 and link["address"] == "02:00:00:00:00:07" and "UP" in link["flags"]
    assert told(link) == ADDRESSES
    assert "169.254.3.3/16" not in told(link, "link")
    labels = {one["local"]: one.get("label") for one in link["addr_info"]}
    assert labels["10.9.8.7"] == ("veth0:1" if inside == "veth0" else inside)
    assert [one.get("broadcast") for one in link["addr_info"] if one["local"] == "10.9.8.7"] == ["10.9.8.255"]
    oci.ok("start", name)
    oci.ok("delete", "--force", name)


def test_net_devices_in_a_joined_namespace(oci, bundle, world, host, holder):
    other = holder("-n")
    subprocess.run(["nsenter", "-t", str(other), "-n", "ip", "link", "add", "net0", "type", "veth", "peer", "name", "veth9"], check=True)
    b = bundle(["sleep", "1000"])
    without(b, "network").append({"type": "network", "path": "/proc/%d/ns/net" % other})
    _, result = run_with(oci, world, b, host, {"veth0": {"name": "net0"}})
    assert result.status == 1 and "linux.netDevices.veth0" in result.err and "net0" in result.err, result
    assert "veth0" in host.names() and told(see(host.pid)["veth0"]) == sorted(ADDRESSES + ["10.9.9.9/32"])
    name, result = run_with(oci, world, b, host, {"veth0": {"name": "net%d"}, "peer0": {}})
    assert result.status == 0, result
    links = see(other)
    assert sorted(links) == ["lo", "net0", "net1", "peer0", "veth9"] and told(links["net1"]) == ADDRESSES
    oci.ok("delete", "--force", name)
    assert "net1" in see(other), "who owns the namespace owns what is in it"


@pytest.mark.parametrize("devices, wanted", [
    ({"nosuch0": {}}, "linux.netDevices.nosuch0"), ({"lo": {"name": "x"}}, "linux.netDevices.lo"), ({"a/b": {}}, "linux.netDevices"),
    ({"veth0": {"name": "a" * 16}}, "linux.netDevices"), ({"veth0": {"name": "a b"}}, "linux.netDevices"), ({"veth0": {"name": "x%s"}}, "linux.netDevices"),
    ({"veth0": {"name": "x"}, "peer0": {"name": "x"}}, "linux.netDevices"), ({"veth0": 5}, "linux.netDevices"), ({"veth0": {"name": "lo"}}, "lo")])
def test_net_devices_that_are_wrong(oci, bundle, world, host, devices, wanted):
    _, result = run_with(oci, world, bundle(), host, devices)
    assert result.status == 1 and wanted in result.err, result
    assert host.names() == ["lo", "peer0", "veth0"]
    b = bundle()
    without(b, "network")
    _, result = run_with(oci, world, b, host, {"veth0": {}})
    assert result.status == 1 and "linux.netDevices" in result.err and "network namespace" in result.err, result
