# SPDX-License-Identifier: Apache-2.0
"""Runs a command and reaps what it leaves behind, as an init would: not every machine's pid 1 does. A process that
nobody reaps is there for whoever waits until it is gone. usage: reaper.py COMMAND [ARGUMENT...]"""
import ctypes
import os
import sys


def main(argv):
    set_child_subreaper = 36
    ctypes.CDLL(None).prctl(set_child_subreaper, 1, 0, 0, 0)
    child = os.posix_spawnp(argv[0], argv, os.environ)
    while True:
        pid, status = os.wait()
        if pid == child:
            return os.waitstatus_to_exitcode(status)


sys.exit(main(sys.argv[1:]) & 0xFF)
