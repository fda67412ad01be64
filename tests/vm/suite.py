# SPDX-License-Identifier: Apache-2.0
"""Runs the project's own tests in a virtual machine; what comes back are junit files, as on this machine.

With `everything` all system and attack tests but those marked not_vm, and every unit test program; else those marked vm
or vm_only but not vm_more, and the unit tests of control groups, which look at the real hierarchies.
"""

import os
import re
import sys
import xml.etree.ElementTree as ElementTree

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from machine import TOP, ImageError, Machine, MachineError  # noqa: E402,F401

# Fork and exec take fifteen times as long as outside where the processor is emulated; half of a test is waiting.
SLOWER = "8"
# For each program of unit tests; one that takes longer does not keep the others from being run.
UNIT_SECONDS = 3600
# Tests of one file share a user with a session, or a service: one worker has all of them.
WORKERS = "2"
KERNEL_PROGRAMS = ("test-cgroup-kernel",)
# systemd with the hierarchies of cgroup v1 and nothing else: a machine of its own.
V1_TESTS = "tests/system/test_systemd_v1.py"
V1_KERNEL_ARGS = "systemd.unified_cgroup_hierarchy=0 systemd.legacy_systemd_cgroup_controller=1"


# A test that failed is tried once more, by itself: beside the results lie those of the second try. More failures than
# these are no accident of a busy machine.
AGAIN = "-again.xml"
MOST_DOUBTFUL = 6


def again(results):
    return results[:-len(".xml")] + AGAIN


def broken(case):
    return case.find("failure") if case.find("failure") is not None else case.find("error")


def node(case):
    """What pytest calls a case of its junit file."""
    return "tests/%s.py::%s" % (case.get("classname", "").replace("tests.", "", 1).replace(".", "/"), case.get("name", ""))


def cases(results):
    try:
        return list(ElementTree.parse(results).getroot().iter("testcase"))
    except (OSError, ElementTree.ParseError):
        return []


def doubtful(results):
    """The failed cases that deserve a second try; none when there are many."""
    failed = sorted({node(case) for case in cases(results) if broken(case) is not None})
    return failed if len(failed) <= MOST_DOUBTFUL else []


def passed_nodes(results):
    return {node(case) for case in cases(results) if broken(case) is None and case.find("skipped") is None}


def environment(all_points):
    return {"SKINK_BUILD": "/skink/build", "SKINK_TEST_VM": "1", "SKINK_TEST_SLOWER": SLOWER,
            "SKINK_TEST_ALL": "1" if all_points else "", "PYTHONDONTWRITEBYTECODE": "1"}


def pytest_command(results, *more):
    return ["/usr/bin/python3", "-m", "pytest", "-q", "-p", "no:cacheprovider", "--junitxml", "/out/" + results, *more]


def chosen_tests(everything, names):
    marks = "not alone" if everything or names else "(vm or vm_only) and not vm_more and not alone"
    return ["-m", marks] + (["-k", " or ".join(names)] if names else [])


class Suite:
    def __init__(self, log, results, everything, all_points, names):
        self.log, self.results, self.everything, self.names = log, results, everything, names
        self.env = environment(all_points)

    def run(self, machine, words, timeout):
        """The exit status; the output goes to the log."""
        command = machine.start(words, env=self.env, cwd="/skink", sink=lambda letter, data: self.write(data))
        machine.send(b"C", command.number)
        return machine.wait(command, timeout)

    def write(self, data):
        self.log.write(data)
        self.log.flush()

    def unit_programs(self, machine):
        listed = machine.shell("ls /skink/build/tests/unit/*/test-*").out.split()
        return [path for path in listed if (self.everything and not self.names)
                or os.path.basename(path) in KERNEL_PROGRAMS and not self.names
                or any(name in os.path.basename(path) for name in self.names)]

    def run_units(self, machine):
        """Programs that ended without a junit file, by name."""
        broken = []
        for path in self.unit_programs(machine):
            name = os.path.basename(path)
            status = self.run(machine, ["timeout", str(UNIT_SECONDS), path, "--gtest_brief=1", "--gtest_output=xml:/out/%s.xml" % name],
                              2 * UNIT_SECONDS)
            if status not in (0, 1):
                broken.append("%s ended with status %d" % (name, status))
        return broken

    def run_system(self, machine, timeout):
        status = self.run(machine, pytest_command("system.xml", "-n", WORKERS, "--dist", "loadfile",
                                                  *chosen_tests(self.everything, self.names), "--ignore", V1_TESTS,
                                                  "tests/system", "tests/attack"),
                          timeout)
        machine.fetch("/out", self.results)
        # What changes the machine itself, such as its clock, has it for itself: not within the time of every day.
        words = ["-k", " or ".join(self.names)] if self.names else []
        if self.everything or self.names:
            alone = self.run(machine, pytest_command("alone.xml", "-m", "alone", *words, "tests/system"), timeout)
            if alone not in (0, 5) and status in (0, 5):
                status = alone
            machine.fetch("/out", self.results)
        failed = doubtful(os.path.join(self.results, "system.xml"))
        if status in (1, 6) and failed:
            second = self.run(machine, pytest_command("system" + AGAIN, *failed), timeout)
            machine.fetch("/out", self.results)
            status = second if second in (1, 6) else 0
        return status

    def __call__(self, machine, timeout):
        """What went wrong besides failed tests, as a list of sentences."""
        machine.run(["mkdir", "-p", "/out", os.path.dirname(TOP)])
        # Unit tests read the documents that they hold programs to by the path at which they were compiled.
        machine.run(["ln", "-sfn", "/skink", TOP])
        problems = self.run_units(machine)
        status = self.run_system(machine, timeout)
        # 1: tests failed, each counted by itself; 5: nothing matched the names.
        if status not in (0, 1, 5) or (status == 5 and not self.names):
            problems.append("pytest ended with status %d" % status)
        return problems


def packages(everything):
    """The programs that call an OCI runtime or make images, by the list of tools/deps, for the tests that need them."""
    if not everything:
        return []
    with open(os.path.join(TOP, "tools", "deps")) as file:
        text = file.read()
    return " ".join(re.search(r"^%s='([^']*)'" % name, text, re.M).group(1) for name in ("peers", "engines")).split()


def run_suite(build, log, results, everything=False, all_points=False, names=(), timeout=1200, say=print):
    suite = Suite(log, results, everything, all_points, list(names))
    with Machine(build=build, memory=3072, packages=packages(everything and not names), say=say) as machine:
        problems = suite(machine, timeout)
        suite.write(b"-- console of the machine --\n" + machine.console_text().encode())
    return problems


def run_v1_suite(build, log, results, all_points=False, timeout=1200):
    """Likewise, for what needs a systemd that uses cgroup v1."""
    suite = Suite(log, results, True, all_points, [])
    with Machine(build=build, kernel_args=V1_KERNEL_ARGS) as machine:
        machine.run(["mkdir", "-p", "/out"])
        status = suite.run(machine, pytest_command("systemd-v1.xml", V1_TESTS), timeout)
        machine.fetch("/out", results)
    return [] if status in (0, 1) else ["pytest ended with status %d" % status]
