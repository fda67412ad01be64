# SPDX-License-Identifier: Apache-2.0
"""Fixtures of the system tests; they are in tests/support/skinktest.py, which the attack tests share."""

import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "support"))
from skinktest import bare, bundle, canary, oci, sk, subreaper, world  # noqa: E402,F401
