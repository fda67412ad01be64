# SPDX-License-Identifier: Apache-2.0
"""A bare machine: a minimal Debian 12 with nothing installed, a clone, and the words of README.md and docs/tutorial.md.

The commands are read out of the documents, so one that does not work as it is written fails here. Some twenty minutes on two
cores, as everything is compiled from nothing, twice: for `tools/test --all` alone.
"""

import os
import re
import shlex
import subprocess

import pytest
from bare import Bare
from skinktest import TOP, needs, read_text

pytestmark = [pytest.mark.full, pytest.mark.timeout(7200)]
def blocks(document):
    """Code blocks of a document by the heading above them; comments of lines are left out."""
    found, heading, lines = [], "", []
    for line in read_text(os.path.join(TOP, document)).splitlines() + [""]:
        if line.startswith("#"):
            heading = line.lstrip("# ")
        if line.startswith("    "):
            lines.append(re.sub(r"\s+#.*$", "", line[4:]))
        elif lines and line == "":
            found.append((heading, lines))
            lines = []
    return found


# ^C after a while, four times: what a program ignores as process 1 ends it with the fourth. A shell's background job would
# ignore the signal, and timeout(1) sends it but once.
INTERRUPTED = "perl -e '$p = fork // die; exec @ARGV or die unless $p; sleep 15; for (1 .. 4) { kill INT => $p; sleep 1 } waitpid $p, 0' %s"


def commands_below(document, heading):
    return [line for title, lines in blocks(document) if title == heading for line in lines]


@pytest.fixture(scope="module")
def bare():
    needs("mmdebstrap")
    bare = Bare()
    try:
        subprocess.run(["git", "-c", "safe.directory=*", "clone", "-q", "--no-hardlinks", TOP, os.path.join(bare.tree, "root/skink")],
                       check=True, timeout=300)
        yield lambda script, timeout=3600: bare(script, timeout, "/root/skink")
    finally:
        bare.remove()


def test_readme_and_tutorial_work_as_they_are_written(bare):
    first = blocks("README.md")[0][1]
    assert first[0] == "tools/quickstart" and first[1] == "tools/test"
    assert "it came back by itself" in bare(first[0])

    # Everything that tools/test installs and builds, and a part of the tests; all of them are the business of this run itself.
    said = bare(first[1] + " result_test unit readonly exit_codes test_policy_no", timeout=5400)
    assert re.search(r"^[1-9]\d* passed, 0 failed", said, re.M), said[-3000:]

    install = commands_below("README.md", "Install")
    plain = [line for line in install if not line.startswith("systemctl")]
    assert plain[0] == "tools/deps build" and plain[-1] == "meson install -C build"
    # In one clone: the build directory of the tests is there already, and meson says so.
    bare("rm -rf build")
    for line in plain:
        bare(line)
    assert "skink version" in bare("skink --version") and "skink-oci" in bare("skink-oci --version")
    for path in ("usr/local/share/man/man1/skink-run.1", "usr/local/lib/systemd/system/skink-heal.service",
                 "usr/local/share/bash-completion/completions/skink.bash"):
        bare("test -s /" + path)

    five = commands_below("README.md", "The first five commands")
    assert len(five) == 5
    # One namespace for all five, as they are about one container. Some go on for ever: then ^C, until it is enough.
    script = ["set -ex", "images/make /tmp/images", "cp /tmp/images/web-1.tar web.tar"]
    for line in five:
        ends = " -d " in line or not re.match(r"skink (run|logs -f)", line)
        script.append(line if ends else INTERRUPTED % line)
    said = bare("\n".join(script))
    assert re.search(r"^web$", said, re.M) and "Up " in said, said[-3000:]

    tutorial = [line for _, lines in blocks("docs/tutorial.md") for line in lines][:5]
    script = ["set -ex"]
    for line in tutorial:
        script.append("script -qec %s /dev/null <<<'exit 0'" % shlex.quote(line) if " -it " in line else line)
    said = bare("\n".join(script))
    assert "hello:1" in said and "you" in said, said[-3000:]
