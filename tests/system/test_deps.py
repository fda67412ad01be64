# SPDX-License-Identifier: Apache-2.0
"""tools/deps, with an apt-get that installs nothing: the file that keeps services off goes with the run, however it ends."""

import os
import subprocess

import pytest
from skinktest import TOP, needs, read_text

DEPS = os.path.join(TOP, "tools", "deps")
# /usr/sbin of a mount namespace of its own, with what was put below `upper` in it.
ENTER = """set -e
mount -t tmpfs -o mode=755 tmpfs "$0" && mkdir "$0/up" "$0/work"
# A device 0:0 hides the host's own.
if [ -e "$0.before" ]; then cp -p "$0.before" "$0/up/policy-rc.d"; else mknod "$0/up/policy-rc.d" c 0 0; fi
mount -t overlay -o "lowerdir=/usr/sbin,upperdir=$0/up,workdir=$0/work" overlay /usr/sbin
exec "$@"
"""
DPKG_QUERY = '#!/bin/sh\nshift 3; for name; do echo "${INSTALLED:-not-installed} $name"; done\n'
# Tells what there is while it installs, and waits to be let go.
APT_GET = """#!/bin/sh
case "$*" in *" install "*) ;; *) exit 0 ;; esac
cat /usr/sbin/policy-rc.d >"$SAYS.new" 2>&1; mv "$SAYS.new" "$SAYS"
[ -z "${WAITS:-}" ] || exec sleep "$WAITS"
"""


# Ends the run with a signal, apt-get too, as ^C does.
ENDED = """env --default-signal=INT setsid "$0" peers & until [ -e "$SAYS" ]; do sleep 0.1; done
kill -s %s -- -$!; wait $! || echo "status $?"; cat /usr/sbin/policy-rc.d"""


class Deps:
    def __init__(self, world):
        self.world, self.says = world, world.path("says")
        os.mkdir(world.path("sbin"))
        os.mkdir(world.path("bin"))
        for name, text in (("dpkg-query", DPKG_QUERY), ("apt-get", APT_GET)):
            world.write("bin/" + name, text, 0o755)

    def __call__(self, script='"$0" peers; cat /usr/sbin/policy-rc.d', **env):
        """What a shell says in which $0 is the script."""
        env = dict(os.environ, PATH=self.world.path("bin") + ":/usr/bin:/bin", SAYS=self.says, TMPDIR=self.world.base, **env)
        return subprocess.run(["unshare", "--mount", "sh", "-c", ENTER, self.world.path("sbin"), "sh", "-c", script, DEPS], env=env, text=True,
                              stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=60).stdout


@pytest.fixture
def deps(world):
    needs("dpkg-query")
    return Deps(world)


def test_services_stay_off_while_packages_are_installed_and_no_longer(deps):
    said = deps()
    assert "installing" in said and "No such file" in said, said
    assert read_text(deps.says).endswith("exit 101\n")


@pytest.mark.parametrize("name, status", [("INT", 130), ("TERM", 143), ("HUP", 143)])
def test_a_signal_leaves_no_policy_behind(deps, name, status):
    said = deps(ENDED % name, WAITS="1000")
    assert "status %d\n" % status in said and "No such file" in said, said
    assert read_text(deps.says).endswith("exit 101\n")


def test_what_a_killed_run_left_goes_with_the_next(deps):
    again = "; INSTALLED=installed %s peers; cat /usr/sbin/policy-rc.d" % DEPS
    said = deps(ENDED % "KILL" + again, WAITS="1000")
    killed, after = said.split("exit 101\n")
    assert "written by tools/deps, process" in killed
    assert "removed /usr/sbin/policy-rc.d, which a run that was killed had left" in after and "No such file" in after, said


def test_a_policy_of_the_administrator_stays(deps):
    deps.world.write("sbin.before", "#!/bin/sh\nexit 101\n", 0o755)
    assert deps().endswith("#!/bin/sh\nexit 101\n")
