#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Reads the #include lines of src/ and fails on one that points upward. usage: include_direction.py SOURCE-ROOT"""

import os
import re
import sys

# Bottom to top, with what each directory may include besides itself. `child` is freestanding: see CHILD.
MAY = {
    "base": "",
    "sys": "base",
    "fs": "base sys",
    "oci": "base",
    "image": "base sys fs oci",
    "cgroup": "base sys fs oci",
    "security": "base sys oci",
    "plan": "base oci security",
    "launch": "base sys fs oci cgroup security plan child",
    "state": "base sys fs oci cgroup security plan launch",
    "supervise": "base sys fs oci image cgroup security plan launch state child",
    "cli": "base sys fs oci image cgroup security plan launch state supervise",
}
CHILD = re.compile(r"^(child/|sys/raw\.h$|plan/[a-z_]*(flat|child)[a-z_]*\.h$)")
# The one home of each library (docs of the directories): elsewhere its header is a mistake.
HOMES = {"nlohmann/": ("oci",), "archive": ("image",), "seccomp.h": ("security",), "sys/capability.h": ("security",)}
UNWANTED = ("iostream", "filesystem", "regex")
# Public headers of libskink, which the engine's implementation and the command line include.
PUBLIC = {"supervise", "cli", "state"}
INCLUDE = re.compile(r'^\s*#\s*include\s*(["<])([^">]+)[">]')


def problems_of(directory, header, quoted):
    if quoted:
        target = header.split("/")[0]
        if "/" not in header or header.startswith("."):
            return "is not of the form \"directory/name.h\""
        if directory == "child":
            return None if CHILD.match(header) else "src/child may include only sys/raw.h and the flat plan"
        if target not in MAY and target != "child":
            return None if target == "skink" and directory in PUBLIC else "names no directory of src/"
        if target != directory and target not in MAY[directory].split():
            return "points upward: %s/ may include %s" % (directory, MAY[directory] or "nothing")
        return None
    if header in UNWANTED:
        return "is not used in this project (size)"
    if header.startswith("skink/") and directory not in PUBLIC:
        return "belongs to the programs and the engine"
    for prefix, homes in HOMES.items():
        if (header == prefix or header.startswith(prefix)) and directory not in homes:
            return "belongs to src/%s" % homes[0]
    return None


def main(top):
    found, count = [], 0
    for directory, _, files in sorted(os.walk(os.path.join(top, "src"))):
        part = os.path.relpath(directory, os.path.join(top, "src")).split(os.sep)[0]
        if part == ".":
            continue
        if part not in MAY and part != "child":
            found.append("src/%s is not in the table of %s" % (part, os.path.basename(__file__)))
            continue
        for name in sorted(files):
            if not name.endswith((".h", ".cc", ".c", ".inc")):
                continue
            path = os.path.join(directory, name)
            with open(path, encoding="utf-8") as source:
                for number, line in enumerate(source, 1):
                    match = INCLUDE.match(line)
                    if not match:
                        continue
                    count += 1
                    problem = problems_of(part, match.group(2), match.group(1) == '"')
                    if problem:
                        found.append("%s:%d: %s %s" % (os.path.relpath(path, top), number, match.group(2), problem))
    print("\n".join(found + ["%d include lines, %d against the rule" % (count, len(found))]))
    return 1 if found or not count else 0


sys.exit(main(sys.argv[1]))
