# SPDX-License-Identifier: Apache-2.0
"""Before and after all tests: what a crashed run left is swept away, what this run leaked fails it."""

import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "support"))
import pytest  # noqa: E402

pytest.register_assert_rewrite("skinktest")
import skinktest  # noqa: E402


def is_controller(config):
    return not hasattr(config, "workerinput")


def pytest_sessionstart(session):
    if is_controller(session.config) and os.geteuid() == 0:
        skinktest.sweep()
        session.config.skink_groups = skinktest.empty_groups()


def pytest_sessionfinish(session, exitstatus):
    before = getattr(session.config, "skink_groups", None)
    if before is None or not is_controller(session.config):
        return
    left = skinktest.left_over(before)
    if left:
        print("\nLEAK: left behind by the whole run:\n" + "\n".join(left[:40]))
        session.exitstatus = 1
