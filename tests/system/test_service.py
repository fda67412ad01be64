# SPDX-License-Identifier: Apache-2.0
"""A real service from a real image: Debian with python3's http.server, made by mmdebstrap and umoci."""

import fcntl
import os
import shutil
import socket
import subprocess
import urllib.request

import pytest
from skinktest import BUILD, needs, wait_for

CACHE = os.path.join(BUILD, "test-cache")
# The smallest Debian that has python3; unpacking is all, so no maintainer script needs anything of the host.
PACKAGES = "python3-minimal,libpython3-stdlib,media-types,netbase"


@pytest.fixture(scope="module")
def archive():
    """An oci-archive of Debian with python3, kept between runs."""
    if os.geteuid() != 0:
        pytest.skip("needs root")
    needs("mmdebstrap")
    needs("umoci")
    os.makedirs(CACHE, exist_ok=True)
    path = os.path.join(CACHE, "debian-python.tar")
    with open(os.path.join(CACHE, "lock"), "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not os.path.exists(path):
            make(path)
    return path


def step(*command, **more):
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL, timeout=280, **more)
    if done.returncode != 0:
        raise RuntimeError("%s: %s" % (" ".join(command), done.stdout.decode("utf-8", "replace")[-800:]))


def make(path):
    work = os.path.join(CACHE, "work")
    shutil.rmtree(work, ignore_errors=True)
    os.makedirs(work)
    try:
        try:
            step("mmdebstrap", "--variant=extract", "--mode=root", "--include=" + PACKAGES +
                 ",base-files,base-passwd,libc6,dash,coreutils", "bookworm", work + "/root.tar", "-q")
        except (RuntimeError, subprocess.TimeoutExpired) as error:
            pytest.skip("the Debian packages cannot be had: %s" % str(error)[-200:])
        step("umoci", "init", "--layout", work + "/layout")
        step("umoci", "new", "--image", work + "/layout:debian")
        step("umoci", "unpack", "--image", work + "/layout:debian", work + "/bundle")
        rootfs = work + "/bundle/rootfs"
        step("tar", "-xf", work + "/root.tar", "-C", rootfs, "--exclude=./dev/*")
        # Unpacked, not configured: what the maintainer scripts would have linked.
        for name, target in (("usr/bin/python3", "python3.11"), ("bin/sh", "dash")):
            if not os.path.lexists(os.path.join(rootfs, name)):
                os.symlink(target, os.path.join(rootfs, name))
        os.makedirs(rootfs + "/srv/www", exist_ok=True)
        with open(rootfs + "/srv/www/index.html", "w") as page:
            page.write("served from a container\n")
        with open(rootfs + "/etc/passwd", "w") as passwd:
            passwd.write("root:x:0:0:root:/root:/bin/sh\nwww-data:x:33:33::/srv/www:/bin/false\n")
        with open(rootfs + "/etc/group", "w") as group:
            group.write("root:x:0:\nwww-data:x:33:\n")
        step("umoci", "repack", "--image", work + "/layout:debian", work + "/bundle")
        step("umoci", "config", "--image", work + "/layout:debian", "--config.user", "www-data", "--config.workingdir", "/srv/www",
             "--config.entrypoint", "/usr/bin/python3", "--config.entrypoint", "-um", "--config.entrypoint", "http.server",
             "--config.cmd", "--bind", "--config.cmd", "127.0.0.1", "--config.cmd", "8000")
        step("tar", "-cf", path + ".new", "-C", work + "/layout", ".")
        os.rename(path + ".new", path)
    finally:
        shutil.rmtree(work, ignore_errors=True)


def free_port():
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


def answer(port):
    try:
        with urllib.request.urlopen("http://127.0.0.1:%d/" % port, timeout=5) as reply:
            return reply.read().decode()
    except OSError:
        return None


@pytest.mark.timeout(600)
def test_a_debian_web_server_answers_is_killed_and_answers_again(bare, world, archive):
    port, name = free_port(), world.name("web")
    bare.ok("run", "-d", "--name", name, "--network", "host", "--restart", "always", "-m", "200m", "--pids-limit", "50",
            archive, "--bind", "127.0.0.1", str(port), timeout=180)
    assert wait_for(lambda: answer(port)) == "served from a container\n"
    for _ in range(3):
        pid = bare.pid(name)
        os.kill(pid, 9)
        wait_for(lambda: bare.pid(name) not in (0, pid))
        assert wait_for(lambda: answer(port)) == "served from a container\n"
    assert bare.row(name)["restarts"] == 3
    assert "GET /" in bare.ok("logs", name) + bare("logs", name).err
    assert bare.ok("exec", name, "/usr/bin/python3", "-c", "import os; print(os.getuid())") == "33"
    bare.ok("stop", "-t", "2", name)
    assert answer(port) is None
    bare.ok("start", name)
    assert wait_for(lambda: answer(port)) == "served from a container\n"


@pytest.mark.timeout(600)
def test_volumes_and_other_users_with_a_real_image(bare, world, archive):
    os.makedirs(world.path("www"))
    world.write("www/index.html", "from the volume\n")
    os.chmod(world.base, 0o755)
    port, name = free_port(), world.name("web")
    bare.ok("run", "-d", "--name", name, "--network", "host", "-v", world.path("www") + ":/srv/www:ro", "-u", "4711:4711", archive,
            "--bind", "127.0.0.1", str(port), timeout=180)
    assert wait_for(lambda: answer(port)) == "from the volume\n"
    assert bare.ok("exec", name, "/usr/bin/python3", "-c", "import os; print(os.getuid(), os.getgid())") == "4711 4711"
