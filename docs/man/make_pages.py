#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Makes manual pages: of the verbs from what `skink VERB --help` prints, and skink-json(5) from json.md.

usage: make_pages.py SKINK VERSION JSON_MD OUTPUT_DIR PAGE...
"""
import os
import re
import subprocess
import sys


GROUPS = ("image-", "system-")


def roff(text):
    """Text as roff: nothing in it is a request or an escape."""
    text = text.replace("\\", "\\e").replace("-", "\\-")
    return re.sub(r"^([.'])", r"\\&\1", text, flags=re.M)


def help_of(skink, *verb):
    return subprocess.run([skink, *verb, "--help"], check=True, capture_output=True, text=True).stdout


def options_of(lines):
    """(name, description) of the lines of an option table; a long name has its description on the next line."""
    for line in lines:
        if line.startswith(" " * 32):
            yield None, line.strip()
            continue
        name, _, description = line.strip().partition("  ")
        yield name, description.strip()


def option_list(lines):
    out = []
    for name, description in options_of(lines):
        if name is not None:
            out.append(".TP\n.B " + roff(name))
        if description:
            out.append(roff(description))
    return "\n".join(out)


def heading(line):
    """A line such as "Exit status: 0; 1 on failure." opens a section of its own."""
    match = re.match(r"(Options|Verbs|Exit status|Examples?|Example):\s*(.*)$", line)
    return (match.group(1).upper().replace("EXAMPLES", "EXAMPLE"), match.group(2)) if match else None


def body_of(lines):
    out, section, table = [], "DESCRIPTION", []
    for line in lines + [""]:
        found = heading(line)
        if found and table:
            out.append(option_list(table))
            table = []
        if found:
            section, rest = found
            out.append(f".SH {section}" + ("\n" + roff(rest) if rest else ""))
        elif section in ("OPTIONS", "VERBS") and line.startswith("  "):
            table.append(line)
        elif section == "EXAMPLE" and line.startswith("  "):
            out.append(".EX\n" + roff(line) + "\n.EE")
        elif line == "":
            if table:
                out.append(option_list(table))
                table, section = [], "AFTER"
                out.append(".SH NOTES")
            out.append(".PP")
        else:
            out.append(roff(line))
    return "\n".join(out)


def tidy(page):
    page = re.sub(r"(?:\.PP\n)+(?=\.PP|\.SH|$)", "", page)
    page = re.sub(r"\.SH NOTES\n(?=\.SH|$)", "", page)
    page = re.sub(r"(\.SH [^\n]*\n)\.PP\n", r"\1", page)
    page = page.replace(".EE\n.EX\n", "")
    return re.sub(r"(?:\.PP\n?)+\Z", "", page).rstrip() + "\n"


def verb_page(skink, version, verb):
    # "image-prune" is the verb prune of the group image.
    words = verb.split("-", 1) if verb.startswith(GROUPS) else [verb]
    lines = help_of(skink, *words).rstrip("\n").split("\n")
    usage = lines[0].removeprefix("Usage: ")
    summary = lines[2].rstrip(".")
    page = [f'.TH SKINK\\-{verb.upper()} 1 "" "skink {version}" "skink manual"',
            ".SH NAME", f"skink\\-{verb} \\- {roff(summary[0].lower() + summary[1:])}",
            ".SH SYNOPSIS", f".B {roff(usage)}",
            ".SH DESCRIPTION", roff(lines[2]), body_of(lines[3:]),
            ".SH SEE ALSO", ".BR skink (1),", ".BR skink\\-json (5)"]
    return tidy("\n".join(page) + "\n")


def inline(text):
    text = re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", text)
    parts = re.split(r"`([^`]*)`", text)
    return "".join(f"\\fB{roff(part)}\\fR" if i % 2 else roff(part) for i, part in enumerate(parts))


def json_page(version, path):
    out = [f'.TH SKINK\\-JSON 5 "" "skink {version}" "skink manual"',
           ".SH NAME", "skink\\-json \\- what skink prints with \\-\\-format json", ".SH DESCRIPTION"]
    with open(path, encoding="utf-8") as source:
        lines = source.read().split("\n")[1:]
    for i, line in enumerate(lines):
        if line.startswith("### "):
            out.append(".SS " + inline(line[4:]))
        elif line.startswith("## "):
            out.append(".SH " + inline(line[3:]).upper().replace("\\FB", "\\fB").replace("\\FR", "\\fR"))
        elif line.startswith("|"):
            cells = [cell.strip() for cell in line.strip("|").split("|")]
            is_head = i + 1 < len(lines) and lines[i + 1].startswith("|--")
            if is_head or line.startswith("|--"):
                continue
            out.append(".TP\n" + inline(cells[0]) + (f" ({inline(cells[1])})" if len(cells) > 2 else ""))
            out.append(inline(cells[-1]))
        elif line.startswith("- "):
            out.append(".IP \\(bu 2\n" + inline(line[2:]))
        elif line == "":
            out.append(".PP")
        else:
            out.append(inline(line.strip()))
    return tidy("\n".join(out) + "\n")


def main():
    skink, version, json_md, output_dir, *pages = sys.argv[1:]
    for page in pages:
        name = page.rsplit(".", 1)[0]
        text = json_page(version, json_md) if name == "skink-json" else verb_page(skink, version, name[len("skink-"):])
        with open(os.path.join(output_dir, page), "w", encoding="utf-8") as out:
            out.write(text)


if __name__ == "__main__":
    main()
