# SPDX-License-Identifier: Apache-2.0
"""A minimal Debian 12 with nothing installed, to run commands in: a tree that is the root of namespaces of its own."""

import os
import shutil
import signal
import subprocess
import tempfile

from skinktest import starttime

# How this machine gets its packages; a bare one of the same network needs no more.
APT = ("etc/apt/sources.list", "etc/apt/sources.list.d", "etc/apt/apt.conf.d", "etc/apt/auth.conf", "etc/apt/auth.conf.d",
       "etc/apt/keyrings", "etc/apt/trusted.gpg.d", "etc/ssl/certs", "usr/local/share/ca-certificates", "etc/resolv.conf", "etc/hosts")
# What is started in there ends with the command.
ENTER = """set -e
mount --make-rprivate / && mount --bind "$0" "$0" && cd "$0"
mount -t proc proc proc && mount --rbind /sys sys && mount --rbind /dev dev && mount -t tmpfs run run
pivot_root . mnt && umount -l mnt && cd "$1" && shift
exec "$@"
"""


class Bare:
    def __init__(self):
        self.top = tempfile.mkdtemp(prefix="skink-test-bare-", dir="/var/tmp")
        # Other runs of the tests sweep away what has no living owner.
        with open(os.path.join(self.top, "owner"), "w") as file:
            file.write("%d %s" % (os.getpid(), starttime(os.getpid())))
        self.tree = os.path.join(self.top, "tree")
        # A tree is a root of its own for mounts too, so that removing it by a wrong path cannot leave it.
        try:
            done = subprocess.run(["mmdebstrap", "--variant=minbase", "--mode=root", "-q", "bookworm", self.tree], stdout=subprocess.PIPE,
                                  stderr=subprocess.STDOUT, timeout=1800)
            assert done.returncode == 0, done.stdout.decode()[-2000:]
            for name in APT:
                self.copy_from_host(name)
        except BaseException:
            self.remove()
            raise

    def copy_from_host(self, name):
        source, target = os.path.join("/", name), os.path.join(self.tree, name)
        if os.path.isdir(source):
            shutil.rmtree(target, ignore_errors=True)
            shutil.copytree(source, target, symlinks=True)
        elif os.path.exists(source):
            os.makedirs(os.path.dirname(target), exist_ok=True)
            shutil.copy(source, target)
        # Hooks for programs that are not there.
        if name == "etc/apt/apt.conf.d":
            for file in os.listdir(target):
                if "packagekit" in file or "appstream" in file:
                    os.unlink(os.path.join(target, file))

    def remove(self):
        subprocess.run(["rm", "-rf", "--one-file-system", self.top])

    def __call__(self, script, timeout=3600, directory="/"):
        """Runs a script that has to succeed; what it said."""
        environment = {key: value for key, value in os.environ.items() if key.lower().endswith("_proxy")}
        environment.update(PATH="/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", HOME="/root", LANG="C.UTF-8",
                           TERM="dumb", DEBIAN_FRONTEND="noninteractive")
        done = subprocess.run(["unshare", "--mount", "--pid", "--fork", "--kill-child", "sh", "-c", ENTER, self.tree, directory,
                               "bash", "-c", script], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                              env=environment, timeout=timeout,
                              # What a shell starts in the background begins with ^C ignored.
                              preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL))
        said = done.stdout.decode("utf-8", "replace")
        assert done.returncode == 0, "%s\nended with %d:\n%s" % (script, done.returncode, said[-5000:])
        return said
