# SPDX-License-Identifier: Apache-2.0
"""The validation suite of the OCI: some sixty programs, each of which drives a runtime and tells what it saw."""
import os
import pathlib
import re

import sources
import tap

SECONDS = 120


def keep_schema_here(top, log):
    """The validator takes the JSON schema from the network; the module that the suite is built with has it too."""
    spec = sources.go(["list", "-m", "-f", "{{.Dir}}", "github.com/opencontainers/runtime-spec"], top, log).strip()
    source = top / "validate" / "validate.go"
    text = re.sub(r'(configSchemaTemplate = )"[^"]*"', rf'\1"file://{spec}/schema/config-schema.json%.0s"', source.read_text())
    source.write_text(text)


def build(work):
    """The directory in which the suite's programs run: they take its root file system and runtimetest from there."""
    top = sources.fetch(sources.RUNTIME_TOOLS, work)
    if not (top / "bin" / "state").exists():
        log = f"{work}/build-runtime-tools.log"
        static = {"CGO_ENABLED": "0"}
        sources.go(["build", "-tags", "netgo osusergo", "-o", "runtimetest", "./cmd/runtimetest"], top, log, static)
        keep_schema_here(top, log)
        sources.go(["build", "-o", "oci-runtime-tool", "./cmd/oci-runtime-tool"], top, log, static)
        (top / "bin").mkdir(exist_ok=True)
        sources.go(["build", "-o", "bin/", "./validation/..."], top, log, static)
    return top


def tests(top, words):
    names = sorted(path.name for path in (top / "bin").iterdir())
    return [name for name in names if not words or any(word in name for word in words)]


def verdict(points, status, text):
    """One word for a program: a failed point or an exit status is a failure. A few programs have no points: those print
    an error, with status 0, or nothing."""
    failed = [point for point in points if point.status == "fail"]
    if failed or status != 0:
        return "fail"
    if not points:
        return "fail" if '"error":' in text else "pass"
    return "pass" if any(point.status == "pass" for point in points) else "skip"


def why(points, status, text):
    if status is None:
        return f"took more than {SECONDS} s"
    failed = [point.name for point in points if point.status == "fail"]
    if failed:
        return "; ".join(dict.fromkeys(failed))
    skipped = [point.said.strip() or point.name for point in points if point.status == "skip"]
    if status == 0 and skipped:
        return "; ".join(dict.fromkeys(skipped))
    errors = re.findall(r'"error": "(.*)"', text)
    if status == 0 and errors:
        return errors[0]
    return (text.strip().splitlines() or [f"exit status {status}, nothing said"])[-1]


def run(top, runtime, words, logs):
    """Yields (name, verdict, reason, passed points, all points) for each program."""
    logs = pathlib.Path(logs)
    scratch = logs / "tmp"
    scratch.mkdir(parents=True, exist_ok=True)
    # The bundles lie below TMPDIR and a container's user has to get through.
    for directory in (logs.parent, logs, scratch):
        os.chmod(directory, 0o755)
    for name in tests(top, words):
        status, text = tap.run([f"{top}/bin/{name}"], top, {"RUNTIME": runtime, "TMPDIR": str(scratch)}, SECONDS,
                               logs / f"{name}.log")
        points = tap.parse(text)
        passed = sum(point.status == "pass" for point in points)
        result = verdict(points, status, text)
        yield name, result, "" if result == "pass" else why(points, status, text), passed, len(points)
