# SPDX-License-Identifier: Apache-2.0
"""Samples by bench-turns, and what is said of them: medians, and medians of the ratios within each round."""
import dataclasses
import os
import statistics
import subprocess

WARM_UP = 3  # rounds that are not counted


@dataclasses.dataclass
class Sample:
    ns: int
    peak_kib: int
    status: int


@dataclasses.dataclass
class Row:
    """One line of the table. `ratios` and `targets` are keyed by whom skink is compared with."""
    id: str
    what: str
    unit: str
    values: dict = dataclasses.field(default_factory=dict)
    ratios: dict = dataclasses.field(default_factory=dict)
    targets: dict = dataclasses.field(default_factory=dict)
    limit: float | None = None  # an absolute target, in `unit`
    notes: list = dataclasses.field(default_factory=list)
    subject: str = "skink"

    def met(self):
        """Whether every target holds; None when nothing could be compared."""
        verdicts = [self.ratios[who] <= most for who, most in self.targets.items() if who in self.ratios]
        if self.limit is not None and self.subject in self.values:
            verdicts.append(self.values[self.subject] <= self.limit)
        return all(verdicts) if verdicts else None


class Turns:
    """Runs contestants in turn. A command of a contestant is argv, or ("uncounted", argv)."""

    def __init__(self, program, errors):
        self.program = str(program)
        self.errors = str(errors)

    def run(self, rounds, contestants, warm_up=WARM_UP):
        """{name: [Sample]} of those that always worked, {name: why} of the others."""
        argv = [self.program, str(rounds + warm_up), self.errors]
        for steps in contestants.values():
            for number, step in enumerate(steps):
                counted = step[0] != "uncounted"
                argv.append(":::" if number == 0 else ":+:" if counted else ":~:")
                argv.extend(step if counted else step[1])
        open(self.errors, "w", encoding="utf-8").close()
        out = subprocess.run(argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, check=True).stdout.decode()
        samples = {name: [] for name in contestants}
        names = list(contestants)
        for line in out.splitlines():
            number, who, ns, peak, status = map(int, line.split())
            if number >= warm_up:
                samples[names[who]].append(Sample(ns, peak, status))
        failed = {name: self._why(one) for name, one in samples.items() if any(s.status != 0 for s in one)}
        return {name: one for name, one in samples.items() if name not in failed}, failed

    def _why(self, samples):
        count = sum(s.status != 0 for s in samples)
        with open(self.errors, encoding="utf-8", errors="replace") as file:
            said = file.read().strip().splitlines()
        return f"{count} of {len(samples)} runs had a status other than 0: {said[-1] if said else 'nothing on stderr'}"


def fill_times(row, samples, failed, subject):
    """Medians in milliseconds, ratios of `subject` to each of the others."""
    row.subject = subject
    for name, one in samples.items():
        row.values[name] = statistics.median(s.ns for s in one) / 1e6
        if subject in samples and name != subject:
            row.ratios[name] = median_ratio([s.ns for s in samples[subject]], [s.ns for s in one])
    row.notes += [f"{name}: {why}" for name, why in failed.items()]
    return row


def compare(row, turns, rounds, subject, contestants, warm_up=WARM_UP):
    """`subject` and each of the others in turn, two at a time: what one leaves behind in the kernel (a lock that stays
    fast for a while after it was taken) then changes the figures of one pair and not of all. Returns the samples."""
    row.subject = subject
    others = [name for name in contestants if name != subject] or [None]
    gathered = {}
    for other in others:
        pair = {name: contestants[name] for name in (subject, other) if name is not None}
        samples, failed = turns.run(rounds, pair, warm_up)
        for name, one in samples.items():
            gathered.setdefault(name, []).extend(one)
        if subject in samples and other in samples:
            row.ratios[other] = median_ratio([s.ns for s in samples[subject]], [s.ns for s in samples[other]])
        row.notes += [f"{name}: {why}" for name, why in failed.items() if f"{name}: {why}" not in row.notes]
    row.values |= {name: statistics.median(s.ns for s in one) / 1e6 for name, one in gathered.items()}
    return gathered


def median_ratio(ours, theirs):
    return statistics.median(a / b for a, b in zip(ours, theirs))


def private_dirty_kib(pids):
    """Private dirty pages of processes. Pages of a fresh build that are still to be written count too: sync first."""
    total = 0
    for pid in pids:
        with open(f"/proc/{pid}/smaps_rollup", encoding="ascii") as file:
            total += sum(int(line.split()[1]) for line in file if line.startswith("Private_Dirty:"))
    return total


def sync():
    os.sync()
