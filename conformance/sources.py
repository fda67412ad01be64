# SPDX-License-Identifier: Apache-2.0
"""The outside suites as Go modules: pinned, fetched by the go command, copied to where they can be built."""
import json
import os
import pathlib
import shutil
import subprocess


class Trouble(Exception):
    """What keeps a suite from being run; the text is for the user."""


# Path, version, and what the go command says the module's contents hash to.
RUNTIME_TOOLS = ("github.com/opencontainers/runtime-tools", "v0.9.1-0.20250523060157-0ea5ed0382a2",
                 "h1:2xZEHOdeQBV6PW8ZtimN863bIOl7OCW/X10K0cnxKeA=")
RUNC = ("github.com/opencontainers/runc", "v1.5.2", "h1:eUUowc2WJCnFYzI87C1WqRcu356Dk/wsoi90y+2wEfE=")


def go(arguments, cwd, log, extra=None):
    """The go command's standard output. Modules of a suite are those of its own go.sum; nothing is vendored in a module."""
    environment = {**os.environ, "GOFLAGS": "-mod=mod -buildvcs=false", **(extra or {})}
    with open(log, "ab") as errors:
        done = subprocess.run(["nice", "go", *arguments], cwd=cwd, env=environment, stdin=subprocess.DEVNULL,
                              stdout=subprocess.PIPE, stderr=errors, check=False)
    if done.returncode != 0:
        raise Trouble(f"go {arguments[0]} ended with status {done.returncode}, see {log}")
    return done.stdout.decode()


def fetch(module, work):
    """A writable copy of a pinned module below `work`; an earlier one is taken as it is."""
    path, version, want = module
    copy = pathlib.Path(work) / f"{path.rpartition('/')[2]}-{version}"
    if (copy / "go.mod").exists():
        return copy
    if not shutil.which("go"):
        raise Trouble("the suites are built from Go modules: install Go")
    facts = json.loads(go(["mod", "download", "-json", f"{path}@{version}"], work, f"{work}/fetch.log"))
    if facts["Sum"] != want:
        raise Trouble(f"{path}@{version} has the sum {facts['Sum']}, not {want}")
    partial = copy.with_suffix(".partial")
    shutil.copytree(facts["Dir"], partial)
    for directory, _, files in os.walk(partial):
        os.chmod(directory, 0o755)
        for name in files:
            file = os.path.join(directory, name)
            os.chmod(file, os.stat(file).st_mode | 0o200)
    # A module's zip has the list of vendored packages without the packages, which confuses the go command.
    shutil.rmtree(partial / "vendor", ignore_errors=True)
    partial.rename(copy)
    return copy
