# SPDX-License-Identifier: Apache-2.0
"""skink-oci: what stands before the verb, the grammar of the line, the log and standard error."""

import json
import os
import re
import socket
import subprocess

import pytest
from skinktest import alive, read_text, wait_for

SLEEP = ["sleep", "1000"]
VERBS = ["create", "start", "run", "state", "kill", "delete", "list", "ps", "pause", "resume", "update", "events", "features", "spec"]


def records(path):
    return [json.loads(line) for line in read_text(path).splitlines()]


# version and help

@pytest.mark.parametrize("flag", ["--version", "-v", "-version"])
def test_version(oci, flag):
    result = oci(flag)
    lines = result.out.splitlines()
    assert result.status == 0 and result.err == ""
    assert re.fullmatch(r"skink-oci version \d+\.\d+\.\d+\S*", lines[0])
    assert re.fullmatch(r"commit: \S+", lines[1]) and lines[2] == "spec: 1.3.0"
    # dockerd takes the last line that has this word.
    assert [line for line in lines if "version" in line] == lines[:1]


@pytest.mark.parametrize("flag", ["--help", "-h", "help", "-help"])
def test_help(oci, flag):
    text = oci.ok(flag)
    for verb in VERBS + ["checkpoint", "restore", "--root", "--log-format", "--systemd-cgroup"]:
        assert verb in text


@pytest.mark.parametrize("verb", VERBS)
def test_help_of_a_verb(oci, verb):
    for flag in ("--help", "-h"):
        text = oci.ok(verb, flag)
        assert text.startswith("Usage: skink-oci") and verb in text.splitlines()[0]


# grammar

def test_unknown_verbs_and_options_fail(oci):
    oci.fails("fly", status=1, match="fly")
    oci.fails(status=1, match="verb")
    oci.fails("--bogus", "list", status=1, match="--bogus")
    for verb in VERBS:
        oci.fails(verb, "--bogus", "x", status=1, match="--bogus")


def test_forms_of_an_option(oci, bundle, world):
    b = bundle(SLEEP)
    for number, words in enumerate((["--bundle", b.dir], ["--bundle=" + b.dir], ["-bundle", b.dir], ["-bundle=" + b.dir], ["-b", b.dir],
                                    ["-b" + b.dir])):
        name = world.name()
        pid_file = world.path("pid%d" % number)
        oci.ok("create", *words, "-pid-file", pid_file, "-no-pivot=false", name)
        assert re.fullmatch(r"\d+", read_text(pid_file)), "no newline"
        oci.ok("delete", "-force", name)


def test_a_configuration_of_another_name(oci, bundle, world):
    """crun's --config: named from where the caller stands, and it may be a symlink."""
    b = bundle(["echo", "theirs"])
    here = world.path("elsewhere")
    os.mkdir(here)
    config = json.loads(read_text(b.dir + "/config.json"))
    config["process"]["args"] = ["echo", "mine"]
    with open(here + "/other.json", "w", encoding="utf-8") as file:
        json.dump(config, file)
    os.symlink("other.json", here + "/link.json")
    for words in (["--config", "other.json"], ["-f", "link.json"], ["--config=" + here + "/other.json"]):
        assert oci.ok("run", "--bundle", b.dir, *words, world.name(), cwd=here) == "mine"
    name = world.name()
    oci.ok("create", "--no-subreaper", "--bundle", b.dir, "-f", "other.json", name, cwd=here)
    assert json.loads(oci.ok("state", name))["bundle"] == b.dir
    oci.ok("delete", "--force", name)
    oci.fails("create", "--bundle", b.dir, "--config", "none.json", world.name(), status=1, match="none.json", cwd=here)
    config["process"]["cwd"] = 7
    with open(here + "/other.json", "w", encoding="utf-8") as file:
        json.dump(config, file)
    oci.fails("create", "--bundle", b.dir, "--config", "other.json", world.name(), status=1, match="other.json: process.cwd", cwd=here)


def test_deleting_by_a_regular_expression(oci, bundle, world):
    b = bundle(SLEEP)
    for name in ("web-1", "web-2", "data-1"):
        oci.ok("create", "--bundle", b.dir, name)
    oci.ok("start", "web-1")
    oci.fails("delete", "--regex", "[", status=1, match="regular expression")
    # What runs stays without --force, and does not keep the others.
    oci.fails("delete", "--regex", "^web-[0-9]+$", status=1, match="web-1")
    assert sorted(oci.ok("list", "-q").split()) == ["data-1", "web-1"]
    oci.ok("delete", "-f", "-r", "web")
    assert oci.ok("list", "-q").split() == ["data-1"]
    oci.ok("delete", "--regex", "nothing")
    oci.ok("delete", "data-1")


def test_options_end_at_the_id(oci, bundle, world):
    b = bundle(["sh", "-c", "trap '' HUP; sleep 1000"])
    name = world.name()
    oci.ok("create", "--bundle", b.dir, name)
    oci.fails("kill", name, "--all", status=1, match="signal")
    oci.fails("kill", name, "-9", status=1, match="signal")
    assert json.loads(oci.ok("state", name))["status"] == "created"


def test_options_that_have_no_effect_are_taken(oci, bundle, world):
    b = bundle(["true"])
    for words in (["--criu", "/x"], ["--criu=/x"], ["--rootless", "auto"], ["--rootless=true"], ["--rootless=false"],
                  ["--log-level", "warning"], ["--cgroup-manager", "cgroupfs"], ["--cgroup-manager=cgroupfs"]):
        result = oci(*words, "run", "--bundle", b.dir, world.name())
        assert (result.status, result.out, result.err) == (0, "", ""), words
    for words in (["--rootless", "maybe"], ["--log-level", "loud"], ["--log-format", "xml"], ["--cgroup-manager", "none"]):
        oci.fails(*words, "list", status=1, match=words[1])


# root

def test_the_last_root_counts(oci, bundle, world):
    name = world.name()
    other = world.path("other")
    oci.options += ["--root=" + other, "--root", world.oci_root]
    oci.ok("create", "--bundle", bundle(SLEEP).dir, name)
    assert os.path.isdir(os.path.join(world.oci_root, name)) and not os.path.exists(other)


def test_a_relative_root(oci, bundle, world):
    name = world.name()
    oci.options[:] = ["--root", "oci"]
    oci.ok("create", "--bundle", bundle(SLEEP).dir, name, cwd=world.base)
    assert os.path.isdir(os.path.join(world.oci_root, name))
    oci.options[:] = ["--root", world.oci_root]
    oci.ok("delete", "--force", name)


def default_root(oci, world, env, *before):
    """Whether a verb that looks for a container makes its directory below XDG_RUNTIME_DIR when no --root is given."""
    run = world.path("xdg")
    os.makedirs(run, exist_ok=True)
    env = {key: value.replace("XDG", run) for key, value in env.items()}
    env["PATH"] = "/usr/sbin:/usr/bin:/sbin:/bin"
    trace = subprocess.run([*before, oci.path, "delete", "--force", "none-" + world.id], env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    found = os.path.isdir(run + "/skink-oci")
    if found:
        os.rmdir(run + "/skink-oci")
    return found, trace


def test_the_default_root_of_root(oci, world):
    """podman's kill has another environment than its create: neither may decide."""
    for env in ({"XDG_RUNTIME_DIR": ""}, {"XDG_RUNTIME_DIR": "XDG"}, {}, {"XDG_RUNTIME_DIR": "XDG", "USER": "root"}):
        found, trace = default_root(oci, world, env)
        assert trace.returncode == 0 and not found, env


def test_the_default_root_in_a_user_namespace(oci, world):
    found, trace = default_root(oci, world, {"XDG_RUNTIME_DIR": "XDG", "USER": "somebody"}, "unshare", "--user", "--map-root-user")
    if b"unshare" in trace.stderr:
        pytest.skip("no user namespace here")
    assert found and trace.returncode == 0, trace.stderr
    found, _ = default_root(oci, world, {"XDG_RUNTIME_DIR": "XDG"}, "unshare", "--user", "--map-root-user")
    assert found, "without USER, as podman kills"
    found, _ = default_root(oci, world, {"XDG_RUNTIME_DIR": "XDG", "USER": "root"}, "unshare", "--user", "--map-root-user")
    assert not found


def test_works_with_an_empty_environment_from_anywhere(oci, bundle, world):
    b, name = bundle(SLEEP), world.name()
    for command in (["create", "--bundle", b.dir, name], ["start", name], ["state", name], ["pause", name], ["resume", name],
                    ["ps", "--format", "json", name], ["update", "--pids-limit", "99", name], ["kill", name, "9"], ["delete", "--force", name]):
        # A file: the container inherits the streams of its create.
        with open(world.path("err"), "wb") as err:
            done = subprocess.run([oci.path, *oci.options, *command], env={"XDG_RUNTIME_DIR": ""}, cwd="/proc",
                                  stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=err)
        assert done.returncode == 0 and read_text(world.path("err")) == "", command


# log

@pytest.fixture
def log(oci, world):
    path = world.path("log.json")
    before = list(oci.options)
    oci.options += ["--log", path, "--log-format", "json"]
    yield path
    oci.options[:] = before


def test_the_log_is_made_and_has_one_record_a_failure(oci, bundle, world, log):
    oci.ok("delete", "--force", "none")
    assert read_text(log) == "" and os.stat(log).st_mode & 0o777 == 0o644
    result = oci.fails("state", "none", status=1)
    record, = records(log)
    assert set(record) == {"level", "msg", "time"} and record["level"] == "error"
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z", record["time"])
    assert result.err == "skink-oci: error: %s\n" % record["msg"], "plain on standard error, the same words"
    oci.fails("create", "--bundle", world.path("none"), world.name(), status=1)
    assert len(records(log)) == 2, "appended"


def test_nothing_is_logged_of_what_works(oci, bundle, world, log):
    name, b = world.name(), bundle(SLEEP)
    for command in (["create", "--bundle", b.dir, name], ["start", name], ["pause", name], ["resume", name], ["kill", name, "9"],
                    ["delete", "--force", name], ["delete", "--force", name]):
        result = oci(*command)
        assert (result.status, result.out, result.err) == (0, "", ""), command
    assert read_text(log) == ""


@pytest.mark.parametrize("arguments", [["--bogus", "list"], ["--log-level", "loud", "list"], ["create", "--bogus"], ["fly"], [],
                                       ["--root", "--", "list", "more"]], ids=" ".join)
def test_wrong_lines_are_in_the_log_too(oci, world, log, arguments):
    oci.fails(*arguments, status=1)
    assert [record["level"] for record in records(log)] == ["error"]


def test_debug_tells_more_in_the_log_only(oci, bundle, world, log):
    result = oci("--debug", "run", "--bundle", bundle(["true"]).dir, world.name())
    assert (result.status, result.out, result.err) == (0, "", "")
    assert {record["level"] for record in records(log)} == {"debug"}


def messages_of(text):
    """The debug messages of a text log, each line in runc's form."""
    found = [re.fullmatch(r'time="\d{4}-\d\d-\d\dT[^"]+Z" level=debug msg="(.*)"', line) for line in text.splitlines()]
    assert all(found), text
    return [one.group(1) for one in found]


def test_debug_tells_each_step(oci, bundle, world):
    """In the order in which they are taken, with the process that they are about; without a log on standard error."""
    b, name = bundle(["sleep", "1000"]), world.name()
    b.config["hooks"] = {"createRuntime": [{"path": "/bin/true"}]}
    b.save()

    def steps(*words):
        result = oci("--debug", *words)
        assert result.status == 0, result
        return messages_of(result.err)

    def in_order(messages, wanted):
        rest = iter(messages)
        assert all(any(re.search(one, message) for message in rest) for one in wanted), (wanted, messages)
    create = steps("create", "--bundle", b.dir, name)
    pid = json.loads(oci.ok("state", name))["pid"]
    in_order(create, ["^skink-oci .*create", "bundle %s: the configuration is valid" % b.dir, "state is in %s/%s" % (world.oci_root, name),
                      "the plan has 6 mounts", "skink-init is process %d" % pid, "process %d is on record" % pid,
                      "1 createRuntime", "process %d is set up and waits for start" % pid])
    assert "control groups are made and limited" in create
    in_order(steps("start", name), ["process %d has been told to go on" % pid, "process %d has executed its program" % pid])
    in_order(steps("exec", name, "true"), ["joining the container of process %d" % pid, "skink-init is process", "is set up$", "has executed"])
    in_order(steps("delete", "--force", name), ["process %d has been sent KILL" % pid, "control groups and state are removed"])


def test_debug_tells_why_something_is_taken_back(oci, bundle, world):
    result = oci("--debug", "run", "--bundle", bundle(["/no/such/program"]).dir, world.name())
    lines = result.err.splitlines()
    assert result.status == 1 and re.match("skink-oci: error: (run|exec): ", lines[-1])
    assert any("taking back what was made" in message for message in messages_of("\n".join(lines[:-1])))


def test_json_goes_to_standard_error_without_a_log(oci):
    oci.options += ["--log-format", "json"]
    record = json.loads(oci("state", "none").err)
    assert record["level"] == "error" and "container does not exist" in record["msg"]
    oci.options[:] = oci.options[:-2]
    assert oci("state", "none").err.startswith("skink-oci: error: state: ")


def test_a_text_log(oci, world):
    path = world.path("log.txt")
    oci("--log=" + path, "--log-format=text", "state", "none")
    assert re.fullmatch(r'time="[^"]+" level=error msg="state: .*container does not exist"\n', read_text(path))
    oci("--log", "file:" + path, "state", "none")
    assert read_text(path).count("\n") == 2


def test_names_of_a_document_cannot_forge_records(oci, bundle, world, log):
    b = bundle(['/no\n{"level":"info"}'])
    oci("create", "--bundle", b.dir, world.name())
    assert len(records(log)) == 1


def test_a_log_that_cannot_be_opened(oci, world):
    oci.fails("--log", world.path("no/such/place"), "list", status=1, match="--log")


def test_a_log_in_the_journal(oci, world):
    """In a mount namespace in which a socket of the test's is the journal's."""
    place = world.path("journal")
    os.makedirs(place)
    server = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    server.bind(place + "/socket")
    script = "mkdir -p /run/systemd/journal 2>/dev/null; mount -t tmpfs none /run && mkdir -p /run/systemd/journal && " \
             "mount --bind %s /run/systemd/journal && exec \"$@\"" % place
    done = subprocess.run(["unshare", "--mount", "--propagation", "private", "sh", "-c", script, "sh", oci.path, "--root", world.path("oci"),
                           "--log=journald:c1", "--log-level=debug", "state", "none"], stderr=subprocess.PIPE)
    server.settimeout(10)
    first = server.recv(65536).decode()
    text = server.recv(65536).decode() if "PRIORITY=7" in first else first
    server.close()
    assert "container does not exist" in text and "PRIORITY=3\n" in text and "SYSLOG_IDENTIFIER=c1\n" in text
    assert b"container does not exist" in done.stderr
    oci.fails("--log=journald:c1", "state", "none", status=1, match="does not exist")
    oci.fails("--log=syslog:c1", "state", "none", status=1, match="does not exist")


# control groups: decided at create, whatever later lines say

@pytest.mark.parametrize("flag", [["--systemd-cgroup"], ["--systemd-cgroup=true"], ["--cgroup-manager", "systemd"]], ids=" ".join)
def test_systemd_is_refused_at_create_only(oci, bundle, world, flag):
    b, name = bundle(SLEEP), world.name()
    if os.path.exists("/run/systemd/system"):
        pytest.skip("this host is run by systemd")
    oci.fails(*flag, "create", "--bundle", b.dir, name, status=1, match=["--systemd-cgroup", "systemd does not answer"])
    oci.fails(*flag, "run", "--bundle", b.dir, name, status=1, match="systemd does not answer")
    assert os.listdir(world.oci_root) in ([], [".cache"])
    oci.ok("create", "--bundle", b.dir, name)
    for command in (["start", name], ["state", name], ["ps", "--format", "json", name], ["update", "--pids-limit", "9", name],
                    ["pause", name], ["resume", name], ["events", "--stats", name], ["kill", name, "9"], ["delete", "--force", name]):
        oci.ok(*flag, *command)
    assert world.leaks(3) == []


def test_the_manager_is_in_the_state(oci, bundle, world):
    name = world.name()
    oci.ok("--cgroup-manager", "disabled", "create", "--bundle", bundle(SLEEP).dir, name)
    assert json.loads(read_text(os.path.join(world.oci_root, name, "state.json")))["cgroupManager"] == "disabled"
    assert world.cgroups() == []
    for command in (["ps", name], ["pause", name], ["update", "--pids-limit", "9", name], ["events", "--stats", name]):
        oci.fails(*command, status=1, match="without control groups")
    oci.ok("start", name)
    oci.ok("kill", "--all", name, "0")
    pid = json.loads(oci.ok("state", name))["pid"]
    oci.ok("kill", "--all", name, "9")
    wait_for(lambda: not alive(pid))
    oci.ok("kill", "--all", name, "9")
    oci.ok("delete", name)


@pytest.mark.parametrize("verb", ["create", "run"])
def test_limits_that_nothing_holds_are_told(oci, bundle, world, verb):
    """crun drops them without a word. Device rules every container has: they are no news."""
    b, log = bundle(["true"]), world.path("log")
    b.config["linux"]["resources"] = {"devices": [{"allow": False, "access": "rwm"}], "memory": {"limit": 64 << 20}, "pids": {"limit": 20}}
    result = oci("--cgroup-manager", "disabled", verb, "--bundle", b.save().dir, world.name())
    assert result.status == 0 and "linux.resources: memory, pids ignored: with --cgroup-manager disabled" in result.err, result
    assert oci("--log", log, "--cgroup-manager", "disabled", verb, "--bundle", b.dir, world.name()).err == ""
    assert "level=warning" in read_text(log) and "memory, pids ignored" in read_text(log)
    for resources in ({"devices": [{"allow": False, "access": "rwm"}]}, {"pids": {"limit": -1}}):
        b.config["linux"]["resources"] = resources
        assert oci("--cgroup-manager", "disabled", verb, "--bundle", b.save().dir, world.name()).err == ""
    b.config["linux"]["resources"] = {"pids": {"limit": 20}}
    assert oci(verb, "--bundle", b.save().dir, world.name()).err == ""


# ends of standard output

def test_a_reader_that_goes_away(oci):
    reading, writing = os.pipe()
    os.close(reading)
    result = oci("features", stdout=writing)
    os.close(writing)
    assert result.status in (0, 1)
