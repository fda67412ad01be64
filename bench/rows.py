# SPDX-License-Identifier: Apache-2.0
"""The rows of the table. Each function measures one, or gives None when nothing of it can be measured here."""
import json
import os
import pathlib
import signal
import statistics
import time

from measure import Row, Turns, compare, fill_times, median_ratio, private_dirty_kib, sync
from programs import CommandFailed, OciRuntime, run

TRUE = ["/bin/true"]
SLEEP = ["/bin/stamp"]


class Bench:
    """Everything a row needs: the workload, who takes part, how often."""

    def __init__(self, work, programs, runtimes, engines, pairs, many):
        self.work = work
        self.floor = [str(programs / "bench-floor"), str(work.rootfs), "--", *TRUE]
        self.turns = Turns(programs / "bench-turns", work.errors)
        self.runtimes = runtimes  # OciRuntime, ours first
        self.engines = engines    # Skink, Podman
        self.make_importers = list
        self.pairs = pairs
        self.many = many

    def runtime(self, name):
        return next((one for one in self.runtimes if one.name == name), None)

    def engine(self, name):
        return next((one for one in self.engines if one.name == name), None)


def run_bundle(bench):
    """P1 and P9 come from the same samples."""
    bundle = bench.work.bundle("true", TRUE)
    contestants = {"floor": [bench.floor]}
    contestants |= {one.name: [one.run(bundle)] for one in bench.runtimes}
    time_row = Row("P1", "run a bundle's /bin/true to its end", "ms", targets={"floor": 1.5, "crun": 0.6})
    samples = compare(time_row, bench.turns, bench.pairs, "skink-oci", contestants)
    peak_row = Row("P9", "peak memory of that (largest process)", "KiB", limit=2048, subject="skink-oci")
    peak_row.values = {name: max(s.peak_kib for s in one) for name, one in samples.items()}
    return [time_row, peak_row]


def run_by_systemd(bench):
    """What the driver for systemd adds, on hosts that it runs: the same bundle with and without, and by the peers."""
    if not os.path.isdir("/run/systemd/system"):
        return []
    row = Row("P1s", "run a bundle's /bin/true as a scope of systemd", "ms", targets={"crun": 0.6})
    bundle = bench.work.bundle("true", TRUE)
    asked = [OciRuntime(one.name, one.path, bench.work, by_systemd=True) for one in bench.runtimes]
    contestants = {one.name: [one.run(bundle)] for one in asked}
    contestants["cgroupfs"] = [bench.runtime("skink-oci").run(bundle)]
    compare(row, bench.turns, bench.pairs, "skink-oci", contestants)
    return [row]


def create_start_delete(bench):
    bundle = bench.work.bundle("sleep", SLEEP)
    contestants = {one.name: [one.create(bundle), one.start(), one.delete()] for one in bench.runtimes}
    row = Row("P2", "create + start + delete -f", "ms", targets={"crun": 0.5})
    compare(row, bench.turns, bench.pairs, "skink-oci", contestants)
    return [row]


def exec_in_running(bench):
    bundle = bench.work.bundle("sleep", SLEEP)
    row = Row("P3", "exec /bin/true in a running container", "ms", targets={"crun": 0.5})
    ready = _started(bench.runtimes, bundle, ["0"], row)
    try:
        compare(row, bench.turns, bench.pairs, "skink-oci", {one.name: [one.exec(*TRUE)] for one in ready})
    finally:
        _deleted(ready, ["0"])
    return [row]


def state_and_list(bench, count=200):
    bundle = bench.work.bundle("sleep", SLEEP)
    state_row = Row("P4", "state of one container", "ms", targets={"crun": 0.5})
    list_row = Row("P4", f"list of {count}", "ms", targets={"crun": 0.5})
    suffixes = [str(number) for number in range(count)]
    ready = _started(bench.runtimes, bundle, suffixes, state_row)
    try:
        compare(state_row, bench.turns, bench.pairs, "skink-oci", {one.name: [one.state()] for one in ready})
        compare(list_row, bench.turns, bench.pairs, "skink-oci", {one.name: [one.list()] for one in ready}, warm_up=1)
    finally:
        _deleted(ready, suffixes)
    return [state_row, list_row]


def run_image(bench):
    row = Row("P5", "run --rm IMAGE /bin/true from a stored image", "ms", targets={"floor": 2.0})
    contestants = {"floor": [bench.floor]} | {one.name: [one.run_once(*TRUE)] for one in bench.engines}
    compare(row, bench.turns, bench.pairs, "skink", contestants)
    return [row]


def first_run(bench):
    """P6: from an image in a file to the end of its first run, with an empty store."""
    importers = bench.make_importers()
    try:
        return [_first_run(bench, [*bench.engines, *importers], *image) for image in (
            ("P6", bench.work.big_image, "8,700 files, 170 MB, gzip"), ("P6l", bench.work.layered_image, "20 layers"),
            ("P6t", bench.work.tiny_image, "100,000 tiny files"))]
    finally:
        for importer in importers:
            importer.stop()


def _first_run(bench, engines, name, make, what):
    row = Row(name, f"first run of an image file: {what}", "ms", targets={"podman": 0.2} if name == "P6" else {})
    archive, times = make(), {}
    for number in range(4):
        for engine in engines:
            top, run_dir = bench.work.path(f"first-{name}-{engine.name}-{number}"), bench.work.run_path(f"{name}{engine.name[0]}{number}")
            try:
                begin = time.monotonic_ns()
                for command in engine.first_run(archive, top, run_dir):
                    run(command, timeout=300)
                # The first round fills the page cache.
                if number != 0:
                    times.setdefault(engine.name, []).append(time.monotonic_ns() - begin)
            except CommandFailed as why:
                row.notes.append(f"{engine.name}: {why}")
            finally:
                for command in engine.forget(top, run_dir):
                    run(command, timeout=300, check=False)
    for engine, samples in times.items():
        row.values[engine] = statistics.median(samples) / 1e6
        if engine != "skink" and "skink" in times:
            row.ratios[engine] = median_ratio(times["skink"], samples)
    if "umoci" in times:
        row.notes.append("umoci: to the tree in a directory; it runs nothing")
    return row


def relaunch(bench):
    """P7: from the SIGKILL of a container's init to the first instructions of the next incarnation."""
    row = Row("P7", "relaunch: death of init to the next one's execve", "ms", targets={"floor": 2.0})
    for engine in bench.engines:
        times, floors = [], []
        try:
            for number in range(bench.pairs if engine.name == "skink" else 10):
                times.append(_relaunch_once(bench, engine, f"relaunch{number}"))
                samples, _ = bench.turns.run(1, {"floor": [bench.floor]}, warm_up=1)
                floors.append(samples["floor"][0].ns)
        except (CommandFailed, OSError, KeyError, ValueError) as why:
            row.notes.append(f"{engine.name}: {why}")
            continue
        row.values[engine.name] = statistics.median(times) / 1e6
        if engine.name == "skink":
            row.values["floor"] = statistics.median(floors) / 1e6
            row.ratios["floor"] = median_ratio(times, floors)
            row.notes.append(f"skink: slowest of {len(times)} {max(times) / 1e6:.1f} ms")
    return [row] + _relaunch_with_standby(bench)


def _relaunch_with_standby(bench):
    row = Row("P7s", "the same with --standby", "ms", limit=1.0)
    for engine in (one for one in bench.engines if one.name == "skink"):
        try:
            times = [_relaunch_once(bench, engine, f"standby{number}", ["--standby"], 0.4) for number in range(bench.pairs)]
            row.values[engine.name] = statistics.median(times) / 1e6
            row.notes.append(f"skink: slowest of {len(times)} {max(times) / 1e6:.1f} ms")
        except (CommandFailed, OSError, KeyError, ValueError) as why:
            row.notes.append(f"{engine.name}: {why}")
    return [row]


def _relaunch_once(bench, engine, suffix, more=(), settle=0.1):
    """A fresh container for each sample: the first failure is relaunched without any back-off."""
    directory = pathlib.Path(bench.work.path(f"stamps-{engine.name}-{suffix}"))
    directory.mkdir()
    stamps = directory / "file"
    stamps.touch()
    options = ["--restart", "always", "-v", f"{directory}:/stamps", *more]
    run(engine.keep_running("/bin/stamp", "/stamps/file", suffix=suffix, options=options))
    try:
        _wait_for_lines(stamps, 1)
        pid = engine.pid(suffix)
        time.sleep(settle)
        killed = time.monotonic_ns()
        os.kill(pid, signal.SIGKILL)
        time.sleep(0.02)  # looking already would take one of the processors just then
        return _wait_for_lines(stamps, 2) - killed
    finally:
        run(engine.delete(suffix), check=False)


def _wait_for_lines(file, count, seconds=15):
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        lines = file.read_text().splitlines()
        if len(lines) >= count:
            return int(lines[count - 1])
        time.sleep(0.005)
    raise CommandFailed(f"the program did not start a {count}. time within {seconds} s")


def supervisor_memory(bench):
    row = Row("P8", "private dirty memory of what keeps one container", "KiB", limit=150)
    for engine in bench.engines:
        count = 100 if engine.name == "skink" else 10
        suffixes = [f"memory{number}" for number in range(count)]
        try:
            for suffix in suffixes:
                run(engine.keep_running(*SLEEP, suffix=suffix))
            sync()
            time.sleep(1)
            row.values[engine.name] = statistics.fmean(private_dirty_kib(engine.keepers(s)) for s in suffixes)
            row.notes.append(f"{engine.name}: mean of {count}")
        except (CommandFailed, OSError, KeyError, ValueError) as why:
            row.notes.append(f"{engine.name}: {why}")
        finally:
            for suffix in suffixes:
                run(engine.delete(suffix), check=False)
    return [row]


def many_containers(bench):
    """P10: started in turn with crun's, listed, deleted in turn."""
    count = bench.many
    start_row = Row("P10", f"start {count}, each", "ms", targets={"crun": 0.5})
    end_row = Row("P10", f"delete {count}, each", "ms", targets={"crun": 0.5})
    ps_row = Row("P10", f"skink ps of {count}", "ms", limit=30.0)
    engine, crun = bench.engine("skink"), bench.runtime("crun")
    if engine is None:
        return []
    bundle = bench.work.bundle("sleep", SLEEP)
    starts = {"skink": [engine.keep_running(*SLEEP, suffix="{i}")]}
    ends = {"skink": [engine.delete("{i}")]}
    if crun is not None:
        starts["crun"] = [crun.run(bundle, "{i}", detach=True)]
        ends["crun"] = [crun.delete("{i}")]
    samples, failed = bench.turns.run(count, starts, warm_up=0)
    fill_times(start_row, samples, failed, "skink")
    _note_growth(start_row, samples)
    listed, ps_failed = bench.turns.run(10, {"skink": [engine.ps()]})
    fill_times(ps_row, listed, ps_failed, "skink")
    samples, failed = bench.turns.run(count, ends, warm_up=0)
    fill_times(end_row, samples, failed, "skink")
    _note_growth(end_row, samples)
    return [start_row, end_row, ps_row]


def crash_looping(bench):
    """P10c: as many containers, a tenth of which fail as soon as they start: listed, and what their keepers take."""
    ps_row = Row("P10c", f"skink ps of {bench.many}, a tenth crash-looping", "ms", limit=30.0)
    cpu_row = Row("P10c", "processor time of one's keepers, in a minute", "ms")
    engine = bench.engine("skink")
    if engine is None:
        return []
    suffixes = [f"crash{number}" for number in range(bench.many)]
    try:
        for number, suffix in enumerate(suffixes):
            command = ["/bin/stamp", "exit"] if number % 10 == 0 else SLEEP
            run(engine.keep_running(*command, suffix=suffix, options=["--restart", "always"]))
        listed, failed = bench.turns.run(10, {"skink": [engine.ps()]})
        fill_times(ps_row, listed, failed, "skink")
        keepers = [pid for suffix in suffixes for pid in engine.keepers(suffix)]
        before, began = sum(map(_ran_ns, keepers)), time.monotonic()
        time.sleep(10)
        share = (sum(map(_ran_ns, keepers)) - before) / 1e9 / (time.monotonic() - began)
        cpu_row.values["skink"] = share * 60_000 / len(suffixes)
        cpu_row.notes.append(f"skink: all of them take {share * 100:.1f} % of one processor")
    except (CommandFailed, OSError, KeyError, ValueError) as why:
        ps_row.notes.append(f"skink: {why}")
    finally:
        for suffix in suffixes:
            run(engine.delete(suffix), check=False)
    return [ps_row, cpu_row]


def _ran_ns(pid):
    with open(f"/proc/{pid}/schedstat", encoding="ascii") as file:
        return int(file.read().split()[0])


def _note_growth(row, samples):
    for name, one in samples.items():
        tenth = max(1, len(one) // 10)
        first, last = (statistics.median(s.ns for s in part) for part in (one[:tenth], one[-tenth:]))
        row.notes.append(f"{name}: the last tenth takes {last / first:.2f} of the first tenth's time")


def smallest_limit(bench):
    row = Row("P11", "smallest memory limit in which /bin/true runs", "KiB", limit=512, subject="skink-oci")
    for runtime in bench.runtimes:
        for kib in (128, 192, 256, 384, 512, 768, 1024, 1536, 2048, 3072, 4096, 6144, 8192, 12288):
            bundle = bench.work.bundle(f"limit-{kib}", TRUE, memory=kib * 1024)
            if all(_survives(runtime, bundle) for _ in range(3)):
                row.values[runtime.name] = kib
                break
    return [row]


def _survives(runtime, bundle):
    try:
        run(runtime.run(bundle, "limit"), timeout=10)
        return True
    except CommandFailed:
        run(runtime.delete("limit"), timeout=10, check=False)
        return False


def killed_keepers(bench):
    """P12: from the SIGKILL of a keeper to an answer of the supervisor that comes with, or after, its successor."""
    engine = bench.engine("skink")
    if engine is None:
        return []
    rows = []
    for which in ("supervisor", "guard"):
        row = Row("P12", f"killed {which}: until a command is answered again", "ms", limit=1000.0)
        rows.append(row)
        suffix = f"killed-{which}"
        try:
            run(engine.keep_running(*SLEEP, suffix=suffix))
            times = [_keeper_back(engine, suffix, which) for _ in range(bench.pairs)]
            row.values["skink"] = statistics.median(times) / 1e6
            row.notes.append(f"skink: slowest of {len(times)} {max(times) / 1e6:.1f} ms")
        except (CommandFailed, OSError, KeyError, ValueError) as why:
            row.notes.append(f"skink: {why}")
        finally:
            run(engine.delete(suffix), check=False)
    return rows


def _keeper_back(engine, suffix, which, seconds=15):
    facts = engine.inspect(suffix)
    time.sleep(0.1)
    killed = time.monotonic_ns()
    os.kill(facts[f"{which}_pid"], signal.SIGKILL)
    status = pathlib.Path(engine.run_dir) / "containers" / facts["id"] / "status.json"
    while json.loads(status.read_text())[which][0] == facts[f"{which}_pid"]:
        if time.monotonic_ns() - killed > seconds * 1e9:
            raise CommandFailed(f"no other {which} within {seconds} s")
        time.sleep(0.001)
    run(engine.signal("WINCH", suffix))  # by default it is ignored
    return time.monotonic_ns() - killed


def _started(runtimes, bundle, suffixes, row):
    """Those of `runtimes` that could start one container for each suffix."""
    ready = []
    for one in runtimes:
        try:
            for suffix in suffixes:
                run(one.create(bundle, suffix))
                run(one.start(suffix))
            ready.append(one)
        except CommandFailed as why:
            row.notes.append(str(why))
            _deleted([one], suffixes)
    return ready


def _deleted(runtimes, suffixes):
    for one in runtimes:
        for suffix in suffixes:
            run(one.delete(suffix), check=False)


# In the order in which they run; P1 gives P9 too.
ROWS = {
    "P1": run_bundle, "P1s": run_by_systemd, "P2": create_start_delete, "P3": exec_in_running, "P4": state_and_list, "P5": run_image,
    "P6": first_run, "P7": relaunch, "P8": supervisor_memory, "P9": run_bundle, "P10": many_containers, "P10c": crash_looping,
    "P11": smallest_limit, "P12": killed_keepers,
}
