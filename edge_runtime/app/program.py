"""The commands of a box: what each line means, who does it, and one line and an exit code for every error."""

from __future__ import annotations

import dataclasses
import difflib
import io
import os
import sys
from collections.abc import Sequence
from typing import Any

from edge_runtime.app import commands
from edge_runtime.app.arguments import Parser, parse
from edge_runtime.app.screen import BOX, HOST
from edge_runtime.errors import EdgeDetectError, Ended, InputError, UsageError
from edge_runtime.report.output import Output, ReaderGone
from edge_runtime.run.stop import ORDERLY_SECONDS, Stop
from edge_runtime.settings import config
from edge_runtime.settings.schema import SOURCES, Settings
from edge_runtime.system.bounded import anything_abandoned
from edge_runtime.system.log import Log
from edge_runtime.system.scarce import be_frugal, scarcity
from edge_runtime.system.text import printable

# NumPy and ONNX Runtime are imported only when there is sound to score: on a small board they take seconds, in which a
# signal should be heeded.


def main(verb: str, rest: Sequence[str]) -> int:
    """Runs the command `verb` ("": a line of options alone) with the rest of its line, and gives its exit code."""
    code = _main(verb, list(rest))
    if anything_abandoned():
        os._exit(code)  # Python's orderly end would hang or abort; all that was printed has been flushed
    return code


def _main(verb: str, rest: list[str]) -> int:
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # a name may hold what the terminal's encoding does not
            stream.reconfigure(errors="backslashreplace")
    be_frugal()
    stop = Stop()
    try:
        with stop.heeded():
            return _run(verb, rest, stop)
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


def _run(verb: str, rest: list[str], stop: Stop) -> int:
    match verb:
        case "coverage":
            return commands.coverage(rest, Parser)
        case "commission":
            stop.patience = ORDERLY_SECONDS
            return commands.commission(rest, Parser, stop)
        case "config":
            return commands.configuration(rest, Parser, lambda words: parse("", words), stop)
        case "inspect":
            return commands.inspect(rest, Parser)
        case "status":
            return commands.status(rest, Parser)
        case "support":
            return commands.support(rest, Parser)
    given = _meant(verb, parse(verb, rest))
    settings = config.load(given)
    if settings.list_devices:
        return _list_devices(settings)
    if settings.listens:
        # Without a file there is nothing to read again, and SIGHUP ends the program as SIGTERM does.
        stop.reloads = settings.config is not None
        from edge_runtime.run.live import run_device

        return run_device(settings, stop, config.Reload(stop.reload_wanted, given))
    from edge_runtime.run.files import score_files

    log = Log(settings.log_level, modules=True)
    try:
        return score_files(settings, stop, log)
    finally:
        log.close()


def _meant(verb: str, given: dict[str, Any]) -> dict[str, Any]:
    """What the options of a command come to, as the options of a line without a command. Raises UsageError."""
    if verb == "listen":
        if given.get("file"):
            return given | {"live": True}
        named = config.effective(given).values
        return given if any(named.get(name) for name in SOURCES) else given | {"device": "default"}
    if verb == "score":
        if not given.get("file"):
            raise UsageError("name the files to score: edge-detect score clip.wav (- is standard input)")
        _no_slip(given["file"][0])
    return given


def _no_slip(word: str) -> None:
    """Raises UsageError where the first file is none and looks like a command that is misspelt."""
    near = difflib.get_close_matches(word, (*BOX, *HOST), 1)
    if near and not os.path.exists(word):
        raise UsageError(f"there is no file and no command {printable(word)}: did you mean edge-detect {near[0]}?")


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
