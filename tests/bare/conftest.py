# SPDX-License-Identifier: Apache-2.0
import fcntl
import os
import subprocess
import sys

import pytest

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "support"))
from skinktest import TOP, world  # noqa: E402,F401


@pytest.fixture(scope="session")
def packages(tmp_path_factory):
    """Two versions of tools/package's package."""
    out = str(tmp_path_factory.mktemp("packages"))
    paths = []
    # All workers have one build directory.
    os.makedirs(os.path.join(TOP, "build-package"), exist_ok=True)
    with open(os.path.join(TOP, "build-package", "lock"), "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        for version in ("0.1.0", "0.1.1"):
            done = subprocess.run(["tools/package", "--version", version, out, "--", "-Dwerror=true"], cwd=TOP, stdout=subprocess.PIPE,
                                  stderr=subprocess.STDOUT, timeout=3000)
            assert done.returncode == 0, done.stdout.decode()
            paths.append(done.stdout.decode().split()[-1])
    return paths
