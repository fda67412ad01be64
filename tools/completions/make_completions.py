#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Makes the completions of bash, zsh and fish from what `skink --help` and `skink VERB --help` print.

usage: make_completions.py SKINK OUTPUT_DIR   (writes skink.bash, _skink and skink.fish)
"""
import os
import re
import subprocess
import sys

RUNNING = {"stop", "kill", "pause", "unpause", "exec", "restart", "stats", "top", "attach"}
ANY = {"start", "rm", "logs", "wait", "inspect", "metrics", "why", "update"}
IMAGES = {"run", "create", "tag", "rmi", "inspect", "images", "save", "history"}
GROUPS = ("image", "system")
FILES = {"run", "create", "load", "import"}
VALUES = {
    "network": "none host", "pid": "host", "ipc": "host", "uts": "host", "format": "table json", "type": "container image",
    "restart": "no on-failure always unless-stopped",
    "log-driver": "spool journald none passthrough",
    "log-opt": "max-size= max-file= compress=true cri= cri-max-size= cri-max-file=",
    "sdnotify": "container conmon healthy ignore",
    "signal": "HUP INT QUIT KILL USR1 USR2 TERM", "stop-signal": "HUP INT QUIT KILL USR1 USR2 TERM",
    "sort": "tree pid",
    "filter": "name= status= label= ancestor= id= exited= container= event= type= image= dangling= reference= before= since= until=",
    "security-opt": "seccomp= no-new-privileges apparmor= label= systempaths=unconfined",
}
FILE_VALUES = {"env-file", "label-file", "cidfile", "bundle", "volume", "device", "input", "output", "root", "run"}


class OptionWords:
    def __init__(self, letter, name, value, text):
        self.letter, self.name, self.value, self.text = letter, name, value, text


def help_of(skink, *verb):
    return subprocess.run([skink, *verb, "--help"], check=True, capture_output=True, text=True).stdout.split("\n")


def options_of(lines):
    options, inside = [], False
    for line in lines:
        if line.startswith(("Options:", "Global options")):
            inside = True
        elif inside and line == "":
            break
        elif inside:
            match = re.match(r"  (?:-(\w), )?\s*--([\w-]+)(?: (\S+(?: \S+)*?))?(?:\s{2,}(.*))?$", line)
            if match:
                letter, name, value, text = match.groups()
                options.append(OptionWords(letter, name, value, text or ""))
            elif options and line.strip():
                options[-1].text = options[-1].text or line.strip()
    return options


def read_verbs(skink):
    verbs, inside = {}, False
    for line in help_of(skink):
        match = re.match(r"  ([a-z-]+) +(\S.*)$", line)
        if line == "Verbs:":
            inside = True
        elif inside and match:
            verbs[match.group(1)] = (match.group(2), options_of(help_of(skink, match.group(1))))
        elif inside:
            break
    return verbs


def read_groups(skink):
    """The names of the verbs of each group, and their options by "image-ls"."""
    groups, verbs = {}, {}
    for group in GROUPS:
        lines = help_of(skink, group)
        names = [re.match(r"  ([a-z]+) ", line).group(1) for line in lines[lines.index("Verbs:") + 1:] if line.startswith("  ")
                 and not line.startswith("  skink")]
        groups[group] = names
        for name in names:
            verbs[f"{group}-{name}"] = options_of(help_of(skink, group, name))
    return groups, verbs


def words_of(option):
    return ([f"-{option.letter}"] if option.letter else []) + [f"--{option.name}"]


BASH_HEAD = r'''# SPDX-License-Identifier: Apache-2.0
# bash completion of skink
_skink_ask() { # what it says is completed; the global options given so far go along
    skink "${_skink_globals[@]}" "$@" 2>/dev/null
}

_skink() {
    local cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD-1]} verb= i words=
    local _skink_globals=()
    COMPREPLY=()
    for ((i = 1; i < COMP_CWORD; i++)); do
        case ${COMP_WORDS[i]} in
            --root|--run) _skink_globals+=("${COMP_WORDS[i]}" "${COMP_WORDS[i+1]}"); ((i++)) ;;
            -*) ;;
            *) verb=${COMP_WORDS[i]}; break ;;
        esac
    done
    case $verb in
@GROUPS@
    esac
    if [[ -z $verb ]]; then
        case $prev in --root|--run) COMPREPLY=($(compgen -d -- "$cur")); return ;; esac
        COMPREPLY=($(compgen -W "--root --run --version --help @VERBS@" -- "$cur"))
        return
    fi
    case $prev in
@VALUES@
    esac
    case $verb in
@OPTIONS@
    esac
    if [[ $cur == -* ]]; then
        COMPREPLY=($(compgen -W "$words --help" -- "$cur"))
        return
    fi
    words=
    case $verb in
        @RUNNING@) words="$words $(_skink_ask ps --format '{{.name}}')" ;;
        @ANY@) words="$words $(_skink_ask ps -a --format '{{.name}}')" ;;
    esac
    case $verb in
        @IMAGES@|image-*) words="$words $(_skink_ask images --format '{{.name}}')" ;;
    esac
    COMPREPLY=($(compgen -W "$words" -- "$cur"))
    case $verb in
        @FILES@) COMPREPLY+=($(compgen -f -- "$cur")) ;;
    esac
    type __ltrim_colon_completions >/dev/null 2>&1 && __ltrim_colon_completions "$cur"
}
complete -o filenames -F _skink skink
'''


def bash(verbs, groups, members):
    values = [f'        --{name}) COMPREPLY=($(compgen -W "{words}" -- "$cur")); return ;;'
              for name, words in sorted(VALUES.items())]
    files = "|".join(f"--{name}" for name in sorted(FILE_VALUES))
    values.append(f'        {files}) COMPREPLY=($(compgen -f -- "$cur")); return ;;')
    options = [f'        {verb}) words="{" ".join(w for o in opts for w in words_of(o))}" ;;'
               for verb, opts in [(verb, opts) for verb, (_, opts) in verbs.items()] + list(members.items())]
    inner = [f'''        {group})
            if ((i + 1 == COMP_CWORD)); then COMPREPLY=($(compgen -W "{" ".join(names)} --help" -- "$cur")); return; fi
            verb=$verb-${{COMP_WORDS[i+1]}} ;;''' for group, names in groups.items()]
    text = BASH_HEAD
    for key, value in {"VERBS": " ".join(verbs), "GROUPS": "\n".join(inner), "VALUES": "\n".join(values), "OPTIONS": "\n".join(options),
                       "RUNNING": "|".join(sorted(RUNNING)), "ANY": "|".join(sorted(ANY)),
                       "IMAGES": "|".join(sorted(IMAGES)), "FILES": "|".join(sorted(FILES))}.items():
        text = text.replace(f"@{key}@", value)
    return text


def zsh_quoted(text):
    return text.replace("\\", "\\\\").replace("'", "'\\''").replace("[", "\\[").replace("]", "\\]").replace(":", "\\:")


def zsh_option(option):
    value = ""
    if option.value:
        if option.name in VALUES:
            action = "(" + VALUES[option.name] + ")"
        else:
            action = "_files" if option.name in FILE_VALUES else " "
        value = f":{zsh_quoted(option.value)}:{action}"
    equals = "=" if option.value else ""
    names = [f"'--{option.name}{equals}[{zsh_quoted(option.text)}]{value}'"]
    if option.letter:
        names.append(f"'-{option.letter}{'+' if option.value else ''}[{zsh_quoted(option.text)}]{value}'")
    return [f"'*'{name}" for name in names]


def zsh_operands(verb):
    kinds = []
    if verb in RUNNING:
        kinds.append("_skink_running")
    if verb in ANY:
        kinds.append("_skink_containers")
    if verb in IMAGES:
        kinds.append("_skink_images")
    if verb in FILES:
        kinds.append("_files")
    return f"'*: :{{ {'; '.join(kinds)} }}'" if kinds else ""


def zsh(verbs, groups):
    lines = ["#compdef skink", "# SPDX-License-Identifier: Apache-2.0", "",
             "_skink_running() { local -a n; n=(${(f)\"$(skink ps --format '{{.name}}' 2>/dev/null)\"}); "
             "_describe container n }",
             "_skink_containers() { local -a n; n=(${(f)\"$(skink ps -a --format '{{.name}}' 2>/dev/null)\"}); "
             "_describe container n }",
             "_skink_images() { local -a n; n=(${${(f)\"$(skink images --format '{{.name}}' 2>/dev/null)\"}//:/\\\\:}); "
             "_describe image n }",
             "", "_skink() {", "  local context state line curcontext=$curcontext", "  local -a verbs", "  verbs=("]
    lines += [f"    '{verb}:{zsh_quoted(summary)}'" for verb, (summary, _) in verbs.items()]
    lines += ["  )",
              "  _arguments -C '--root=[store]:directory:_files -/' '--run=[run directory]:directory:_files -/' \\",
              "    '--version[print the version]' '--help[print an overview]' '1: :->verb' '*:: :->rest'",
              "  case $state in", "    verb) _describe verb verbs ;;", "    rest)", "      case $line[1] in"]
    for verb, (_, options) in verbs.items():
        specs = [spec for option in options for spec in zsh_option(option)] + ["'--help[print help]'"]
        operands = zsh_operands(verb)
        if verb in groups:
            operands = f"'1: :({' '.join(groups[verb])})' '*: :_skink_images'"
        lines.append(f"        {verb}) _arguments -s {' '.join(specs)} {operands} ;;")
    return "\n".join(lines + ["      esac ;;", "  esac", "}", "", '_skink "$@"', ""])


def fish_quoted(text):
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"


def fish(verbs, groups):
    names = " ".join(verbs)
    lines = ["# SPDX-License-Identifier: Apache-2.0", "# fish completion of skink", "complete -c skink -f",
             f"set -l verbs {names}",
             "complete -c skink -n \"not __fish_seen_subcommand_from $verbs\" -l root -r -d 'store'",
             "complete -c skink -n \"not __fish_seen_subcommand_from $verbs\" -l run -r -d 'run directory'",
             "complete -c skink -n \"not __fish_seen_subcommand_from $verbs\" -l version -d 'print the version'"]
    for verb, (summary, options) in verbs.items():
        lines.append(f'complete -c skink -n "not __fish_seen_subcommand_from $verbs" -a {verb} -d {fish_quoted(summary)}')
        seen = f'complete -c skink -n "__fish_seen_subcommand_from {verb}"'
        for option in options:
            letter = f" -s {option.letter}" if option.letter else ""
            value = ""
            if option.value:
                value = " -x -a " + fish_quoted(VALUES[option.name]) if option.name in VALUES else " -r"
            lines.append(f"{seen}{letter} -l {option.name}{value} -d {fish_quoted(option.text)}")
        if verb in groups:
            lines.append(f"{seen} -a '{' '.join(groups[verb])}'")
        if verb in RUNNING:
            lines.append(f"{seen} -a \"(skink ps --format '{{{{.name}}}}' 2>/dev/null)\"")
        if verb in ANY:
            lines.append(f"{seen} -a \"(skink ps -a --format '{{{{.name}}}}' 2>/dev/null)\"")
        if verb in IMAGES:
            lines.append(f"{seen} -a \"(skink images --format '{{{{.name}}}}' 2>/dev/null)\"")
        if verb in FILES:
            lines.append(f"{seen} -F")
    return "\n".join(lines) + "\n"


def main():
    skink, output_dir = sys.argv[1:]
    verbs = read_verbs(skink)
    groups, members = read_groups(skink)
    for name, text in {"skink.bash": bash(verbs, groups, members), "_skink": zsh(verbs, groups),
                       "skink.fish": fish(verbs, groups)}.items():
        with open(os.path.join(output_dir, name), "w", encoding="utf-8") as out:
            out.write(text)


if __name__ == "__main__":
    main()
