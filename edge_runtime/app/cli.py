"""The command `edge-detect`: parses, calls, and turns every error into one line and an exit code."""

from __future__ import annotations

import argparse
import dataclasses
import io
import os
import sys
from collections.abc import Callable, Sequence
from typing import Any, NoReturn

from edge_runtime.app import commands
from edge_runtime.errors import EdgeDetectError, Ended, InputError, UsageError
from edge_runtime.report.output import Output, ReaderGone
from edge_runtime.run.stop import ORDERLY_SECONDS, Stop
from edge_runtime.settings import config, document
from edge_runtime.settings.option import Option, flag, from_text, option_of, short
from edge_runtime.settings.schema import Settings
from edge_runtime.system.bounded import anything_abandoned
from edge_runtime.system.log import Log
from edge_runtime.system.scarce import be_frugal, scarcity
from edge_runtime.system.text import printable
from edge_runtime.version import __version__

# NumPy and ONNX Runtime are imported only when there is sound to score: on a small board they take seconds,
# in which --help should have answered, and a signal should be heeded.

_DESCRIPTION = "Tells human speech from synthetic speech, in a file, from a microphone or a stream."
_EPILOG = """\
other commands (each has its own --help):
  edge-detect coverage         what was heard, lost and judged in a time, from the ledger (--ledger)
  edge-detect commission       whether this box, microphone and model are fit: run it before the box is relied on
  edge-detect config check     whether a configuration file is in order
  edge-detect config show      the values in effect, and where each comes from
  edge-detect config document  a complete configuration file, with every option and its default

exit codes:
  0   done (also when ended by Ctrl-C or SIGTERM, by --duration, or because the reader of the output has gone)
  2   usage or configuration: an option is wrong or does not fit the others
  3   input: a file or a live source cannot be read, holds no sound, or broke off
  4   model: the model cannot be loaded, or the machine has too little memory, open files or threads for the program
  5   output: the results cannot be written
  10  with --fail-on-spoof: the verdict on an input is spoof (an alarm is enough), and no error happened
  12  of edge-detect commission: the machine is too slow, or a reference clip was judged wrongly

JSON lines have a type: window (start, end, score, verdict, levels), event (sound was lost, or the source or the
hop changed), alarm (of a live source) and, at the end of each input, summary. Scores are log-likelihood ratios: above 0
speaks for a human voice, below 0 for a synthetic one. The summary's verdict is spoof when there was an alarm, which its
stretches name, or when at least half of the judged windows are spoof; else it follows the mean score. It is null when
nothing was heard.

examples:
  edge-detect --file clip.wav
  edge-detect --device hw:1
  edge-detect --device hw:1 --ledger ledger.sqlite --save-clips alarms
  edge-detect --stream rtsp://camera.example/stream1 --ledger ledger.sqlite
  arecord -f S16_LE -r 16000 | edge-detect --file - --live
  sox clip.mp3 -t raw -e signed -b 16 -r 16000 -c 1 - | edge-detect --file - --raw s16le
"""


class _Parser(argparse.ArgumentParser):
    """An argument parser whose errors are ours, and whose help goes through Output."""

    def error(self, message: str) -> NoReturn:
        raise UsageError(f"{short(message, 300)} (edge-detect --help shows all options)")

    def _print_message(self, message: str, file: object = None) -> None:
        if message:
            Output(sys.stdout).write(message)


def main(argv: Sequence[str] | None = None) -> int:
    """Runs `edge-detect` with `argv` (default: the command line) and gives its exit code."""
    code = _main(argv)
    if anything_abandoned():
        os._exit(code)  # Python's orderly end would hang or abort; all that was printed has been flushed
    return code


def _main(argv: Sequence[str] | None) -> int:
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # a name may hold what the terminal's encoding does not
            stream.reconfigure(errors="backslashreplace")
    be_frugal()
    stop = Stop()
    try:
        with stop.heeded():
            return _run(list(sys.argv[1:] if argv is None else argv), stop)
    except EdgeDetectError as failed:
        Log().error(str(failed))
        return failed.exit_code
    except (ReaderGone, Ended):
        return 0
    except (MemoryError, ImportError, OSError, RuntimeError) as reason:
        error = scarcity(reason)
        if error is None:
            raise
        Log().error(str(error))
        return error.exit_code
    except SystemExit as done:  # argparse after --help and --version
        return int(done.code or 0)


def _run(argv: list[str], stop: Stop) -> int:
    if argv[:1] == ["coverage"]:
        return commands.coverage(argv[1:], _Parser)
    if argv[:1] == ["commission"]:
        stop.patience = ORDERLY_SECONDS
        return commands.commission(argv[1:], _Parser, stop)
    if argv[:1] == ["config"]:
        return commands.configuration(argv[1:], _Parser, _parse, stop)
    given = _parse(argv)
    settings = config.load(given)
    if settings.list_devices:
        return _list_devices(settings)
    if settings.listens:
        # Without a file there is nothing to read anew, and SIGHUP ends the program as SIGTERM does.
        stop.reloads = settings.config is not None
        from edge_runtime.run.live import run_device

        return run_device(settings, stop, config.Reload(stop.reload_wanted, given))
    from edge_runtime.run.files import score_files

    log = Log(settings.log_level, modules=True)
    try:
        return score_files(settings, stop, log)
    finally:
        log.close()


def parser() -> argparse.ArgumentParser:
    """The command line, built from the declarations in Settings."""
    made = _Parser(
        prog="edge-detect",
        description=_DESCRIPTION,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
        usage="edge-detect (--file PATH ... | --device NAME | --stream URL | --list-devices) [options]",
    )
    groups: dict[str, Any] = {}
    for field in dataclasses.fields(Settings):
        option = option_of(field)
        if option.group not in groups:
            groups[option.group] = made.add_argument_group(option.group)
        declared: dict[str, Any] = {
            "default": None,
            "help": document.help_of(field).replace("%", "%%"),
            "dest": field.name,
        }
        if option.kind is bool:
            declared["action"] = argparse.BooleanOptionalAction if option.negatable else "store_true"
        else:
            declared["type"] = _reader(option)
            declared["metavar"] = option.metavar or option.unit.upper() or "N"
            if option.many:
                declared |= {"action": "extend", "nargs": "+"}
        groups[option.group].add_argument(flag(field.name), **declared)
    made.add_argument("--version", action="version", version=f"edge-detect {__version__}")
    return made


def _reader(option: Option) -> Callable[[str], Any]:
    """What makes a value of the text that was given, as for a variable; argparse puts the option before the reason."""

    def read(text: str) -> Any:
        try:
            return from_text(option, text)
        except ValueError as reason:
            raise argparse.ArgumentTypeError(str(reason)) from None

    return str if option.kind is str else read


def _parse(argv: Sequence[str]) -> dict[str, Any]:
    """The options that the command line gives, of their types."""
    given = {name: value for name, value in vars(parser().parse_args(argv)).items() if value is not None}
    if "file" in given:
        given["file"] = tuple(given["file"])
    return given


def _list_devices(settings: Settings) -> int:
    from edge_runtime.capture.device.devices import in_order, list_devices
    from edge_runtime.report.jsonl import to_json
    from edge_runtime.run.opening import wants_json

    output = Output(sys.stdout)
    devices = in_order(list_devices())
    for device in devices:
        if wants_json(settings):
            output.write(to_json({"type": "device", **dataclasses.asdict(device)}) + "\n")
        else:
            mark = "*" if device.default else " "
            channels = f"{device.channels} channel{'s' if device.channels > 1 else ''}"
            output.write(f"{mark}{device.index:3d}  {printable(device.name)}  ({channels}, {device.rate} Hz)\n")
    if not devices:
        raise InputError("no microphone found: plug one in, and see `arecord -l` (one in use is not listed)")
    return 0
