# SPDX-License-Identifier: Apache-2.0
"""The package, and `meson install` with README's two lines, on a machine that systemd runs: what they start, what an upgrade, a
reboot, a removal and a return leave of containers, and that nothing stays after a purge."""

import os
import subprocess
import sys

import pytest
from skinktest import BUILD, TOP, needs, sanitized
from test_readme import commands_below

sys.path.insert(0, os.path.join(TOP, "tests", "vm"))

pytestmark = [pytest.mark.full, pytest.mark.not_vm("starts virtual machines by itself"), pytest.mark.timeout(3600),
              pytest.mark.skipif(sanitized(), reason="the machine has not the libraries of the sanitizers")]
STARTED = ("skink-heal.service", "skink-shutdown.service")
# The programs that this machine shares with its maker stay out of it.
PREPARE = """set -e
rm /usr/local/bin/skink /usr/local/bin/skink-oci; ! command -v skink
cd /skink; python3 images/make /root/images >/dev/null; sync"""
RUN = "skink run -d --name kept --restart always --entrypoint /bin/sh /root/images/hello.tar -c 'while :; do sleep 1; done'"
# Which process it is, whoever numbers them.
PROCESS = "pid=$(skink inspect -f '{{.pid}}' kept); echo $(cat /proc/sys/kernel/random/boot_id) $pid $(cut -d' ' -f22 /proc/$pid/stat)"
LISTENS = "ss -Hltn 'sport = :9722'"
# Of units and links to them whatever there is; what systemd has only heard of is none of ours.
UNITS = "systemctl list-unit-files --no-legend 'skink*' | grep -v ^skink-vm-agent; find /etc/systemd /lib/systemd /usr/local/lib -name 'skink*' ! -name 'skink-vm*'"


class Host:
    """A machine whose commands have to succeed."""

    def __init__(self, machine):
        self.machine = machine

    def __call__(self, script, **more):
        done = self.machine.shell(script, **more)
        assert done.status == 0, (script, done)
        return done.out.strip()

    def copy(self, path):
        with open(path, "rb") as file:
            self("cat >/root/%s" % os.path.basename(path), input=file.read())

    def install(self, path):
        return self("dpkg -i /root/%s 2>&1" % os.path.basename(path))

    def states(self):
        """Of the units that shall be started and come back after a boot."""
        # The agent can answer before heal has had its turn.
        self("systemctl is-system-running --wait || systemctl --failed")
        return {unit: self.machine.shell("systemctl is-active %s; systemctl is-enabled %s" % (unit, unit)).out.split() for unit in STARTED}

    def runs(self):
        return self("skink ps --format '{{.name}} {{.state}}'") == "kept running"


ON = {unit: ["active", "enabled"] for unit in STARTED}


@pytest.fixture
def host(world):
    needs("qemu-system-x86_64")
    needs("mmdebstrap")
    from machine import Machine
    with Machine(disk=world.path("disk"), build=BUILD) as machine:
        host = Host(machine)
        host(PREPARE)
        yield host


def comes_back_after_a_reboot(host, before):
    host.machine.reboot()
    assert host.states() == ON
    assert host.runs() and host(PROCESS) != before
    assert "kept was started" in host("systemctl status --no-pager skink-heal.service")


def test_the_package(host, packages):
    for path in packages:
        host.copy(path)
    host.install(packages[0])
    assert host.states() == ON
    host(RUN)
    host("systemctl -q enable --now skink-metrics.socket")
    before = host(PROCESS)
    for path in (packages[0], packages[1]):  # the same again, and an upgrade
        host.install(path)
        assert host(PROCESS) == before and host.states() == ON
    assert "9722" in host(LISTENS)
    assert 'name="kept"' in host("python3 -c 'import urllib.request as r; print(r.urlopen(\"http://127.0.0.1:9722/metrics\").read().decode())'")
    comes_back_after_a_reboot(host, before)
    assert "9722" in host(LISTENS)

    keepers = host("skink inspect -f '{{.pid}} {{.supervisor_pid}} {{.guard_pid}}' kept")
    host("dpkg -r skink 2>&1; ! command -v skink")
    host("for pid in %s; do kill -0 $pid; done" % keepers)
    assert host(LISTENS) == ""
    # What is gone when the package comes back is brought back by it, as after a boot.
    host("kill -9 %s" % " ".join(reversed(keepers.split())))
    host.install(packages[1])
    assert host.states() == ON and host.runs()

    host("skink rm -f kept; dpkg -P skink 2>&1")
    assert host(LISTENS) == "" and host("(%s) 2>/dev/null || true" % UNITS) == ""
    assert host("systemctl --failed --no-legend; ls /run/skink/containers; pgrep -a skink | grep -v skink-vm || true") == ""


def test_meson_install_and_the_two_lines_of_readme(host, world):
    subprocess.run(["meson", "install", "-C", BUILD, "--no-rebuild", "--destdir", world.path("tree")], check=True, stdout=subprocess.DEVNULL)
    packed = subprocess.run(["tar", "-C", world.path("tree"), "--owner=0", "--group=0", "--exclude=*.a", "-cf", "-", "."], check=True,
                            stdout=subprocess.PIPE).stdout
    host("tar -C / --no-overwrite-dir -xf -", input=packed)
    lines = [line for line in commands_below("README.md", "Install") if line.startswith("systemctl")]
    assert len(lines) == 2
    for line in lines:
        host(line)
    assert host.states() == ON
    host(RUN)
    comes_back_after_a_reboot(host, host(PROCESS))
    host("skink rm -f kept; systemctl disable --now %s" % " ".join(STARTED))
