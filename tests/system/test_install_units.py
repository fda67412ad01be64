# SPDX-License-Identifier: Apache-2.0
"""skink install-units: the units of the package, for who has no package."""

import os
import stat
import subprocess

from skinktest import TOP, read_text

UNITS = {"skink-heal.service", "skink-shutdown.service", "skink@.service", "skink-metrics.socket", "skink-metrics@.service",
         "skink-textfile.service", "skink-textfile.timer"}


def test_all_units_are_written_and_call_the_program_that_wrote_them(sk, world):
    root = world.path("root")
    said = sk.ok("install-units", "--root", root)
    directory = root + "/etc/systemd/system"
    assert set(os.listdir(directory)) == UNITS
    assert stat.S_IMODE(os.stat(directory + "/skink-heal.service").st_mode) == 0o644
    for name in UNITS:
        assert "@bindir@" not in read_text(directory + "/" + name)
        assert name in said
    heal = read_text(directory + "/skink-heal.service")
    # The store and the run directory of this test stand before the verb, and so they do in the units.
    assert "ExecStart=%s --root %s --run %s heal" % (sk.path, world.store, world.run_dir) in heal
    assert "enable" in said and "skink-heal.service" in said


def test_again_changes_nothing_and_another_program_replaces(sk, world):
    root = world.path("root")
    sk.ok("install-units", "--root", root)
    before = {name: read_text("%s/etc/systemd/system/%s" % (root, name)) for name in UNITS}
    assert "is as it should be" in sk.ok("install-units", "--root", root)
    assert {name: read_text("%s/etc/systemd/system/%s" % (root, name)) for name in UNITS} == before
    assert "was replaced" in sk.ok("install-units", "--root", root, "--program", "/opt/skink")
    assert "ExecStart=/opt/skink " in read_text(root + "/etc/systemd/system/skink-heal.service")


def test_a_unit_of_somebody_else_is_left_alone(sk, world):
    root = world.path("root")
    path = root + "/etc/systemd/system/skink-heal.service"
    os.makedirs(os.path.dirname(path))
    with open(path, "w") as out:
        out.write("[Unit]\nDescription=mine\n")
    result = sk("install-units", "--root", root)
    assert result.status == 1 and path in result.err and "move it away" in result.err
    assert read_text(path) == "[Unit]\nDescription=mine\n"
    assert set(os.listdir(os.path.dirname(path))) == UNITS  # the others are there


def test_a_unit_that_the_package_left_masked(sk, world):
    """dpkg -r leaves links to /dev/null, until dpkg -P."""
    root = world.path("root")
    path = root + "/etc/systemd/system/skink-heal.service"
    os.makedirs(os.path.dirname(path))
    os.symlink("/dev/null", path)
    sk.fails("install-units", "--root", root, status=1, match=[path, "masked", "systemctl unmask skink-heal.service"])
    assert os.readlink(path) == "/dev/null"


def test_there_are_none_for_a_users_own_systemd(sk, world):
    """There skink-shutdown.service would stop the machine's containers when root's last session ends."""
    home = world.path("home")
    sk.fails("install-units", "--user", env={"HOME": home, "XDG_CONFIG_HOME": ""}, status=1, match=["--user"])
    assert not os.path.exists(home) and "--user" not in sk.ok("install-units", "--help")


def test_they_are_what_the_package_installs(sk, world):
    root = world.path("root")
    sk.ok("install-units", "--root", root, "--program", "/usr/bin/skink")
    for name in UNITS:
        source = read_text(os.path.join(TOP, "units", name + ".in")).replace("@bindir@", "/usr/bin")
        directives = {line.split("=")[0] for line in source.splitlines() if "=" in line and not line.startswith("#")}
        written = read_text("%s/etc/systemd/system/%s" % (root, name))
        assert directives == {line.split("=")[0] for line in written.splitlines() if "=" in line and not line.startswith("#")}


def test_a_scrape_is_answered_as_a_socket_unit_asks(sk):
    name = sk.running()
    answer = subprocess.run(sk.command("metrics", "--http"), input=b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n",
                            stdout=subprocess.PIPE, timeout=60, check=True).stdout.decode()
    head, body = answer.split("\r\n\r\n", 1)
    assert head.startswith("HTTP/1.1 200 OK") and "Content-Length: %d" % len(body.encode()) in head
    assert 'name="%s"' % name in body and body.endswith("# EOF\n")
