# SPDX-License-Identifier: Apache-2.0
"""Before and after all tests: what a crashed run left is swept away, what this run leaked fails it."""

import os
import signal
import sys
import uuid

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "support"))
import pytest  # noqa: E402

pytest.register_assert_rewrite("skinktest")
import skinktest  # noqa: E402


def is_controller(config):
    return not hasattr(config, "workerinput")


# A shell ignores it for what it runs in the background, and every program that the tests start would inherit that.
signal.signal(signal.SIGINT, signal.default_int_handler)
# Before the workers start, which inherit it: what this run leaks can be told from another run's.
os.environ.setdefault("SKINK_TEST_SESSION", uuid.uuid4().hex)


def pytest_sessionstart(session):
    if is_controller(session.config) and os.geteuid() == 0:
        skinktest.sweep()
        session.config.skink_groups = skinktest.empty_groups()


SLOW = ("test_f01", "test_f02", "test_f05", "test_f06", "test_f11", "test_f26", "test_a_hundred", "test_a_debian", "test_f16", "test_back_off",
        "test_f23")


def wanted(item):
    """Whether a test is for this place: `full` ones are for tools/test --all alone, `vm_only` ones for the virtual
    machine; there `not_vm` ones stay out, and plain tools/test runs those marked `vm` but not `vm_more` alone."""
    if item.get_closest_marker("full") and not skinktest.ALL:
        return False
    if not skinktest.IN_VM:
        return not item.get_closest_marker("vm_only")
    return not item.get_closest_marker("not_vm") and not item.get_closest_marker("without_systemd")


def skip_what_systemd_is_in_the_way_of(items):
    if not os.path.isdir("/run/systemd/system"):
        return
    for item in items:
        marker = item.get_closest_marker("without_systemd")
        if marker:
            item.add_marker(pytest.mark.skip(reason="systemd runs this host: " + marker.args[0]))


def allow_more_time(config, items):
    """A whole sweep takes as long as it takes, unless the test says it by itself."""
    default = float(config.getini("timeout") or 180) * (10 if skinktest.ALL else 1)
    for item in items:
        marker = item.get_closest_marker("timeout")
        seconds = float(marker.args[0] if marker and marker.args else default)
        item.add_marker(pytest.mark.timeout(seconds * skinktest.SLOWER), append=False)


def pytest_collection_modifyitems(config, items):
    """Long tests first, spread so that no worker gets all of them in its first share."""
    config.hook.pytest_deselected(items=[item for item in items if not wanted(item)])
    items[:] = [item for item in items if wanted(item)]
    skip_what_systemd_is_in_the_way_of(items)
    if skinktest.SLOWER != 1 or skinktest.ALL:
        allow_more_time(config, items)
    slow = [item for item in items if item.name.startswith(SLOW)]
    fast = [item for item in items if not item.name.startswith(SLOW)]
    if not slow or not fast:
        return
    step = max(1, min(300, len(fast)) // len(slow))
    order = []
    for item in slow:
        order.append(item)
        order += fast[:step]
        del fast[:step]
    items[:] = order + fast


# An exit status of its own: what a run leaves behind is a failure beside those of its tests.
LEAKED = 6


def pytest_sessionfinish(session, exitstatus):
    before = getattr(session.config, "skink_groups", None)
    if before is None or not is_controller(session.config):
        return
    left = skinktest.left_over(before)
    if left:
        print("\nLEAK: left behind by the whole run:\n" + "\n".join(left[:40]))
        session.exitstatus = LEAKED
