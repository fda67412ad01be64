# SPDX-License-Identifier: Apache-2.0
"""The table, for people and for programs."""
import json


def as_json(facts, rows):
    return json.dumps({**facts, "rows": [{
        "id": row.id, "what": row.what, "unit": row.unit, "subject": row.subject, "values": row.values,
        "ratios": row.ratios, "targets": row.targets, "limit": row.limit, "met": row.met(), "notes": row.notes,
    } for row in rows]}, indent=2)


def as_text(facts, rows):
    versions = ", ".join(f"{name} {version}" for name, version in facts["versions"].items())
    lines = [f"{facts['kernel']}, {facts['cpus']} CPUs, cgroup view {facts['cgroups']}, {facts['pairs']} rounds, medians",
             versions, ""]
    for row in rows:
        lines += _row(row)
    return "\n".join(lines)


def _row(row):
    verdict = {True: "met", False: "MISSED", None: "not compared"}[row.met()]
    values = "   ".join(f"{name} {_number(value)}" for name, value in row.values.items())
    lines = [f"{row.id:4} {row.what}: {verdict}", f"       {values or 'no values'}   ({row.unit})"]
    ratios = [f"{ratio:.2f} x {who}" + (f" (target {row.targets[who]:g})" if who in row.targets else "")
              for who, ratio in row.ratios.items()]
    if row.limit is not None:
        ratios.append(f"target {_number(row.limit)} {row.unit}")
    if ratios:
        lines.append("       " + ", ".join(ratios))
    return lines + [f"       {note}" for note in row.notes]


def _number(value):
    return f"{value:.2f}" if value < 10 else f"{value:.1f}" if value < 1000 else f"{value:.0f}"
