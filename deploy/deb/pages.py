"""The man page and the completion for bash, from the parser of the command line. Run with edge_runtime importable."""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from pathlib import Path

from edge_runtime.app.arguments import parser
from edge_runtime.app.screen import BOX
from edge_runtime.version import __version__

COMMANDS = {name: [name] for name in BOX if name not in ("listen", "score")}
PATHS = ("PATH", "DIR", "FILE", "COMMAND")


def roff(text: str) -> str:
    """Text as roff prints it unchanged."""
    text = text.replace("\\", "\\e").replace("-", "\\-")
    return "\n".join("\\&" + line if line[:1] in (".", "'") else line for line in text.split("\n"))


def as_is(text: str) -> list[str]:
    return [".PP", ".nf", roff(text.strip("\n")), ".fi"]


def options(made: argparse.ArgumentParser) -> list[argparse._ArgumentGroup]:
    return [group for group in made._action_groups if group._group_actions]


def said_by(*words: str) -> str:
    """The help of a command."""
    command = [sys.executable, "-m", "edge_runtime", *words, "--help"]
    return subprocess.run(
        command, check=True, capture_output=True, text=True, env=os.environ | {"COLUMNS": "78"}
    ).stdout


def man_page(made: argparse.ArgumentParser, epoch: int) -> str:
    day = time.strftime("%Y-%m-%d", time.gmtime(epoch))
    lines = [f'.TH EDGE\\-DETECT 1 "{day}" "edge\\-detect {__version__}" "User Commands"', ".SH NAME"]
    lines += ["edge\\-detect \\- tells human speech from synthetic speech", ".SH SYNOPSIS"]
    lines += [
        roff(made.format_usage().removeprefix("usage: ").strip()),
        ".SH DESCRIPTION",
        roff(made.description or ""),
    ]
    lines.append(".SH OPTIONS")
    for group in options(made):
        lines.append(f".SS {roff((group.title or '').capitalize())}")
        for action in group._group_actions:
            value = f" \\fI{roff(str(action.metavar or action.dest.upper()))}\\fR" if action.nargs != 0 else ""
            value += " ..." if action.nargs == "+" else ""
            names = ", ".join(f"\\fB{roff(name)}\\fR" for name in action.option_strings)
            lines += [".TP", names + value, roff((action.help or "").replace("%%", "%"))]
    for part in (made.epilog or "").strip().split("\n\n"):
        heading, _, rest = part.partition("\n")
        if heading.endswith(":") and rest:
            lines += [f'.SH "{roff(heading.split("(")[0].rstrip(": ").upper())}"', *as_is(rest)]
        else:
            lines += [".PP", roff(part)]
    for name, words in COMMANDS.items():
        lines += [f'.SH "EDGE\\-DETECT {name.upper()}"', *as_is(said_by(*words))]
    lines += [".SH FILES", ".TP", "\\fI/etc/edge\\-detect/edge\\-detect.toml\\fR", "What the service does."]
    lines += [
        ".TP",
        "\\fI/usr/share/doc/edge\\-detect/examples/edge\\-detect.toml\\fR",
        "Every option, with its default.",
    ]
    lines += [".TP", "\\fI/var/lib/edge\\-detect\\fR", "The ledger of the service, and the clips if they are kept."]
    lines += [".SH SEE ALSO", ".BR systemctl (1),", ".BR journalctl (1),", ".BR arecord (1)"]
    return "\n".join(lines) + "\n"


def completion(made: argparse.ArgumentParser) -> str:
    flags: list[str] = []
    cases: list[tuple[str, str]] = []
    for action in made._actions:
        flags += action.option_strings
        names = " | ".join(action.option_strings)
        if action.choices:
            cases.append((names, f'COMPREPLY=($(compgen -W "{" ".join(map(str, action.choices))}" -- "$word"))'))
        elif action.nargs != 0 and action.metavar in PATHS:
            kind = {"DIR": "-d", "COMMAND": "-c"}.get(str(action.metavar), "-f")
            cases.append((names, f'compopt -o filenames; COMPREPLY=($(compgen {kind} -- "$word"))'))
        elif action.nargs != 0:
            cases.append((names, "COMPREPLY=()"))
    lines = ["# bash completion for edge-detect", "_edge_detect() {", '    local word="${COMP_WORDS[COMP_CWORD]}"']
    lines += ['    case "${COMP_WORDS[COMP_CWORD - 1]}" in']
    for names, does in cases:
        lines += [f"        {names})", f"            {does}", "            return", "            ;;"]
    lines += [
        "        config)",
        '            COMPREPLY=($(compgen -W "check show document schema" -- "$word"))',
        "            return",
    ]
    lines += [
        "            ;;",
        "    esac",
        "    if [[ $word == -* ]]; then",
        f'        COMPREPLY=($(compgen -W "{" ".join(flags)}" -- "$word"))',
    ]
    lines += [
        "    elif [[ $COMP_CWORD == 1 ]]; then",
        f'        COMPREPLY=($(compgen -W "{" ".join(BOX)}" -- "$word") $(compgen -f -- "$word"))',
    ]
    lines += ["    else", '        compopt -o filenames; COMPREPLY=($(compgen -f -- "$word"))', "    fi", "}"]
    return "\n".join([*lines, "complete -F _edge_detect edge-detect"]) + "\n"


def main(folder: Path, epoch: int) -> None:
    made = parser()
    (folder / "edge-detect.1").write_text(man_page(made, epoch))
    (folder / "completion").write_text(completion(made))
    command = [sys.executable, "-m", "edge_runtime", "config", "document"]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    (folder / "edge-detect.toml").write_text(done.stdout)


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
