# SPDX-License-Identifier: Apache-2.0
"""A program that starts by src/cli/libc_start.cc against the same one that starts by glibc: they must see the same."""
import subprocess
import sys


def run(program):
    done = subprocess.run([program, "a", "b c"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, env={"PROBE": "1"}, check=False)
    return done.returncode, done.stdout.decode(), done.stderr.decode()


ours, theirs = run(sys.argv[1]), run(sys.argv[2])
assert ours[0] == theirs[0] == 3, (ours, theirs)
assert ours[1] == theirs[1], "%s\n---\n%s" % (ours[1], theirs[1])
for line in ("constructor 3 a 1", "main 3 a b c 1", "guards 1 1 1", "thread 7 7", "copies 1", "destroyed"):
    assert line in ours[1].splitlines(), ours[1]
assert len({run(sys.argv[1])[2] for _ in range(4)}) == 4, "the guards are the same each time"
