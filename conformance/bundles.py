# SPDX-License-Identifier: Apache-2.0
"""Every kind of config.json that our programs write, for the suite's own validator (oci-runtime-tool validate)."""
import json
import pathlib
import shutil
import subprocess
import sys

import sources

PROJECT = pathlib.Path(__file__).resolve().parent.parent

# Name and options of `skink create`; each is done with the demo image that `image` names.
RUNS = {
    "plain": [],
    "terminal": ["-i", "-t"],
    "user": ["--user", "1000:100", "--group-add", "8", "--workdir", "/tmp", "--env", "A=b", "--hostname", "box"],
    "root": ["--user", "root", "--writable", "--shm-size", "32m", "--tmpfs", "/scratch:size=4m,mode=1770"],
    "volumes": ["-v", "/etc:/mnt/a:ro", "-v", "/tmp:/mnt/b:rw,rslave", "--mount", "type=bind,source=/usr,target=/mnt/c,readonly",
                "--mount", "type=tmpfs,target=/mnt/d"],
    "memory": ["--memory", "64m", "--memory-swap", "128m", "--memory-reservation", "32m", "--oom-score-adj", "500"],
    "cpu": ["--cpus", "0.5", "--cpu-shares", "512", "--cpuset-cpus", "0", "--cpuset-mems", "0", "--pids-limit", "64"],
    "limits": ["--ulimit", "nofile=512:1024", "--ulimit", "core=0", "--ulimit", "nproc=100"],
    "capabilities": ["--cap-drop", "ALL", "--cap-add", "NET_BIND_SERVICE", "--security-opt", "no-new-privileges"],
    "unconfined": ["--security-opt", "seccomp=unconfined", "--cap-add", "ALL"],
    "privileged": ["--privileged"],
    "devices": ["--device", "/dev/zero:/dev/nought:r", "--device-cgroup-rule", "c 13:* rwm"],
    "namespaces": ["--pid", "host", "--ipc", "host", "--uts", "host", "--network", "host"],
    "sysctl": ["--sysctl", "net.ipv4.ip_forward=1", "--sysctl", "kernel.msgmax=4096"],
    "names": ["--add-host", "db:10.0.0.1", "--dns", "192.0.2.1", "--dns-search", "example.org", "--label", "a=b",
              "--annotation", "org.example.key=value"],
    "init": ["--init", "--stop-signal", "SIGINT", "--stop-timeout", "3", "--restart", "on-failure:3"],
    "program": ["--entrypoint", "/bin/busybox"],
}


def command(argv, cwd=None):
    done = subprocess.run([str(word) for word in argv], cwd=cwd, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, check=False)
    return done.returncode, done.stdout.decode(errors="replace").strip()


def images(work):
    """The demo images of the project, one tar each."""
    directory = pathlib.Path(work) / "images"
    status, said = command(["/usr/bin/python3", PROJECT / "images" / "make", directory])
    if status != 0:
        raise sources.Trouble(f"the demo images: {said}")
    return sorted(directory.glob("*.tar"))


def from_skink(skink, work):
    """Yields (name, config.json or None, what went wrong) for each image and each set of options."""
    store = pathlib.Path(work) / "store"
    base = [skink, "--root", store, "--run", pathlib.Path(work) / "run"]
    for image in images(work):
        for name, options in RUNS.items():
            if name != "plain" and not image.name.startswith(("hello", "web-1")):
                continue
            status, said = command([*base, "create", *options, image])
            container = said.splitlines()[-1] if said else ""
            config = store / "containers" / container / "config.json"
            if status != 0 or not config.is_file():
                yield f"skink create {image.stem} {name}", None, said
                continue
            yield f"skink create {image.stem} {name}", config.read_text(), ""
            command([*base, "rm", "-f", container])


def from_spec(runtime, work):
    for name, options in (("skink-oci spec", []), ("skink-oci spec --rootless", ["--rootless"])):
        bundle = pathlib.Path(work) / "spec"
        shutil.rmtree(bundle, ignore_errors=True)
        bundle.mkdir(parents=True)
        status, said = command([runtime, "spec", *options], cwd=bundle)
        config = bundle / "config.json"
        yield name, config.read_text() if status == 0 and config.is_file() else None, said


def validate(tool, config, work):
    """(verdict, reason). The validator wants a bundle, so the root file system is an empty directory."""
    bundle = pathlib.Path(work) / "bundle"
    shutil.rmtree(bundle, ignore_errors=True)
    (bundle / "rootfs").mkdir(parents=True)
    document = json.loads(config)
    document["root"]["path"] = "rootfs"  # ours is an absolute path of a store that is going away
    document["ociVersion"] = "1.1.0"  # the only one that the validator takes; later ones only add to it
    (bundle / "config.json").write_text(json.dumps(document))
    status, said = command([tool, "--log-level", "error", "validate", "--path", bundle])
    return ("pass", "") if status == 0 else ("fail", " ".join(said.split()))


def run(top, skink, runtime, work, words):
    """Yields (name, verdict, reason) for every config.json that skink and skink-oci write here."""
    for generate in (from_skink(skink, work), from_spec(runtime, work)):
        for name, config, said in generate:
            if words and not any(word in name for word in words):
                continue
            yield (name, "fail", said) if config is None else (name, *validate(top / "oci-runtime-tool", config, work))


if __name__ == "__main__":
    sys.exit("run tools/conformance configs")
