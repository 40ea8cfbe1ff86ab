"""The command `edge-detect`: parses, calls, and turns every error into one line and an exit code."""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import io
import os
import shutil
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, NoReturn

from edge_runtime import __version__
from edge_runtime.capture.bounded import anything_abandoned
from edge_runtime.errors import SPOOF_FOUND, EdgeDetectError, InputError, UsageError
from edge_runtime.report.output import Output, ReaderGone, printable
from edge_runtime.settings import AUTO, Option, Settings, flag, option_of
from edge_runtime.stop import Stop

if TYPE_CHECKING:
    from edge_runtime.capture.block import Block
    from edge_runtime.capture.pcm import RawFormat
    from edge_runtime.detector import Detector
    from edge_runtime.governor import Governor
    from edge_runtime.report import Report

# NumPy and ONNX Runtime are imported only when there is sound to score: on a small board they take seconds,
# in which --help should have answered, and a signal should be heeded.

_DESCRIPTION = "Tells human speech from synthetic speech, in a file or from a microphone."
_EPILOG = """\
exit codes:
  0   done (also when ended by Ctrl-C or SIGTERM, by --duration, or because the reader of the output has gone)
  2   usage or configuration: an option is wrong or does not fit the others
  3   input: a file or a microphone cannot be read, holds no sound, or broke off
  4   model: the model cannot be loaded
  5   output: the results cannot be written
  10  with --fail-on-spoof: the verdict on an input is spoof, and no error happened

JSON lines have a type: window (start, end, score, verdict, levels), event (sound was lost, or the hop changed) and,
at the end of each input, summary. Scores are log-likelihood ratios: above 0 speaks for a human voice, below 0 for
a synthetic one.

examples:
  edge-detect --file clip.wav
  edge-detect --device hw:1
  arecord -f S16_LE -r 16000 | edge-detect --file -
  sox clip.mp3 -t raw -e signed -b 16 -r 16000 -c 1 - | edge-detect --file - --raw s16le
"""


class _Parser(argparse.ArgumentParser):
    """An argument parser whose errors are ours, and whose help goes through Output."""

    def error(self, message: str) -> NoReturn:
        raise UsageError(f"{message} (edge-detect --help shows all options)")

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
    stop = Stop()
    try:
        with stop.heeded():
            settings = _parse(argv)
            return _list_devices(settings) if settings.list_devices else _score(settings, stop)
    except EdgeDetectError as error:
        _complain(error)
        return error.exit_code
    except ReaderGone:
        return 0
    except SystemExit as done:  # argparse after --help and --version
        return int(done.code or 0)


def parser() -> argparse.ArgumentParser:
    """The command line, built from the declarations in Settings."""
    made = _Parser(
        prog="edge-detect",
        description=_DESCRIPTION,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
        usage="edge-detect (--file PATH ... | --device NAME | --list-devices) [options]",
    )
    groups: dict[str, Any] = {}
    for field in dataclasses.fields(Settings):
        option = option_of(field)
        if option.group not in groups:
            groups[option.group] = made.add_argument_group(option.group)
        declared: dict[str, Any] = {
            "default": None,
            "help": option.help.replace("%", "%%"),
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
    """What makes a value of the text that was given; argparse puts its name into the error."""
    if not option.words:
        return option.kind

    def read(text: str) -> Any:
        return text if text in option.words else option.kind(text)

    read.__name__ = f"{option.kind.__name__} (or {' or '.join(option.words)})"
    return read


def _parse(argv: Sequence[str] | None) -> Settings:
    given = {name: value for name, value in vars(parser().parse_args(argv)).items() if value is not None}
    if "file" in given:
        given["file"] = tuple(given["file"])
    return Settings(**given)


def _note(text: str) -> None:
    print(f"edge-detect: note: {text}", file=sys.stderr)


def _list_devices(settings: Settings) -> int:
    from edge_runtime.capture.devices import list_devices
    from edge_runtime.report.jsonl import to_json

    output = Output(sys.stdout)
    devices = list_devices()
    for device in devices:
        if _wants_json(settings):
            output.write(to_json({"type": "device", **dataclasses.asdict(device)}) + "\n")
        else:
            mark = "*" if device.default else " "
            channels = f"{device.channels} channel{'s' if device.channels > 1 else ''}"
            output.write(f"{mark}{device.index:3d}  {printable(device.name)}  ({channels}, {device.rate} Hz)\n")
    if not devices:
        raise InputError("no microphone found: plug one in, and see `arecord -l` (one in use is not listed)")
    return 0


def _score(settings: Settings, stop: Stop) -> int:
    from edge_runtime.detector import Detector

    auto = settings.hop == AUTO
    given = None if auto or settings.hop is None else float(settings.hop)
    detector = Detector(settings.model, hop_seconds=given, window_seconds=settings.window, threshold=settings.threshold)
    if not detector.network.contract.calibrated:
        _note("this model is not calibrated: its scores have an order and no scale, so its verdicts mean little")
    for note in detector.network.notes:
        _note(note)
    if auto:
        _find_hop(detector, stop)
    if settings.device is not None:
        return _score_device(settings, settings.device, detector, stop)
    code = 0
    for path in settings.file:
        if stop():
            break
        # One bad file does not keep the others from being scored; the worst code is the answer.
        found = _score_file(settings, path, detector, stop)
        code = found if code in (0, SPOOF_FOUND) and found else code
    return code


def _find_hop(detector: Detector, stop: Stop) -> None:
    """Sets the shortest hop that this machine sustains, and says so."""
    from edge_runtime.governor import COMFORTABLE, shortest_sustained

    found = shortest_sustained(detector, time.perf_counter, stop)
    detector.set_hop(found.hop_seconds)
    text = f"a verdict every {detector.hop_seconds:.3g} s, which takes {found.load:.0%} of a core"
    if found.load > COMFORTABLE:
        text += "; that is the widest hop there is, and more than this machine should be asked for"
    _note(text)


def _score_device(settings: Settings, name: str, detector: Detector, stop: Stop) -> int:
    from edge_runtime.capture.microphone import Microphone
    from edge_runtime.governor import SHORTEST_SECONDS, Governor

    # With auto the hop found at the start may have been measured in a bad moment: the governor may go below it.
    auto = settings.hop == AUTO
    window_seconds = detector.window_samples / detector.sample_rate
    shortest = min(SHORTEST_SECONDS if auto else detector.hop_seconds, window_seconds)
    grain_seconds = detector.network.contract.hop_multiple / detector.sample_rate
    governor = Governor(shortest, window_seconds, detector.hop_seconds, grain_seconds)
    with Microphone(name, detector.sample_rate) as microphone:
        title = f"{microphone.device.name}, {microphone.native_rate} Hz, {microphone.channels} ch; Ctrl-C ends"
        # The microphone itself ends when asked to, after what it had already heard.
        report = _report(settings, title, {})
        return _run(settings, microphone.blocks(stop), detector, report, lambda: False, governor)


def _score_file(settings: Settings, path: str, detector: Detector, stop: Stop) -> int:
    from edge_runtime.capture.file import length_seconds

    raw = _raw_format(settings)
    several = len(settings.file) > 1
    report = _report(settings, path, {"file": path} if several else {}, length_seconds(path, raw))
    return _run(settings, _file_blocks(path, raw, detector), detector, report, stop)


def _file_blocks(path: str, raw: RawFormat | None, detector: Detector) -> Iterator[Block]:
    from edge_runtime.capture.block import Block
    from edge_runtime.capture.file import read_blocks

    # Several full batches: what is left over at a block's end goes through the network in a smaller one.
    for samples in read_blocks(path, raw, detector.sample_rate, 4 * detector.batch_seconds):
        yield Block(samples)


def _run(
    settings: Settings,
    source: Iterator[Block],
    detector: Detector,
    report: Report,
    stop: Callable[[], bool],
    governor: Governor | None = None,
) -> int:
    from edge_runtime.decision.verdict import Verdict
    from edge_runtime.listen import run

    summary, trouble = run(
        source, detector, report, duration_seconds=settings.duration, stopped=stop, governor=governor
    )
    if trouble is not None:
        _complain(trouble)
        return trouble.exit_code
    return SPOOF_FOUND if settings.fail_on_spoof and summary.verdict is Verdict.SPOOF else 0


def _raw_format(settings: Settings) -> RawFormat | None:
    from edge_runtime.capture.pcm import RawFormat

    if settings.raw is None:
        return None
    return RawFormat(settings.raw, settings.rate or 16000, settings.channels or 1)


def _wants_json(settings: Settings) -> bool:
    return settings.json if settings.json is not None else not (sys.stdout and sys.stdout.isatty())


def _report(settings: Settings, title: str, about: dict[str, str], length_seconds: float | None = None) -> Report:
    from edge_runtime.report.jsonl import JsonLines
    from edge_runtime.report.terminal import Terminal

    output = Output(sys.stdout)
    if _wants_json(settings):
        return JsonLines(output, about)
    live = bool(sys.stdout and sys.stdout.isatty()) and os.environ.get("TERM", "dumb") != "dumb"
    encoding = (sys.stdout.encoding if sys.stdout else "ascii").lower()
    return Terminal(
        output,
        title,
        live=live,
        colour=live and not os.environ.get("NO_COLOR"),
        unicode=encoding.startswith("utf"),
        columns=lambda: shutil.get_terminal_size().columns,
        length_seconds=length_seconds,
    )


def _complain(error: EdgeDetectError) -> None:
    with contextlib.suppress(OSError, AttributeError):  # stderr may be closed; the exit code still speaks
        sys.stderr.write(f"edge-detect: {printable(str(error))}\n")
        sys.stderr.flush()
