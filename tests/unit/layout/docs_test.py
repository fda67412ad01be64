#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Reads README.md and docs/ and fails on what the code does not have. usage: docs_test.py SOURCE-ROOT

Checked, between backticks: `file:function` (below src/ or the top; a gtest as file:Suite.Name), paths of files of the
project, and links to them. The table of directories in docs/architecture.md is that of include_direction.py.
"""

import ast
import glob
import os
import re
import sys

FUNCTION = re.compile(r"`([\w./-]+\.(?:cc|h|py)):([\w.~:]+)`")
PATH = re.compile(r"`((?:src|tests|tools|docs|bench|images|include)/[\w./-]*\w/?)`")
LINK = re.compile(r"\]\((?!https?:|#)([^)#]+)(?:#[^)]*)?\)")
DIRECTORY = re.compile(r"^\| `src/(\w+)/` \|.*\| ([^|]*) \|$")


def locate(top, name):
    """A file that is named as in an #include, or from the top."""
    for place in (os.path.join(top, "src", name), os.path.join(top, name)):
        if os.path.isfile(place):
            return place
    return None


def defines(path, name):
    """Whether `name` is defined there, as far as a reader of lines in the house format can tell."""
    with open(path, encoding="utf-8") as source:
        text = source.read()
    if path.endswith(".py"):
        return re.search(r"^\s*(def|class) %s\b" % re.escape(name), text, re.M) is not None
    if re.match(r"^[A-Z]\w*\.[A-Z]\w*$", name):
        suite, test = name.split(".")
        return re.search(r"^TEST(_F|_P)?\(\s*%s,\s*%s\s*\)" % (suite, test), text, re.M) is not None
    last = re.escape(name.split("::")[-1])
    # A definition: name, parameters, then a body; members of a class and of an anonymous namespace included.
    return re.search(r"^[^\n/#;]*[\s*&:>~]%s\([^;{}]*\)[\w\s]*(\{|:\s)" % last, text, re.M) is not None


def problems_of(top, document):
    with open(document, encoding="utf-8") as source:
        text = source.read()
    for file, function in FUNCTION.findall(text):
        path = locate(top, file)
        if path is None:
            yield "%s:%s: there is no such file" % (file, function)
        elif not defines(path, function):
            yield "%s:%s: the file defines no such function" % (file, function)
    for path in PATH.findall(text):
        if not os.path.exists(os.path.join(top, path)):
            yield "%s: there is no such file" % path
    for link in LINK.findall(text):
        if not os.path.exists(os.path.join(os.path.dirname(document), link)):
            yield "%s: the link leads nowhere" % link


def allowed_includes(top):
    """MAY of include_direction.py, read and not run."""
    with open(os.path.join(top, "tests/unit/layout/include_direction.py"), encoding="utf-8") as source:
        for node in ast.parse(source.read()).body:
            if isinstance(node, ast.Assign) and node.targets[0].id == "MAY":
                return ast.literal_eval(node.value)
    return {}


def table_problems(top, document):
    rows = {}
    with open(document, encoding="utf-8") as source:
        for line in source:
            match = DIRECTORY.match(line.rstrip())
            if match:
                rows[match.group(1)] = match.group(2).strip()
    for directory, may in allowed_includes(top).items():
        if directory not in rows:
            yield "src/%s is not in the table of directories" % directory
        elif rows[directory] != (may or "nothing"):
            yield "src/%s: the table says \"%s\", the test of includes \"%s\"" % (directory, rows[directory], may)


def main(top):
    documents = [os.path.join(top, "README.md"), *sorted(glob.glob(os.path.join(top, "docs/**/*.md"), recursive=True))]
    found = []
    for document in documents:
        if not os.path.exists(document):
            found.append("%s is not there" % os.path.relpath(document, top))
            continue
        problems = list(problems_of(top, document))
        if os.path.relpath(document, top) == "docs/architecture.md":
            problems += table_problems(top, document)
        found += ["%s: %s" % (os.path.relpath(document, top), problem) for problem in problems]
    print("\n".join(found + ["%d documents, %d mistakes" % (len(documents), len(found))]))
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
