"""Opens what a run needs, as the settings say: the detector, and the report on standard output."""

from __future__ import annotations

import logging
import os
import shutil
import sys
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from edge_runtime.capture.pcm import RawFormat
from edge_runtime.capture.wanted import Kind, Wanted
from edge_runtime.decision.alarm import FILE_SMOOTHING_SECONDS, LIVE_SMOOTHING_SECONDS, Rules
from edge_runtime.decision.verdict import Thresholds
from edge_runtime.report import Report
from edge_runtime.report.jsonl import JsonLines
from edge_runtime.report.output import Output
from edge_runtime.report.terminal import Terminal
from edge_runtime.settings.schema import AUTO, Settings
from edge_runtime.system.log import Log

if TYPE_CHECKING:
    from edge_runtime.detector import Detector

_LOG = logging.getLogger(__name__)
_NEAR_HOP = 0.1
"""By such a share of it a hop may differ from the one that was asked for, and nobody need know."""


def open_detector(settings: Settings, stop: Callable[[], bool], log: Log) -> Detector:
    """The detector with its model; says in the log what whoever reads its verdicts should know.

    With the hop `auto` it finds the shortest that this machine sustains. Raises ModelError, or UsageError when the
    window or the hop does not fit the model, or Ended when it was asked to `stop` while it tried the model.
    """
    from edge_runtime.detector import Detector  # late, as ONNX Runtime takes seconds to load on a small board
    from edge_runtime.model import provider

    began = time.perf_counter()
    auto = settings.hop == AUTO
    given = None if auto or settings.hop is None else float(settings.hop)
    detector = Detector(
        provider.load(settings.model, settings.provider, stop),
        hop_seconds=given,
        window_seconds=settings.window,
        threshold=settings.threshold,
        gate=settings.gate,
        least_speech_seconds=settings.least_speech,
    )
    contract = detector.network.contract
    _LOG.debug(
        "%s: %s at %s, form %s, opened and tried in %.2f s",
        *(detector.network.path, contract.name, contract.level, contract.form, time.perf_counter() - began),
    )
    if not contract.calibrated:
        log.info("this model is not calibrated: its scores have an order and no scale, so its verdicts mean little")
    for note in detector.network.notes:
        log.info(note)
    if warning := foreign_window(detector):
        log.warning(warning)
    if given is not None and (note := foreign_hop(detector, given)):
        log.info(note)
    if auto:
        _find_hop(detector, stop, log)
    return detector


def numberless(count: int) -> str:
    """What is said of windows for which the model gave no number."""
    return f"the model gave NaN or infinity for {count} window{'s' if count > 1 else ''}, which nobody judged"


def foreign_window(detector: Detector) -> str:
    """What whoever reads the verdicts of windows of another length than the model's own should know; else nothing."""
    contract = detector.network.contract
    if detector.window_samples == contract.window_samples:
        return ""
    seconds, own = (count / detector.sample_rate for count in (detector.window_samples, contract.window_samples))
    shorter = seconds < own
    effect = "on shorter ones more human speech is called spoof" if shorter else "on longer ones nobody has tried them"
    return (
        f"windows of {seconds:g} s: the model's scores and thresholds are calibrated for {own:g} s, and {effect}: "
        "leave --window out, or calibrate for this length"
    )


def foreign_hop(detector: Detector, hop_seconds: float) -> str:
    """What whoever asked for `hop_seconds` should know where the model cannot have a hop near it; else nothing."""
    if abs(detector.hop_seconds - hop_seconds) <= _NEAR_HOP * hop_seconds:
        return ""
    grain_seconds = detector.network.contract.hop_multiple / detector.sample_rate
    return (
        f"this model gives a verdict every {detector.hop_seconds:g} s, not every {hop_seconds:g} s: "
        f"its hops are multiples of {grain_seconds:g} s"
    )


def wanted(settings: Settings) -> Wanted:
    """The live source that they name, one of which there must be."""
    if settings.device is not None:
        return Wanted(Kind.MICROPHONE, settings.device, settings.channel)
    if settings.stream is not None:
        return Wanted(Kind.STREAM, settings.stream, settings.channel)
    return Wanted(Kind.PIPE, settings.file[0], settings.channel, raw_format(settings))


def raw_format(settings: Settings) -> RawFormat | None:
    """What is said of sound without a header; None for sound that has one."""
    return None if settings.raw is None else RawFormat(settings.raw, settings.rate or 16000, settings.channels or 1)


def alarm_rules(settings: Settings, usual: Thresholds) -> Rules:
    """When there is an alarm; `usual` are the thresholds of the model. Raises UsageError for what cannot be."""
    usual_seconds = LIVE_SMOOTHING_SECONDS if settings.listens else FILE_SMOOTHING_SECONDS
    return Rules(
        on=usual.spoof if settings.alarm_on is None else settings.alarm_on,
        off=usual.bonafide if settings.alarm_off is None else settings.alarm_off,
        smoothing_seconds=usual_seconds if settings.smoothing == AUTO else float(settings.smoothing),
        duration_seconds=settings.alarm_duration,
        hold_seconds=settings.alarm_hold,
        refractory_seconds=settings.refractory,
    )


def _find_hop(detector: Detector, stop: Callable[[], bool], log: Log) -> None:
    from edge_runtime.governor import COMFORTABLE, shortest_sustained

    found = shortest_sustained(detector, time.perf_counter, stop)
    detector.set_hop(found.hop_seconds)
    text = f"a verdict every {detector.hop_seconds:.3g} s, which takes {found.load:.0%} of a core"
    if found.load > COMFORTABLE:
        text += "; that is the widest hop there is, and more than this machine should be asked for"
    log.info(text)


def open_report(
    settings: Settings,
    title: str,
    about: dict[str, str] | None = None,
    length_seconds: float | None = None,
    wall: Callable[[], float] | None = None,
    output: Output | None = None,
    thresholds: Thresholds | None = None,
) -> Report:
    """The report on standard output: JSON lines, each with what `about` holds, or a view for people under `title`.

    `length_seconds` is that of the whole input, where it is known; `wall` stamps lines with the time of day, and
    `thresholds` are marked in the view.
    `output` leads to standard output; without it, one that waits for its reader.
    """
    output = output or Output(sys.stdout)
    if wants_json(settings):
        return JsonLines(output, about or {}, wall)
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
        thresholds=thresholds,
        wall=wall if live else None,
    )


def wants_json(settings: Settings) -> bool:
    """Whether standard output gets JSON lines."""
    return settings.json if settings.json is not None else not (sys.stdout and sys.stdout.isatty())
