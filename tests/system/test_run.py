# SPDX-License-Identifier: Apache-2.0
"""`skink run`: what its options do, read back from inside and from /proc."""

import os
import re

import pytest
from skinktest import busybox_image, read_text, status_of


def test_it_runs_and_prints(sk):
    assert sk.ok("run", "--rm", "busybox", "echo", "hello") == "hello"


def test_standard_error_stays_apart(sk):
    result = sk("run", "--rm", "busybox", "sh", "-c", "echo out; echo err >&2")
    assert (result.status, result.out, result.err) == (0, "out\n", "err\n"), result


def test_detached_run_prints_the_64_digit_id(sk, world):
    out = sk.ok("run", "-d", "--name", world.name(), "busybox", "sleep", "100")
    assert re.fullmatch("[0-9a-f]{64}", out)


def test_a_made_up_name_and_names_that_are_taken(sk, world):
    sk.ok("run", "-d", "busybox", "sleep", "100")
    row = sk.ps()[0]
    assert row.get("name") or row.get("Names") or row.get("Name")
    name = sk.running()
    sk.fails("run", "-d", "--name", name, "busybox", "sleep", "1", status=125, match=name)


def test_environment(sk, world):
    file = world.write("env", "# comment\nFROM_FILE=yes\n\nWITH=a=b\nTAKEN\n")
    out = sk.ok("run", "--rm", "-e", "A=1", "--env", "B=two words", "-e", "HOSTS", "-e", "UNSET", "--env-file", file, "busybox",
                "env", env={"HOSTS": "value", "TAKEN": "t"}).splitlines()
    for line in ("A=1", "B=two words", "HOSTS=value", "FROM_FILE=yes", "WITH=a=b", "TAKEN=t", "PATH=/bin:/usr/bin"):
        assert line in out
    assert not any(line.startswith("UNSET") for line in out)
    assert "HOME=/root" in out and any(line.startswith("HOSTNAME=") for line in out)
    assert not any("SKINK_TEST_ID" in line for line in out), "the caller's environment leaked"


def test_command_line_environment_beats_the_images(sk):
    sk.load(busybox_image("env", run={"Env": ["PATH=/bin", "WHO=image"]}))
    assert sk.ok("run", "--rm", "-e", "WHO=user", "env", "sh", "-c", "echo $WHO") == "user"


def test_working_directory(sk):
    assert sk.ok("run", "--rm", "-w", "/etc", "busybox", "pwd") == "/etc"
    assert sk.ok("run", "--rm", "--workdir", "/new/dir", "busybox", "pwd") == "/new/dir"
    sk.fails("run", "--rm", "-w", "relative", "busybox", "pwd", status=125, match="relative")


def test_entrypoint_is_replaced_and_cleared(sk):
    sk.load(busybox_image("e", run={"Entrypoint": ["echo", "image"], "Cmd": ["cmd"]}))
    assert sk.ok("run", "--rm", "e") == "image cmd"
    assert sk.ok("run", "--rm", "e", "other") == "image other"
    assert sk.ok("run", "--rm", "--entrypoint", "echo", "e", "mine") == "mine"
    assert sk.ok("run", "--rm", "--entrypoint", "echo", "e") == ""
    assert sk.ok("run", "--rm", "--entrypoint", "", "e", "echo", "cleared") == "cleared"


def test_no_command_at_all(sk):
    sk.load(busybox_image("nocmd", run={"Cmd": None}))
    sk.fails("run", "--rm", "nocmd", status=125, match="command")


def test_options_after_the_image_belong_to_the_command(sk):
    assert sk.ok("run", "--rm", "busybox", "echo", "--rm", "-e", "X=1") == "--rm -e X=1"


def test_hostname_and_hosts(sk):
    out = sk.ok("run", "--rm", "--hostname", "box", "--add-host", "db:10.1.2.3", "--add-host", "six:fe80::1", "busybox", "sh", "-c",
                "hostname; cat /etc/hostname; cat /etc/hosts")
    lines = out.splitlines()
    assert lines[0] == "box" and lines[1] == "box"
    assert re.search(r"^10\.1\.2\.3\s+db$", out, re.M) and re.search(r"^fe80::1\s+six$", out, re.M)
    assert re.search(r"^127\.0\.0\.1\s+localhost", out, re.M)


def test_the_default_hostname_is_the_short_id(sk, world):
    name = sk.running()
    assert sk.ok("exec", name, "hostname") == sk.inspect(name)["id"][:12]


def test_dns(sk):
    out = sk.ok("run", "--rm", "--dns", "9.9.9.9", "--dns", "1.1.1.1", "busybox", "cat", "/etc/resolv.conf")
    assert [line for line in out.splitlines() if line.startswith("nameserver")] == ["nameserver 9.9.9.9", "nameserver 1.1.1.1"]


@pytest.mark.parametrize("name", ["hosts", "hostname", "resolv.conf"])
def test_made_files_are_bound_read_only(sk, name):
    out = sk.ok("run", "--rm", "--writable", "busybox", "sh", "-c", "echo x >/etc/%s; echo $?" % name)
    assert out.splitlines()[-1] != "0"


def test_namespaces_are_its_own(sk, world):
    pid = sk.pid(sk.running())
    for kind in ("mnt", "pid", "uts", "ipc", "net", "cgroup"):
        assert os.readlink("/proc/%d/ns/%s" % (pid, kind)) != os.readlink("/proc/self/ns/" + kind), kind


@pytest.mark.parametrize("kind,option", [("pid", "--pid"), ("ipc", "--ipc"), ("uts", "--uts"), ("net", "--network")])
def test_namespaces_of_the_host(sk, kind, option):
    name = sk.running(option, "host")
    assert os.readlink("/proc/%d/ns/%s" % (sk.pid(name), kind)) == os.readlink("/proc/self/ns/" + kind)
    assert sk.ok("exec", name, "echo", "in") == "in"
    pid = sk.pid(name)
    sk.ok("rm", "-f", name)
    assert not os.path.exists("/proc/%d" % pid)


def test_the_loopback_is_up_and_alone(sk):
    out = sk.ok("run", "--rm", "busybox", "sh", "-c", "ip -o link; ping -c 1 -W 5 127.0.0.1 >/dev/null 2>&1; ip -o addr")
    assert len([line for line in out.splitlines() if "link/" in line]) == 1
    assert "127.0.0.1/8" in out and "UP" in out


def test_process_one_is_the_command(sk):
    assert sk.ok("run", "--rm", "busybox", "sh", "-c", "echo $$; cat /proc/1/comm; true") == "1\nsh"


def test_init_reaps_and_forwards(sk):
    out = sk.ok("run", "--rm", "--init", "busybox", "sh", "-c", "echo $$; cat /proc/1/comm; exit 0")
    lines = out.splitlines()
    assert int(lines[0]) > 1
    assert sk("run", "--rm", "--init", "busybox", "sh", "-c", "exit 9").status == 9
    # An orphan of an orphan is reaped by the init.
    out = sk.ok("run", "--rm", "--init", "busybox", "sh", "-c", "(sh -c 'sleep 0.1 &'); sleep 1; ps -o stat,comm | grep -c ^Z; true")
    assert out.splitlines()[-1] == "0"


def test_dev_has_the_usual_nodes(sk):
    out = sk.ok("run", "--rm", "busybox", "sh", "-c",
                "for n in null zero full random urandom tty; do stat -c '%n %F %a' /dev/$n; done; "
                "ls -l /dev/fd /dev/stdin /dev/stdout /dev/stderr /dev/ptmx | sed 's/.* \\/dev/\\/dev/'; "
                "stat -c '%a' /dev/shm /dev/pts; echo x >/dev/null && head -c 3 /dev/zero | wc -c; ls /dev/mqueue /dev/shm")
    for name in ("null", "zero", "full", "random", "urandom", "tty"):
        assert "/dev/%s character special file 666" % name in out
    assert "/dev/stdin -> /proc/self/fd/0" in out and "/dev/fd -> /proc/self/fd" in out
    assert "\n1777\n" in out


def test_no_device_of_the_host_is_there(sk):
    out = sk.ok("run", "--rm", "busybox", "sh", "-c", "ls /dev; ls /dev/pts")
    allowed = {"console", "core", "fd", "full", "mqueue", "null", "ptmx", "pts", "random", "shm", "stderr", "stdin", "stdout",
               "tty", "urandom", "zero"}
    assert set(out.split()) <= allowed


def test_a_device_can_be_given(sk):
    out = sk.ok("run", "--rm", "--device", "/dev/null:/dev/mynull", "busybox", "sh", "-c",
                "echo x >/dev/mynull && stat -c '%t:%T' /dev/mynull")
    assert out == "1:3"
    if os.path.exists("/dev/loop0"):
        out = sk.ok("run", "--rm", "--device", "/dev/loop0:/dev/l:r", "busybox", "sh", "-c",
                    "stat -c '%t:%T' /dev/l; true </dev/l && echo readable; (echo x >/dev/l) 2>/dev/null || echo not writable")
        assert out.splitlines() == ["7:0", "readable", "not writable"]
    sk.fails("run", "--rm", "--device", "/dev/does-not-exist", "busybox", "true", status=125, match="does-not-exist")


def test_other_devices_are_refused_by_the_cgroup(sk):
    """mknod is allowed, as docker has it, but the device cannot be opened."""
    out = sk.ok("run", "--rm", "busybox", "sh", "-c", "mknod /dev/mem2 c 1 1; cat /dev/mem2 | head -c 1; echo; echo done")
    assert out.splitlines()[-1] == "done" and len(out) < 20


def test_masked_and_read_only_proc_paths(sk):
    out = sk.ok("run", "--rm", "busybox", "sh", "-c",
                "for f in /proc/kcore /proc/keys /proc/timer_list; do [ -e $f ] && head -c 1 $f | wc -c; done; "
                "echo 1 >/proc/sys/kernel/sysrq; echo sys $?; echo b 2>/dev/null >/proc/sysrq-trigger; echo trigger $?; "
                "ls /sys/firmware /proc/scsi /proc/acpi 2>/dev/null | grep -v : | wc -w; touch /sys/x; echo sysfs $?")
    lines = out.splitlines()
    assert "sys 1" in lines and "sysfs 1" in lines and "trigger 0" not in lines
    assert set(line for line in lines if line.isdigit()) <= {"0"}


def test_sysctl(sk):
    out = sk.ok("run", "--rm", "--sysctl", "net.ipv4.ip_default_ttl=42", "--sysctl", "kernel.msgmax=9999", "busybox", "cat",
                "/proc/sys/net/ipv4/ip_default_ttl", "/proc/sys/kernel/msgmax")
    assert out.split() == ["42", "9999"]
    assert read_text("/proc/sys/kernel/msgmax").strip() != "9999"
    sk.fails("run", "--rm", "--sysctl", "kernel.panic=1", "busybox", "true", status=125, match="kernel.panic")
    sk.fails("run", "--rm", "--network", "host", "--sysctl", "net.ipv4.ip_default_ttl=41", "busybox", "true", status=125,
             match="net.ipv4|sysctl")
    assert read_text("/proc/sys/net/ipv4/ip_default_ttl").strip() != "41"


def test_ulimit(sk, world):
    out = sk.ok("run", "--rm", "--ulimit", "nofile=100:200", "--ulimit", "core=0", "busybox", "sh", "-c",
                "ulimit -n; ulimit -Hn; ulimit -c")
    assert out.split() == ["100", "200", "0"]
    sk.fails("run", "--rm", "--ulimit", "nofile=200:100", "busybox", "true", status=125, match="nofile|soft|hard")
    sk.fails("run", "--rm", "--ulimit", "nonsense=1", "busybox", "true", status=125, match="nonsense")


def test_default_capabilities_and_no_new_privs(sk):
    pid = sk.pid(sk.running())
    status = status_of(pid)
    wanted = sum(1 << n for n in (0, 1, 3, 4, 5, 6, 7, 8, 10, 18, 27, 29, 31))
    assert int(status["CapEff"], 16) == int(status["CapBnd"], 16) == int(status["CapPrm"], 16) == wanted
    assert int(status["CapInh"], 16) == int(status["CapAmb"], 16) == 0
    assert status["NoNewPrivs"] == "1" and status["Seccomp"] == "2"


def test_capabilities_are_added_and_dropped(sk):
    pid = sk.pid(sk.running("--cap-drop", "ALL", "--cap-add", "NET_ADMIN", "--cap-add", "cap_chown"))
    assert int(status_of(pid)["CapEff"], 16) == (1 << 12) | 1
    pid = sk.pid(sk.running("--cap-drop", "mknod"))
    assert int(status_of(pid)["CapEff"], 16) & (1 << 27) == 0
    sk.fails("run", "--rm", "--cap-add", "NO_SUCH", "busybox", "true", status=125, match="NO_SUCH")


def test_cap_add_all_gives_what_the_host_has(sk):
    pid = sk.pid(sk.running("--cap-add", "ALL"))
    own = int(status_of(os.getpid())["CapBnd"], 16)
    assert int(status_of(pid)["CapEff"], 16) == own


def test_privileged(sk):
    pid = sk.pid(sk.running("--privileged"))
    status = status_of(pid)
    assert int(status["CapEff"], 16) == int(status_of(os.getpid())["CapBnd"], 16)
    assert status["Seccomp"] == "0"
    out = sk.ok("run", "--rm", "--privileged", "busybox", "sh", "-c", "mkdir /tmp/m && mount -t tmpfs t /tmp/m && echo mounted; "
                "cat /proc/sys/kernel/ostype >/dev/null && ls /dev | wc -l")
    assert out.splitlines()[0] == "mounted"


def test_security_options(sk, world):
    assert status_of(sk.pid(sk.running("--security-opt", "seccomp=unconfined")))["Seccomp"] == "0"
    assert status_of(sk.pid(sk.running("--security-opt", "no-new-privileges=false")))["NoNewPrivs"] == "0"
    profile = world.write("profile.json", '{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{"names":["mkdir","mkdirat"],'
                                          '"action":"SCMP_ACT_ERRNO","errnoRet":1}]}')
    out = sk.ok("run", "--rm", "--security-opt", "seccomp=" + profile, "busybox", "sh", "-c", "mkdir /tmp/x 2>&1; true")
    assert "not permitted" in out
    sk.fails("run", "--rm", "--security-opt", "nonsense=1", "busybox", "true", status=125, match="nonsense")
    sk.fails("run", "--rm", "--security-opt", "seccomp=/none.json", "busybox", "true", status=125, match="none.json")


def test_labels_are_shown(sk, world):
    name = sk.running("--label", "team=blue", "--label", "empty")
    assert '"blue"' in sk.ok("inspect", "--format", "json", name)
    assert sk.ok("ps", "-q", "--filter", "label=team=blue") and not sk.ok("ps", "-q", "--filter", "label=team=red")


def test_cidfile(sk, world):
    file = world.path("cid")
    out = sk.ok("run", "-d", "--cidfile", file, "busybox", "sleep", "100")
    assert read_text(file).strip() == out
    sk.fails("run", "-d", "--cidfile", file, "busybox", "true", status=125, match="cid")


def test_what_is_not_there_yet_names_the_way(sk):
    sk.fails("run", "--rm", "-p", "8080:80", "busybox", "true", status=125, match="network host")
    sk.fails("run", "--rm", "-v", "named:/data", "busybox", "true", status=125, match="named|bind|absolute")
    sk.fails("run", "--rm", "--network", "bridge", "busybox", "true", status=125, match="host")


def test_the_old_root_is_gone(sk):
    out = sk.ok("run", "--rm", "busybox", "cat", "/proc/self/mountinfo")
    points = [line.split()[4] for line in out.splitlines()]
    assert points[0] == "/" and len([p for p in points if p == "/"]) == 1
    assert not any(p.startswith(("/var/tmp/skink", "/run/skink", "/home", "/work")) for p in points)


def test_create_and_start(sk, world):
    name = world.name()
    assert re.fullmatch("[0-9a-f]{64}", sk.ok("create", "--name", name, "busybox", "sh", "-c", "echo started; sleep 100"))
    assert sk.state(name) == "created"
    assert sk.pid(name) == 0
    assert sk.ok("start", name) == name
    sk.wait_state(name, "running")
    assert sk.pid(name) > 1


def test_start_again_after_the_end(sk, world):
    name = world.name()
    sk.ok("run", "-d", "--name", name, "--restart", "no", "busybox", "sh", "-c", "echo run; exit 4")
    assert sk.ok("wait", name) == "4"
    sk.wait_state(name, "exited")
    sk.ok("start", name)
    assert sk.ok("wait", name) == "4"
    assert sk.ok("logs", name).split() == ["run", "run"]


def test_start_of_a_running_container_is_success(sk):
    name = sk.running()
    pid = sk.pid(name)
    sk.ok("start", name)
    assert sk.pid(name) == pid


def test_interactive_reads_standard_input(sk):
    assert sk.ok("run", "--rm", "-i", "busybox", "cat", input="through\n") == "through"
    assert sk.ok("run", "--rm", "-i", "busybox", "wc", "-c", input="x" * 500000, timeout=90) == "500000"


def test_without_i_standard_input_is_empty(sk):
    assert sk.ok("run", "--rm", "busybox", "cat", input="not read\n") == ""


def test_much_output_comes_whole_and_in_order(sk):
    out = sk.ok("run", "--rm", "busybox", "seq", "1", "200000", timeout=120)
    assert out == "\n".join(str(n) for n in range(1, 200001))


def test_file_descriptors_of_the_caller_stay_out(sk, world):
    secret = os.open(world.write("open", "x"), os.O_RDONLY)
    os.set_inheritable(secret, True)
    out = sk.ok("run", "--rm", "busybox", "ls", "-l", "/proc/self/fd", close_fds=False)
    os.close(secret)
    numbers = [line.split()[-3] for line in out.splitlines() if "->" in line]
    assert set(numbers) <= {"0", "1", "2", "3"}, out  # 3 is ls's own


def test_umask_and_signals_are_the_usual(sk):
    before = ["sh", "-c", "trap '' PIPE INT; umask 077; exec \"$@\"", "sh"]
    assert sk.ok("run", "--rm", "busybox", "sh", "-c", "umask", before=before) == "0022"
    out = sk.ok("run", "--rm", "busybox", "grep", "-E", "Sig(Blk|Ign)", "/proc/self/status", before=before)
    assert out.split() == ["SigBlk:", "0" * 16, "SigIgn:", "0" * 16]


def test_shm_size(sk):
    assert "65536" in sk.ok("run", "--rm", "busybox", "df", "-k", "/dev/shm")
    assert "8192" in sk.ok("run", "--rm", "--shm-size", "8m", "busybox", "df", "-k", "/dev/shm")


def test_info_and_version(bare):
    assert re.search(r"skink.* \d+\.\d+", bare.ok("version"))
    assert re.search(r"skink.* \d+\.\d+", bare.ok("--version"))
    assert bare.ok("info")


def test_help_of_every_verb(bare):
    overview = bare.ok("--help")
    verbs = ["run", "create", "start", "stop", "kill", "restart", "pause", "unpause", "rm", "ps", "logs", "wait", "exec",
             "inspect", "why", "update", "events", "doctor", "stats", "top", "metrics", "heal", "load", "images", "tag", "rmi", "version", "info"]
    for verb in verbs:
        assert verb in overview
        assert verb in bare.ok(verb, "--help")
