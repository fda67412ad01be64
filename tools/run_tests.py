#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""What tools/test runs after the packages are there: build, lint, unit tests, system and attack tests, one sum."""

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import time
import xml.etree.ElementTree as ElementTree

TOP = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
sys.dont_write_bytecode = True
sys.path.insert(0, os.path.join(TOP, "tests", "vm"))
import suite  # noqa: E402

SANITIZED = "build-sanitize"


class Sum:
    """Results of real test cases, read from the junit files that the runners write."""

    def __init__(self):
        self.passed = self.failed = self.skipped = 0
        self.failures, self.reasons, self.unsteady = [], {}, []

    def add_case(self, case, where, mended=()):
        name = "%s.%s" % (case.get("classname", ""), case.get("name", ""))
        broken = suite.broken(case)
        if broken is not None and suite.node(case) in mended:
            self.passed += 1
            self.unsteady.append("%s: %s: %s" % (where, name, " ".join((broken.get("message") or "").split())[:300]))
        elif broken is not None:
            # With the reason: a record of a run keeps its last lines, and rarely the logs.
            reason = " ".join((broken.get("message") or broken.text or "").split())
            self.fail("%s: %s: %s" % (where, name, reason[:600]))
        elif case.find("skipped") is not None or case.get("status") == "notrun":
            reason = case.find("skipped")
            self.skip(reason.get("message", "") if reason is not None else "disabled")
        else:
            self.passed += 1

    def skip(self, reason):
        self.skipped += 1
        self.reasons[reason] = self.reasons.get(reason, 0) + 1

    def fail(self, what):
        self.failed += 1
        self.failures.append(what)

    def read(self, path, where):
        """Returns how many failed cases the file had, -1 when there is no readable file. Beside X.xml may lie X-again.xml,
        the second try of those that failed: what passed there has passed, and is named as unsteady."""
        before = self.failed
        mended = suite.passed_nodes(suite.again(path))
        try:
            root = ElementTree.parse(path).getroot()
        except (OSError, ElementTree.ParseError):
            return -1
        for case in root.iter("testcase"):
            self.add_case(case, where, mended)
        return self.failed - before

    def read_directory(self, directory, where):
        for name in sorted(os.listdir(directory) if os.path.isdir(directory) else []):
            if name.endswith(".xml") and not name.endswith(suite.AGAIN):
                self.read(os.path.join(directory, name), where)


def log_path(build, name):
    os.makedirs(os.path.join(TOP, build, "logs"), exist_ok=True)
    return os.path.join(TOP, build, "logs", name + ".log")


def run(build, name, command, env=None):
    """Runs with the output in a log file; returns (status, log)."""
    log = log_path(build, name)
    with open(log, "wb") as out:
        status = subprocess.run(command, cwd=TOP, stdout=out, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL,
                                env=dict(os.environ, **(env or {}))).returncode
    return status, log


def tail(log, lines):
    with open(log, errors="replace") as text:
        sys.stdout.write("".join("  | " + line for line in text.readlines()[-lines:]))


class Stage:
    """Prints one line for a stage of the run: its name, how it went, how long it took."""

    def __init__(self, name):
        self.name, self.begin = name, time.monotonic()
        print("== %s ..." % name, flush=True)

    def end(self, text):
        print("== %s: %s (%.0f s)" % (self.name, text, time.monotonic() - self.begin), flush=True)


def build(directory, options):
    stage = Stage("build " + directory)
    status = subprocess.run(["tools/build", directory] + options, cwd=TOP).returncode
    stage.end("done" if status == 0 else "FAILED")
    return status == 0


def meson_tests(directory, names):
    """Names of the meson tests to run; None for all of them."""
    if not names:
        return None
    listed = subprocess.run(["meson", "introspect", "--tests", directory], cwd=TOP, stdout=subprocess.PIPE).stdout
    return [test["name"] for test in json.loads(listed or b"[]") if any(name in test["name"] for name in names)]


def unit(directory, names, total):
    chosen = meson_tests(directory, names)
    if chosen is not None and not chosen:
        return
    stage = Stage("unit tests (%s)" % directory)
    status, log = run(directory, "unit", ["meson", "test", "-C", directory, "--no-rebuild", "--print-errorlogs",
                                          "--timeout-multiplier", "4"] + (chosen or []),
                      {"ASAN_OPTIONS": "detect_leaks=1:abort_on_error=0", "UBSAN_OPTIONS": "print_stacktrace=1"})
    before = (total.passed, total.failed)
    failed = total.read(os.path.join(TOP, directory, "meson-logs", "testlog.junit.xml"), directory)
    # A program that crashed wrote no cases: its exit status is a failure by itself.
    if status != 0 and failed <= 0:
        total.fail("%s: meson test ended with status %d, see %s" % (directory, status, log))
    if total.failed != before[1]:
        tail(log, 60)
    stage.end("%d passed, %d failed" % (total.passed - before[0], total.failed - before[1]))


# What a host with cgroup v1 alone shows, on a hybrid one: a mount namespace without the unified hierarchy.
UNIFIED = "/sys/fs/cgroup/unified"
V1_VIEW = ["unshare", "--mount", "sh", "-c", 'umount %s && exec "$@"' % UNIFIED, "sh"]


def pytest(directory, names, total, all_points, workers, view="system"):
    stage = Stage("system and attack tests (%s%s)" % (directory, ", cgroup v1 alone" if view == "v1" else ""))
    if view == "v1" and not os.path.ismount(UNIFIED):
        total.skip("cgroup v1 alone: %s is not mounted here" % UNIFIED)
        return stage.end("skipped")
    results = os.path.join(TOP, directory, "logs", view + ".xml")
    for old in (results, suite.again(results)):
        if os.path.exists(old):
            os.unlink(old)
    program = (V1_VIEW if view == "v1" else []) + ["/usr/bin/python3", "-m", "pytest", "-q", "-p", "no:cacheprovider"]
    command = program + ["-n", str(workers), "--dist", "load", "--junitxml", results, "tests/system", "tests/attack"]
    command += ["tests/bare"] if all_points and view == "system" else []
    if names:
        command += ["-k", " or ".join(names)]
    before = (total.passed, total.failed, total.skipped)
    env = {"SKINK_BUILD": os.path.join(TOP, directory), "SKINK_TEST_ALL": "1" if all_points else "",
           "PYTHONDONTWRITEBYTECODE": "1"}
    status, log = run(directory, view, command, env)
    doubtful = suite.doubtful(results)
    if status in (1, 6) and doubtful:
        second, _ = run(directory, view + "-again", program + ["--junitxml", suite.again(results)] + doubtful, env)
        # What a test that failed left behind is judged by its second try.
        status = second if second in (1, 6) else 0
    failed = total.read(results, directory)
    # 1: tests failed, each counted by itself; 5: nothing matched the names; 6: the run left something behind.
    if status not in (0, 1, 5) or (status == 1 and failed <= 0):
        total.fail("%s: pytest ended with status %d, see %s" % (directory, status, log))
    if total.failed != before[1]:
        tail(log, 80)
    stage.end("%d passed, %d failed, %d skipped" % (total.passed - before[0], total.failed - before[1],
                                                   total.skipped - before[2]))


# A quarter of an hour for what plain tools/test runs in the virtual machine, hours for everything.
VM_SECONDS = {False: 2700, True: 4 * 3600}


def start_image():
    """Makes the disk of the virtual machine, when there is none, beside the build."""
    with open(log_path("build", "vm-image"), "wb") as out:
        return subprocess.Popen([os.path.join(TOP, "tools", "vm"), "--make"], stdout=out, stderr=subprocess.STDOUT,
                                stdin=subprocess.DEVNULL)


def virtual_machine(image, names, total, everything, all_points):
    stage = Stage("tests in the virtual machine")
    if image.wait() != 0:
        total.fail("virtual machine: its image cannot be made, see build/logs/vm-image.log")
        tail(log_path("build", "vm-image"), 15)
        return stage.end("no image")
    in_machine(stage, "vm", "virtual machine", total, lambda out, results: suite.run_suite(
        os.path.join(TOP, "build"), out, results, everything, all_points, names, VM_SECONDS[everything]))
    if everything and not names:
        in_machine(Stage("tests in the virtual machine (systemd with cgroup v1)"), "vm-v1", "virtual machine, v1", total,
                   lambda out, results: suite.run_v1_suite(os.path.join(TOP, "build"), out, results, all_points))


def in_machine(stage, name, where, total, run_tests):
    """`run_tests` gets the log and the directory for results; its answer is what went wrong besides failed tests."""
    results, log = os.path.join(TOP, "build", "logs", name), log_path("build", name)
    shutil.rmtree(results, ignore_errors=True)
    before = (total.passed, total.failed, total.skipped)
    with open(log, "wb") as out:
        try:
            problems = run_tests(out, results)
        except (suite.MachineError, suite.ImageError, TimeoutError, OSError) as error:
            problems = [str(error)]
    total.read_directory(results, where)
    for problem in problems:
        total.fail("%s: %s, see %s" % (where, problem, log))
    if total.failed != before[1]:
        tail(log, 80)
    stage.end("%d passed, %d failed, %d skipped" % (
        total.passed - before[0], total.failed - before[1], total.skipped - before[2]))


def tracked(*patterns):
    """Files of the project: what git knows, else what is there (an unpacked archive)."""
    listed = subprocess.run(["git", "-c", "safe.directory=*", "ls-files", "-co", "--exclude-standard", "--"]
                            + list(patterns), cwd=TOP, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    names = listed.stdout.decode().split("\n") if listed.returncode == 0 else [
        os.path.relpath(os.path.join(directory, name), TOP)
        for top in ("src", "include", "tests", "tools") for directory, _, files in os.walk(os.path.join(TOP, top))
        for name in files if any(name.endswith(pattern.lstrip("*")) for pattern in patterns)]
    return sorted(name for name in names if name and os.path.exists(os.path.join(TOP, name)))


def changed():
    """Sources that differ from the last commit or came with it."""
    out = subprocess.run("git -c safe.directory='*' diff --name-only HEAD; "
                         "git -c safe.directory='*' diff --name-only HEAD~1 HEAD",
                         shell=True, cwd=TOP, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL).stdout.decode()
    return set(out.split())


def compile_database():
    """Writes build/tidy/compile_commands.json, with an entry for each source: a unity build compiles several as one,
    by a file that includes them. Returns their names."""
    with open(os.path.join(TOP, "build", "compile_commands.json")) as database:
        units = json.load(database)
    single = []
    for unit in units:
        file = os.path.join(unit["directory"], unit["file"])
        sources = [file]
        if re.search(r"-unity\d+\.cpp$", file):
            with open(file) as text:
                sources = [os.path.join(unit["directory"], name) for name in re.findall(r'#include *"(.*)"', text.read())]
        for source in sources:
            command = unit["command"].replace(" -c %s" % unit["file"], " -c %s" % source)
            single.append({"directory": unit["directory"], "file": source, "command": command})
    os.makedirs(os.path.join(TOP, "build", "tidy"), exist_ok=True)
    with open(os.path.join(TOP, "build", "tidy", "compile_commands.json"), "w") as database:
        json.dump(single, database)
    return {os.path.relpath(unit["file"], TOP) for unit in single}


def tidy_files(everything, most=4):
    """clang-tidy needs seconds for each file: those that changed, filled up by a sample that wanders from day to day."""
    compiled = compile_database()
    files = sorted(name for name in compiled if name.startswith("src/") and name.endswith((".cc", ".cpp")))
    if everything or not files:
        return files
    chosen = [name for name in files if name in changed()][:most]
    rest = [name for name in files if name not in chosen]
    start = int(time.time() // 86400) * most
    return chosen + [rest[(start + i) % len(rest)] for i in range(min(most - len(chosen), len(rest)))]


def lint(total, everything):
    stage = Stage("lint")
    sources = tracked("*.cc", "*.h", "*.c")
    checks = [("clang-format", ["clang-format", "--dry-run", "-Werror"] + sources)]
    files = tidy_files(everything)
    if files:
        checks.append(("clang-tidy", ["xargs", "-a", "/dev/fd/0"]))
    for name, command in checks:
        if name == "clang-tidy":
            # Two at a time; g++'s own warning options are unknown to clang.
            command = ["sh", "-c", "printf '%s\\n' \"$@\" | xargs -P 2 -n 1 clang-tidy -quiet -p build/tidy "
                       "--extra-arg=-Wno-unknown-warning-option --extra-arg=-Wno-ignored-optimization-argument", "sh"] + files
        status, log = run("build", name, command)
        if status == 0:
            total.passed += 1
        else:
            total.fail("lint: %s, see %s" % (name, log))
            tail(log, 25)
    stage.end("%d files formatted, %d looked through by clang-tidy" % (len(sources), len(files)))


def fuzz(total, seconds=30):
    """Every target for a while; one that breaks a promise is a failure by itself."""
    stage = Stage("fuzz")
    status, log = run("build", "fuzz", ["tools/fuzz", "--seconds", str(seconds)])
    with open(log, errors="replace") as text:
        lines = [line for line in text if ": " in line]
    for line in lines:
        if "FAILED" in line:
            total.fail("fuzz: " + line.strip())
        elif "places reached" in line:
            total.passed += 1
    if status != 0:
        tail(log, 25)
        if not any("FAILED" in line for line in lines):
            total.fail("fuzz: tools/fuzz ended with status %d, see %s" % (status, log))
    stage.end("done" if status == 0 else "FAILED")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--all", action="store_true")
    parser.add_argument("--sanitize", action="store_true")
    parser.add_argument("--no-deps", action="store_true")
    parser.add_argument("--vm", action="store_true")
    parser.add_argument("--no-vm", action="store_true")
    parser.add_argument("--v1", action="store_true")
    # Most tests wait more than they work.
    parser.add_argument("--workers", type=int, default=2 * (os.cpu_count() or 1))
    parser.add_argument("names", nargs="*", metavar="NAME")
    args = parser.parse_args()
    names = [name for name in args.names if name != "lint"]
    begin, total = time.monotonic(), Sum()
    # By name: on this machine, unless --vm says otherwise.
    in_vm = args.vm or (not args.names and not args.no_vm and not args.v1)
    image = start_image() if in_vm else None

    if not build("build", ["-Dwerror=true", "-Dtests=true"]):
        total.fail("build")
    else:
        if (not args.names or "lint" in args.names) and not args.vm:
            lint(total, args.all)
        if (not args.names or names) and not args.vm:
            unit("build", names, total)
            if not args.v1:
                pytest("build", names, total, args.all, args.workers)
            if args.v1 or args.all:
                pytest("build", names, total, args.all, args.workers, "v1")
        if in_vm:
            virtual_machine(image, names, total, args.vm or args.all, args.all)
    if (args.sanitize or args.all) and not args.vm and not total.failures[:1] == ["build"]:
        if not build(SANITIZED, ["-Dwerror=true", "-Dtests=true", "-Dsanitize=address,undefined"]):
            total.fail("build of " + SANITIZED)
        else:
            unit(SANITIZED, names, total)
            if args.all:
                pytest(SANITIZED, names, total, False, args.workers)
    if args.all and not args.names and not args.vm:
        fuzz(total)

    for reason, count in sorted(total.reasons.items()):
        print("skipped %d: %s" % (count, reason))
    for name in total.unsteady:
        print("UNSTEADY, passed at the second try: " + name)
    for failure in total.failures[:40]:
        print("FAILED " + failure)
    print("logs are in build/logs; took %.0f s" % (time.monotonic() - begin))
    print("%d passed, %d failed, %d skipped" % (total.passed, total.failed, total.skipped))
    return 1 if total.failed or not total.passed else 0


sys.exit(main())
