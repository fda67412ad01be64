# SPDX-License-Identifier: Apache-2.0
"""runc's own integration tests (bats), with another program in the place of runc."""
import os
import pathlib
import shutil
import subprocess
import sys

import sources
import tap

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "tests" / "support"))
import mkimg  # noqa: E402

SECONDS = 600  # for a file of tests
NEEDED = ("bats", "jq", "gawk", "tar")


def missing():
    return [name for name in NEEDED if not shutil.which(name)]


def busybox_image(path):
    """What the suite downloads as its image of busybox, made from Debian's: static, and with Docker's users."""
    def more(tar):
        # Its tests want to see users by number where Docker's image has no name for them; a later entry counts.
        tar.file("etc/passwd", "root:x:0:0:root:/root:/bin/sh\ndaemon:x:1:1:daemon:/usr/sbin:/bin/false\n")
        tar.file("etc/group", "root:x:0:\ndaemon:x:1:\n")
        tar.file("etc/shadow", "root:*::0:::::\n", 0o640)
    tar = mkimg.busybox_tar(more)
    with open(path, "wb") as out:
        out.write(tar.bytes())


def debian_image(path, log):
    """A small Debian from the host's own package source; without mmdebstrap the files that want it are left out."""
    if not shutil.which("mmdebstrap"):
        return False
    with open(log, "ab") as out:
        # What packages' own scripts need of /usr/share (dpkg, debconf, perl) has to stay.
        without = [f"--dpkgopt=path-exclude=/usr/share/{name}/*" for name in ("doc", "man", "locale", "i18n", "zoneinfo")]
        done = subprocess.run(["nice", "mmdebstrap", "--variant=essential", "--include=util-linux", *without, "bookworm",
                               str(path)],
                              stdout=out, stderr=out, stdin=subprocess.DEVNULL, check=False)
    return done.returncode == 0


def build(work):
    """The directory of the .bats files, its helper programs built and its images made."""
    absent = missing()
    if absent:
        raise sources.Trouble(f"install {' '.join(absent)}")
    top = sources.fetch(sources.RUNC, work)
    log = f"{work}/build-runc.log"
    programs = top / "tests" / "cmd" / "_bin"
    if not (programs / "recvtty").exists():
        programs.mkdir(exist_ok=True)
        # seccompagent, by whom filters with a listener are tried, is empty without the tag.
        sources.go(["build", "-tags", "seccomp", "-o", f"{programs}/", "./tests/cmd/..."], top, log)
    integration = top / "tests" / "integration"
    for script in (top / "tests").rglob("*.sh"):
        script.chmod(0o755)  # a module's zip keeps no modes
    arch = sources.go(["env", "GOARCH"], top, log).strip()
    busybox = integration / "testdata" / f"busybox-{arch}.tar.xz"
    if not busybox.exists():
        busybox_image(busybox)
    debian = integration / "testdata" / f"debian-{arch}.tar.xz"
    if not debian.exists() and not debian_image(debian, log):
        debian.write_bytes(b"")  # keeps the suite from downloading one; what needs it fails and says so
    return integration


def run(top, runtime, words, logs):
    """Yields (file: test, verdict, reason) for each test of each file; a word chooses files by name."""
    logs = pathlib.Path(logs)
    scratch = logs / "tmp"
    scratch.mkdir(parents=True, exist_ok=True)
    for directory in (logs.parent, logs, scratch):
        os.chmod(directory, 0o755)
    environment = {"RUNC": runtime, "TMPDIR": str(scratch), "BATS_TMPDIR": str(scratch)}
    for file in sorted(top.glob("*.bats")):
        if words and not any(word in file.stem for word in words):
            continue
        status, text = tap.run(["bats", "--formatter", "tap", str(file)], top, environment, SECONDS,
                               logs / f"{file.stem}.log", terminal=True)
        points = tap.parse(text)
        for point in points:
            yield f"{file.stem}: {point.name}", point.status, point.said.strip()
        if status is None or not points:
            last = (text.strip().splitlines() or [""])[-1]
            yield f"{file.stem}: (file)", "fail", f"took more than {SECONDS} s" if status is None else last
