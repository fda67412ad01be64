#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Makes one static library of several, thin ones too. usage: join_archives.py OUTPUT INPUT..."""
import os
import subprocess
import sys

output, inputs = sys.argv[1], sys.argv[2:]
if os.path.exists(output):
    os.unlink(output)
script = ["create " + output] + ["addlib " + name for name in inputs] + ["save", "end", ""]
sys.exit(subprocess.run(["ar", "-M"], input="\n".join(script).encode()).returncode)
