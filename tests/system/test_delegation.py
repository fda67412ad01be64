# SPDX-License-Identifier: Apache-2.0
"""A container's control group in the hands of its user: config-linux.md, "Cgroup ownership". Of cgroup v2 alone, in a view of
its own where the host has v1 too."""

import os

import pytest
from skinktest import listdir, read_text, unified_top, v2_alone, wait_for

pytestmark = pytest.mark.vm
V2_VIEW = [] if v2_alone() else ["unshare", "--mount", "--propagation", "private", "sh", "-c",
                                 'umount -R /sys/fs/cgroup && mount -t cgroup2 none /sys/fs/cgroup && exec "$@"', "sh"]
TOP = "/sys/fs/cgroup" if v2_alone() else "/sys/fs/cgroup/unified"
MAPPED = [{"containerID": 0, "hostID": 200000, "size": 1000}]
# A user who may, moves himself into a group of his own; who may not, says so. Neither changes a limit.
SCRIPT = """cd /sys/fs/cgroup; mkdir own && echo $$ >own/cgroup.procs && cat /proc/self/cgroup; (echo 1 >cgroup.max.depth) && echo changed; echo tried; exec sleep 1000"""


@pytest.fixture
def started(oci, world, bundle):
    unified_top()  # or skips

    def start(uid=0, user=True, namespace=True, options=("rw",)):
        b, name = bundle(["sh", "-c", SCRIPT]), world.name()
        b.config["process"]["user"] = {"uid": uid, "gid": uid}
        b.config["process"]["capabilities"] = {}
        linux = b.config["linux"]
        linux["cgroupsPath"] = "/skink-test-%s" % name
        if user:
            linux["namespaces"].append({"type": "user"})
            linux.update(uidMappings=MAPPED, gidMappings=MAPPED)
            os.chmod(world.base, 0o755)
        if not namespace:
            linux["namespaces"] = [ns for ns in linux["namespaces"] if ns["type"] != "cgroup"]
        b.config["mounts"].append({"destination": "/sys/fs/cgroup", "type": "cgroup", "source": "cgroup",
                                   "options": ["nosuid", "noexec", "nodev", *options]})
        b.save()
        with open(world.path("out-" + name), "wb") as out:
            oci.ok("run", "--detach", "--bundle", b.dir, name, before=V2_VIEW, stdout=out)
        return name
    return start


def owners(name):
    """The group's owner ("") and those of its files, as the host sees them."""
    group = os.path.join(TOP, "skink-test-" + name)
    return {file: os.stat(os.path.join(group, file)).st_uid for file in [""] + listdir(group)
            if not os.path.isdir(os.path.join(group, file)) or not file}


@pytest.mark.parametrize("uid, user, owner", [(0, True, 200000), (7, True, 200007), (7, False, 7)],
                         ids=["root of a user namespace", "a user of one", "a user of the host"])
def test_it_is_the_users_with_the_files_that_the_kernel_names(oci, world, started, uid, user, owner):
    name = started(uid, user)
    out = world.path("out-" + name)
    wait_for(lambda: "tried\n" in read_text(out))
    assert "0::/own\n" in read_text(out)
    found = owners(name)
    given = {file for file in found if found[file] == owner}
    assert given == {""} | (set(read_text("/sys/kernel/cgroup/delegate").split()) & set(found)), found
    assert {found[file] for file in set(found) - given} == {0}
    assert "changed" not in read_text(out)
    # Which makes no difference for others: one more process comes in, and all goes.
    assert oci.ok("exec", name, "echo", "fine", before=V2_VIEW) == "fine"
    oci.ok("delete", "--force", name, before=V2_VIEW)
    assert world.leaks() == []


@pytest.mark.parametrize("how", [{"options": ("ro",)}, {"namespace": False}], ids=["read-only", "in the host's cgroup namespace"])
def test_otherwise_it_stays_the_hosts(oci, world, started, how):
    name = started(**how)
    wait_for(lambda: "tried\n" in read_text(world.path("out-" + name)))
    assert "0::/own\n" not in read_text(world.path("out-" + name)) and set(owners(name).values()) == {0}
    oci.ok("delete", "--force", name, before=V2_VIEW)
    assert world.leaks() == []
