"""The options of the runtime's commands, built from the declarations in Settings."""

from __future__ import annotations

import argparse
import dataclasses
import sys
from collections.abc import Callable, Sequence
from typing import Any, NoReturn

from edge_runtime.errors import UsageError
from edge_runtime.report.output import Output
from edge_runtime.settings import document
from edge_runtime.settings.option import Option, flag, from_text, option_of, short
from edge_runtime.settings.schema import Settings
from edge_runtime.version import __version__

_DESCRIPTION = "Tells human speech from synthetic speech, in a file, from a microphone or a stream."
_EXIT_CODES = """\
exit codes:
  0   done (also when ended by Ctrl-C or SIGTERM, by --duration, or because the reader of the output has gone)
  2   usage or configuration: an option is wrong or does not fit the others
  3   input: a file or a live source cannot be read, holds no sound, or broke off
  4   model: the model cannot be loaded, or the machine has too little memory, open files or threads for the program
  5   output: the results cannot be written
  10  with --fail-on-spoof: the verdict on an input is spoof (an alarm is enough), and no error happened
  12  of edge-detect commission: the machine is too slow, or a reference clip was judged wrongly
"""
_LINES = """\
JSON lines have a type: window (start, end, score, verdict, levels), event (sound was lost, or the source or the
hop changed), alarm (of a live source) and, at the end of each input, summary. Scores are log-likelihood ratios: above 0
speaks for a human voice, below 0 for a synthetic one. The summary's verdict is spoof when there was an alarm, which its
stretches name, or when at least half of the judged windows are spoof; else it follows the mean score. It is null when
nothing was heard.
"""
_EXAMPLES = {
    "": """\
examples:
  edge-detect --file clip.wav
  edge-detect --device hw:1
  edge-detect --device hw:1 --ledger ledger.sqlite --save-clips alarms
  edge-detect --stream rtsp://camera.example/stream1 --ledger ledger.sqlite
  arecord -f S16_LE -r 16000 | edge-detect --file - --live
  sox clip.mp3 -t raw -e signed -b 16 -r 16000 -c 1 - | edge-detect --file - --raw s16le
""",
    "listen": """\
examples:
  edge-detect listen --device hw:1
  edge-detect listen --device hw:1 --ledger ledger.sqlite --save-clips alarms
  edge-detect listen --stream rtsp://camera.example/stream1
  arecord -f S16_LE -r 16000 | edge-detect listen --file -
""",
    "score": """\
examples:
  edge-detect score clip.wav
  edge-detect score *.flac --json --fail-on-spoof
  sox clip.mp3 -t raw -e signed -b 16 -r 16000 -c 1 - | edge-detect score - --raw s16le
""",
    "devices": """\
example:
  edge-detect devices --json
""",
}
_OTHERS = """\
other commands (each has its own --help):
  edge-detect listen | score FILE ... | devices      the same, by name
  edge-detect commission         whether this box, microphone and model are fit: run it before the box is relied on
  edge-detect status             whether the service listens, and what it says now
  edge-detect coverage           what was heard, lost and judged in a time, from the ledger (--ledger)
  edge-detect config check       whether a configuration file is in order
  edge-detect config show        the values in effect, and where each comes from
  edge-detect config document    a complete configuration file, with every option and its default
  edge-detect inspect MODEL      what a model file says of itself
  edge-detect support            an archive for a bug report, without sound or secrets
"""
_ABOUT = {
    "": _DESCRIPTION,
    "listen": "Scores a microphone, a stream from the network or a pipe as it comes in, until Ctrl-C.",
    "score": "Scores sound files, one after the other.",
    "devices": "Lists the microphones; * is the default one.",
}
_USAGE = {
    "": "edge-detect (--file PATH ... | --device NAME | --stream URL | --list-devices) [options]",
    "listen": "edge-detect listen [--device NAME | --stream URL | --file PIPE] [options]",
    "score": "edge-detect score FILE ... [options]",
    "devices": "edge-detect devices [--json]",
}


class Parser(argparse.ArgumentParser):
    """An argument parser whose errors are ours, and whose help goes through Output."""

    def error(self, message: str) -> NoReturn:
        raise UsageError(f"{short(message, 300)} ({self.prog} --help shows all options)")

    def _print_message(self, message: str, file: object = None) -> None:
        if message:
            Output(sys.stdout).write(message)


def parser(verb: str = "", *, brief: bool = False) -> argparse.ArgumentParser:
    """The options of listen, score or devices, or of a line without a command, which takes them all.

    `brief`: each option in a line; else with all that there is to say of it, and the exit codes.
    """
    epilog = _EXAMPLES[verb]
    if brief:
        epilog += f"\nall about each option, exit codes and scores: edge-detect {verb or 'listen'} --help-all\n"
    else:
        epilog = "\n".join((_OTHERS, _EXIT_CODES, _LINES, epilog) if not verb else (_EXIT_CODES, _LINES, epilog))
    made = Parser(
        prog=f"edge-detect {verb}".rstrip(),
        description=_ABOUT[verb],
        epilog=epilog,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
        usage=_USAGE[verb],
    )
    if verb == "score":
        made.add_argument("files", nargs="*", metavar="FILE", help="a sound file; - is standard input")
    groups: dict[str, Any] = {}
    for field in dataclasses.fields(Settings):
        option = option_of(field)
        if not _takes(verb, field.name, option):
            continue
        if option.group not in groups:
            groups[option.group] = made.add_argument_group(option.group)
        text = document.brief_of(field) if brief else document.help_of(field)
        declared: dict[str, Any] = {"default": None, "help": text.replace("%", "%%"), "dest": field.name}
        if option.kind is bool:
            declared["action"] = argparse.BooleanOptionalAction if option.negatable else "store_true"
        else:
            declared["type"] = _reader(option)
            declared["metavar"] = option.metavar or option.unit.upper() or "N"
            if option.many:
                declared |= {"action": "extend", "nargs": "+"}
        groups[option.group].add_argument(flag(field.name), **declared)
    made.add_argument("--version", action="version", version=f"edge-detect {__version__}")
    made.add_argument("--help-all", action=_HelpAll, nargs=0, default=argparse.SUPPRESS, help="all about each option")
    return made


class _HelpAll(argparse.Action):
    """Prints the whole help and ends."""

    def __call__(self, of: argparse.ArgumentParser, *_: Any) -> None:
        Output(sys.stdout).write(parser(of.prog.removeprefix("edge-detect").strip()).format_help())
        of.exit()


def _takes(verb: str, name: str, option: Option) -> bool:
    match verb:
        case "listen":
            return name not in ("list_devices", "live")
        case "score":
            return not option.live and name not in ("device", "stream", "live", "list_devices")
        case "devices":
            return name in ("json", "log_level")
    return True


def _reader(option: Option) -> Callable[[str], Any]:
    """What makes a value of the text that was given, as for a variable; argparse puts the option before the reason."""

    def read(text: str) -> Any:
        try:
            return from_text(option, text)
        except ValueError as reason:
            raise argparse.ArgumentTypeError(str(reason)) from None

    return str if option.kind is str else read


def parse(verb: str, words: Sequence[str]) -> dict[str, Any]:
    """The options that a line gives, of their types, without those that it does not give."""
    made = parser(verb, brief=True)
    found = vars(made.parse_intermixed_args(words) if verb == "score" else made.parse_args(words))
    given = {name: value for name, value in found.items() if value is not None}
    files = (*given.pop("files", ()), *given.get("file", ()))
    if files:
        given["file"] = files
    if verb == "devices":
        given["list_devices"] = True
    return given
