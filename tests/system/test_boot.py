# SPDX-License-Identifier: Apache-2.0
"""A machine that reboots, and one whose plug is pulled in the middle of load, run and rm (F08)."""

import json
import os
import random
import sys

import pytest
from skinktest import TOP, needs

sys.path.insert(0, os.path.join(TOP, "tests", "vm"))

pytestmark = [pytest.mark.full, pytest.mark.not_vm("starts virtual machines by itself"), pytest.mark.timeout(4 * 3600)]
ROUNDS = int(os.environ.get("SKINK_TEST_PLUGS", "50"))
SETUP = """set -e
for unit in /skink/units/*.in; do
  name=$(basename $unit .in); sed s,@bindir@,/usr/local/bin, $unit >/etc/systemd/system/$name
done
systemctl daemon-reload; systemctl -q enable --now skink-heal.service skink-shutdown.service
cd /skink; python3 images/make /root/images >/dev/null
skink load /root/images/hello.tar
run() { skink run -d --entrypoint /bin/sh "$@" -c 'trap "exit 0" TERM; while :; do sleep 1; done' >/dev/null; }
run --name always --restart always hello:1
run --name unless --restart unless-stopped hello:1
run --name failure --restart on-failure hello:1
run --name stopped --restart unless-stopped hello:1
skink stop -t 1 stopped >/dev/null
# Units that are started, and not enabled: the machine's end is nobody's wish, systemctl stop is.
for name in unit unwanted; do
  skink create --name $name --entrypoint /bin/sh --restart unless-stopped hello:1 -c 'trap "exit 0" TERM; while :; do sleep 1; done' >/dev/null
  systemctl start skink@$name.service
done
systemctl stop skink@unwanted.service
sync
"""
# Three at once; each is killed anywhere. The images differ, so that loading has something to write.
CHURN = """cd /root; i=0
while :; do i=$((i+1)); skink load images/web-1.tar; skink load images/web-2.tar; skink rmi web:1 web:2; done >/dev/null 2>&1 &
while :; do skink run --rm hello:1; skink run -d --name job --restart always hello:1; skink rm -f job; done >/dev/null 2>&1 &
while :; do skink run -d --name flap --restart always --entrypoint /bin/sh hello:1 -c 'exit 1'; sleep 1; skink rm -f flap; done >/dev/null 2>&1 &
wait
"""


@pytest.fixture
def machine(world):
    needs("qemu-system-x86_64")
    needs("mmdebstrap")
    from machine import Machine
    with Machine(disk=world.path("disk")) as machine:
        assert machine.shell(SETUP).status == 0
        yield machine


def states(machine):
    # The agent can answer before heal has had its turn.
    waited = machine.shell("systemctl is-system-running --wait; systemctl is-active skink-heal.service")
    assert waited.out.split()[-1] == "active", waited
    return {row["name"]: row["state"] for row in json.loads(machine.shell("skink ps -a --format json").out)}


EXPECTED = {"always": "running", "unless": "running", "failure": "exited", "stopped": "exited", "unit": "running", "unwanted": "exited"}


def test_containers_come_back_by_policy_after_a_reboot_and_after_a_power_cut(machine):
    assert states(machine) == dict(EXPECTED, failure="running")
    machine.reboot()
    assert states(machine) == EXPECTED
    # It was stopped in good order: what ends by itself has an exit status.
    ended = json.loads(machine.shell("skink inspect --format json failure").out)
    assert ended["exit"]["known"] and ended["exit"]["status"] == 0, ended["exit"]
    machine.pull_the_plug()
    machine.boot()
    assert states(machine) == EXPECTED
    assert machine.shell("skink heal").out == ""
    said = machine.shell("systemctl status --no-pager skink-heal.service").out
    assert "always was started" in said and "unless was started" in said, said


def test_f08_the_plug_is_pulled_in_the_middle_of_load_run_and_rm(machine):
    for number in range(ROUNDS):
        machine.start(["sh", "-c", CHURN])
        machine.shell("sleep %.2f" % random.uniform(0.5, 8))
        machine.pull_the_plug()
        machine.boot()
        now = states(machine)
        assert now["always"] == now["unless"] == "running" and now["stopped"] == "exited", (number, now)
        assert "corrupt" not in now.values() and set(now) <= {*EXPECTED, "job", "flap"}, (number, now)
        # No manual step: everything works, and whatever is left can be used or removed.
        after = machine.shell("set -e; skink heal; for name in job flap; do skink rm -f $name 2>/dev/null; done; skink run --rm hello:1 >/dev/null; "
                              "for image in $(skink images -q | sort -u); do skink run --rm --entrypoint /bin/true $image; done; "
                              "skink image verify -q; skink image prune >/dev/null; skink load /root/images/web-1.tar; skink run --rm --entrypoint /bin/true web:1; "
                              "ls /run/skink/containers | wc -l; skink ps -q | wc -l")
        assert after.status == 0, (number, after)
        runs, shown = after.out.split()[-2:]
        assert runs == shown, (number, after)
