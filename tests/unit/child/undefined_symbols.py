#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The freestanding programs use nothing of libc: their undefined symbols are listed, and there must be none; nor may there be a
dynamic section, an interpreter or a relocation that somebody would have to carry out at start."""
import subprocess
import sys


def tool(*command: str) -> str:
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def problems(program: str) -> list[str]:
    found = [f"undefined symbol {line.split()[-1]}" for line in tool("nm", "-u", program).splitlines() if line.strip()]
    headers = tool("readelf", "-lW", program)
    found += [f"program header {kind}" for kind in ("INTERP", "DYNAMIC", "TLS") if f" {kind} " in headers.replace("  ", " ")]
    if "There are no relocations" not in tool("readelf", "-rW", program):
        found.append("relocations")
    if "_start" not in tool("nm", program):
        found.append("no _start: the wrong file was given")
    return found


def main() -> int:
    status = 0
    for program in sys.argv[1:]:
        for problem in problems(program):
            print(f"{program}: {problem}")
            status = 1
    return status if len(sys.argv) > 1 else 1


if __name__ == "__main__":
    sys.exit(main())
