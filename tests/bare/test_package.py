# SPDX-License-Identifier: Apache-2.0
"""tools/package: a Debian package that lintian finds nothing in, installed, upgraded under a running container, removed."""

import os
import subprocess

import pytest
from bare import Bare
from skinktest import TOP, needs

pytestmark = [pytest.mark.full, pytest.mark.timeout(3600)]

# One script, as what runs in the tree ends with it. The container is started by the first version, kept by it while the second is
# installed, steered by the second, and outlives the removal.
SCRIPT = r"""set -ex
dpkg -i /root/skink_0.1.0_*.deb
skink --version; skink-oci --version
for unit in skink-heal skink-shutdown; do test -h /etc/systemd/system/multi-user.target.wants/$unit.service; done
test -e /lib/systemd/system/skink@.service
test -e /usr/share/man/man1/skink-heal.1.gz
test -e /usr/share/zsh/vendor-completions/_skink  # where Debian's zsh looks
skink run -d --name kept --restart always --entrypoint /bin/sh /root/hello.tar -c 'while :; do sleep 1; done'
pid() { skink inspect -f '{{.pid}}' kept; }
guard=$(skink inspect -f '{{.guard_pid}}' kept)
before=$(pid)
rm /etc/systemd/system/multi-user.target.wants/skink-shutdown.service  # as systemctl disable does
dpkg -i /root/skink_0.1.1_*.deb
test ! -e /etc/systemd/system/multi-user.target.wants/skink-shutdown.service
test "$(pid)" = "$before"
skink exec kept true
skink heal
kill -9 "$before"
for i in $(seq 100); do now=$(pid); [ "$now" != "$before" ] && [ "$now" != 0 ] && break; sleep 0.2; done
test "$now" != "$before" && kill -0 "$now"
test "$(skink inspect -f '{{.guard_pid}}' kept)" = "$guard"
dpkg -r skink >/root/said 2>&1; cat /root/said
grep 'run on without the package.*: 1 (skink stop --all first' /root/said
test ! -e /usr/bin/skink
kill -0 "$guard" && kill -0 "$now"
kill -9 "$now"; sleep 3
cat /proc/$guard/task/$guard/children
test -d /var/lib/skink/containers
dpkg -i /root/skink_0.1.1_*.deb
test "$(skink ps -q | wc -l)" = 1
test "$(pid)" != "$now"
skink rm -f kept
mkdir -p /etc/systemd/system/timers.target.wants
ln -s /lib/systemd/system/skink-textfile.timer /etc/systemd/system/timers.target.wants/  # as systemctl enable does
dpkg -P skink >/root/said 2>&1; cat /root/said
test -z "$(grep 'run on without' /root/said)"
test ! -L /etc/systemd/system/timers.target.wants/skink-textfile.timer
test ! -e /etc/systemd/system/multi-user.target.wants/skink-heal.service
test ! -e /lib/systemd/system/skink@.service
echo whole
"""


def test_lintian_finds_nothing(packages):
    needs("lintian")
    done = subprocess.run(["lintian", "-I", "--fail-on", "error,warning,info", "--allow-root", packages[0]], stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, timeout=600)
    assert done.returncode == 0, done.stdout.decode()


def test_the_same_sources_make_the_same_package(packages):
    before = open(packages[0], "rb").read()
    subprocess.run(["tools/package", "--version", "0.1.0", os.path.dirname(packages[0]), "--", "-Dwerror=true"], cwd=TOP, check=True,
                   stdout=subprocess.DEVNULL, timeout=600)
    assert open(packages[0], "rb").read() == before


def test_installed_upgraded_under_a_container_removed_and_purged(packages):
    needs("mmdebstrap")
    bare = Bare()
    try:
        for path in packages:
            subprocess.run(["cp", path, os.path.join(bare.tree, "root")], check=True)
        subprocess.run(["/usr/bin/python3", "images/make", os.path.join(bare.top, "images")], cwd=TOP, check=True, stdout=subprocess.DEVNULL)
        subprocess.run(["cp", os.path.join(bare.top, "images/hello.tar"), os.path.join(bare.tree, "root")], check=True)
        assert bare(SCRIPT, timeout=900).splitlines()[-1] == "whole"
    finally:
        bare.remove()
