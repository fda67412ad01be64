# SPDX-License-Identifier: Apache-2.0
"""Our units under a systemd that is process 1."""

import os
import signal
import subprocess

import pytest
from skinktest import TOP, alive, kill_quietly, read_text, wait_for

pytestmark = pytest.mark.vm_only


def systemctl(*words, status=0):
    done = subprocess.run(["systemctl", "--no-pager", *words], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=300)
    text = done.stdout.decode("utf-8", "replace")
    assert status is None or done.returncode == status, "systemctl %s: %d\n%s" % (" ".join(words), done.returncode, text)
    return text


class Units:
    """The units as they are shipped, but for the program, the directories of the test, and a name of its own."""

    def __init__(self, sk, world):
        self.prefix, self.paths = "skink" + world.id, []
        command = " ".join(sk.command())
        for kind in ("heal.service", "shutdown.service", "@.service"):
            name = "skink@.service" if kind == "@.service" else "skink-" + kind
            text = read_text(os.path.join(TOP, "units", name + ".in")).replace("@bindir@/skink", command)
            text = text.replace("skink-heal.service", self.name("heal.service")).replace("skink-shutdown.service", self.name("shutdown.service"))
            self.paths.append("/run/systemd/system/" + self.name(kind))
            with open(self.paths[-1], "w") as file:
                file.write(text)
        systemctl("daemon-reload")

    def name(self, kind):
        return self.prefix + ("" if kind.startswith("@") else "-") + kind

    def remove(self):
        for kind in ("heal.service", "shutdown.service", "@*.service"):
            systemctl("stop", self.name(kind), status=None)
            systemctl("reset-failed", self.name(kind), status=None)
        # systemd keeps the slice of a template's instances.
        systemctl("stop", "system-%s.slice" % self.prefix, status=None)
        for path in self.paths:
            os.unlink(path)
        systemctl("daemon-reload")


@pytest.fixture
def units(sk, world):
    units = Units(sk, world)
    yield units
    units.remove()


@pytest.mark.vm_more
def test_a_container_as_a_unit_shows_what_a_person_can_read(sk, world, units):
    name = world.name()
    unit = units.name("@%s.service" % name)
    sk.ok("create", "--restart", "always", "--name", name, "busybox", "sh", "-c", "echo said-by-the-program; sleep 1000")
    systemctl("start", unit)
    pid = sk.pid(name)
    shown = systemctl("status", "-l", unit)
    assert "Container %s, kept by skink" % name in shown and "active (running)" in shown, shown
    assert 'Status: "busybox as process %d"' % pid in shown and "said-by-the-program" in shown, shown

    os.kill(pid, signal.SIGKILL)
    wait_for(lambda: ", relaunched once" in systemctl("status", "-l", unit))
    assert "active (running)" in systemctl("status", unit)

    # The process of the unit only shows the container.
    main = int(systemctl("show", "-p", "MainPID", "--value", unit))
    pid = sk.pid(name)
    kill_quietly(main)
    wait_for(lambda: systemctl("show", "-p", "MainPID", "--value", unit).strip() not in ("0", str(main))
             and systemctl("is-active", unit, status=None).strip() == "active")
    assert sk.pid(name) == pid and alive(pid)

    systemctl("stop", unit)
    assert sk.state(name) == "exited" and systemctl("is-active", unit, status=3).strip() == "inactive"


@pytest.mark.vm_more
def test_a_unit_whose_program_fails_has_failed_and_one_without_a_container_says_so(sk, world, units):
    name = world.name()
    sk.ok("create", "--restart", "no", "--name", name, "busybox", "sh", "-c", "sleep 1; exit 7")
    unit = units.name("@%s.service" % name)
    systemctl("start", unit)
    wait_for(lambda: systemctl("is-failed", unit, status=None).strip() == "failed")
    assert "status=7" in systemctl("status", unit, status=3)
    nobody = units.name("@nobody.service")
    systemctl("start", nobody, status=1)
    assert "no such container" in systemctl("status", nobody, status=3)


def test_containers_outlive_the_unit_that_healed_them_and_the_session_that_made_them(sk, world, units):
    names = []
    for _ in range(2):
        names.append(world.name())
        sk.ok("run", "-d", "--restart", "always", "--name", names[-1], "busybox", "sleep", "1000",
              before=["systemd-run", "-q", "--scope", "--unit", "session-%s-%d" % (world.id, len(names))])
    systemctl("stop", "session-%s-1.scope" % world.id, status=None)
    sk.ok("stop", "--all", "--for-reboot", "-t", "1")
    systemctl("start", units.name("heal.service"))
    assert [sk.state(name) for name in names] == ["running"] * 2
    pids = [sk.pid(name) for name in names]
    shown = systemctl("status", units.name("heal.service"))
    assert "active (exited)" in shown and all(name + " was started" in shown for name in names), shown
    systemctl("restart", units.name("heal.service"))
    systemctl("stop", units.name("heal.service"))
    assert [sk.pid(name) for name in names] == pids and all(alive(pid) for pid in pids)


def test_the_unit_for_shutdown_stops_all_and_leaves_them_wanted(sk, world, units):
    name = sk.running("--restart", "unless-stopped")
    systemctl("start", units.name("shutdown.service"))
    assert sk.state(name) == "running"
    systemctl("stop", units.name("shutdown.service"))
    assert sk.state(name) == "exited"
    assert sk.ok("heal").startswith(name)
