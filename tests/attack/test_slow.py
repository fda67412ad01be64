# SPDX-License-Identifier: Apache-2.0
"""F24: a machine that is slow, a process of skink's that is stopped. No command fails because it had to wait."""

import pytest
from skinktest import support


def dawdle(milliseconds, who):
    return [support("dawdle"), str(milliseconds), who]


SHORT = [(["run", "--rm", "busybox", "sh", "-c", "echo out; exit 7"], 7, "out\n"), (["run", "busybox", "true"], 0, ""),
         (["run", "--rm", "-i", "busybox", "cat"], 0, "typed"), (["run", "-d", "--rm", "busybox", "true"], 0, None),
         (["run", "-d", "--restart", "no", "busybox", "false"], 0, None), (["start", "NAME"], 0, None),
         (["run", "--rm", "busybox", "nothing-there"], 127, ""), (["run", "-d", "busybox", "nothing-there"], 127, "")]


@pytest.mark.parametrize("who", ["first", "others"])
@pytest.mark.parametrize("args,status,out", SHORT, ids=lambda value: "-".join(value[:3]) if isinstance(value, list) else "")
def test_f24_a_program_that_is_over_before_anybody_looks(sk, world, who, args, status, out):
    """The command is slow and its keepers are not, or the other way round: it hears how the program ended all the same."""
    name = world.name()
    sk.ok("create", "--name", name, "--restart", "no", "busybox", "true")
    args = [name if word == "NAME" else word for word in args]
    result = sk(*args, before=dawdle({"first": 3, "others": 1}[who], who), input="typed")
    assert result.status == status, result
    assert out is None or result.out == out, result
