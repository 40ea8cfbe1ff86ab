"""Scores sound files and standard input, one after the other."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator

from edge_runtime.capture.block import CHANNELS, Block, Event
from edge_runtime.capture.file import called, length_seconds, read_blocks
from edge_runtime.capture.pcm import RawFormat
from edge_runtime.decision.alarm import Alarms
from edge_runtime.decision.verdict import Verdict
from edge_runtime.detector import Detector
from edge_runtime.errors import SPOOF_FOUND, ModelError
from edge_runtime.report import Several
from edge_runtime.report.output import Output
from edge_runtime.run.listen import run
from edge_runtime.run.opening import alarm_rules, numberless, open_detector, open_report, raw_format
from edge_runtime.run.stop import ORDERLY_SECONDS, Stop
from edge_runtime.settings.schema import Settings
from edge_runtime.shadow.order import TrialRequest
from edge_runtime.shadow.report import Shadow
from edge_runtime.system.log import Log


def score_files(settings: Settings, stop: Stop, log: Log) -> int:
    """Scores `settings.file` and gives the exit code: of the worst that happened.

    Raises ModelError, OutputError, ReaderGone, or UsageError when the settings do not fit the model.
    """
    detector = open_detector(settings, stop, log)
    stop.patience = ORDERLY_SECONDS
    code = 0
    for path in settings.file:
        if stop():
            break
        # One bad file does not keep the others from being scored; the worst code is the answer.
        found = _score(settings, path, detector, stop, log)
        code = found if code in (0, SPOOF_FOUND) and found else code
    return code


def _score(settings: Settings, path: str, detector: Detector, stop: Stop, log: Log) -> int:
    raw = raw_format(settings)
    about = _named(path) if len(settings.file) > 1 else {}
    output = Output(sys.stdout, stop)
    report = open_report(
        settings, path, about, length_seconds(path, raw), output=output, thresholds=detector.thresholds
    )
    order = TrialRequest.of(settings, detector)
    shadow = Shadow(order, log, waits=True) if order else None
    source = blocks_of(path, raw, detector)
    before = detector.numberless
    both = Several([shadow, report]) if shadow else report
    try:
        summary, trouble = run(
            source,
            detector,
            both,
            duration_seconds=settings.duration,
            stopped=stop,
            alarms=Alarms(alarm_rules(settings, detector.thresholds)),
            report_alarms=False,
        )
    finally:
        if shadow:
            shadow.close()
    if trouble is not None:
        log.error(str(trouble))
        return trouble.exit_code
    if detector.numberless > before:
        log.error(f"{path}: {numberless(detector.numberless - before)}")
        return ModelError.exit_code
    if summary.verdict is Verdict.NO_SPEECH:
        log.info(f"{called(path)}: not judged, as there is too little speech in it; --no-gate scores it as it is")
    return SPOOF_FOUND if settings.fail_on_spoof and summary.verdict is Verdict.SPOOF else 0


def _named(path: str) -> dict[str, str]:
    """What says in each line which file it is about. Bytes that are no UTF-8 are escaped, so they also come in full."""
    plain = path.encode("utf-8", "replace").decode() == path
    return {"file": path} if plain else {"file": path, "file_hex": os.fsencode(path).hex()}


def blocks_of(path: str, raw: RawFormat | None, detector: Detector) -> Iterator[Block]:
    """A file's sound for `listen.run`, as `capture.file.read_blocks` gives it. Raises InputError on the way."""
    news: list[str] = []
    # Several full batches: what is left over at a block's end goes through the network in a smaller one.
    for samples in read_blocks(path, raw, detector.sample_rate, 4 * detector.batch_seconds, news.append):
        yield Block(samples, tuple(Event(CHANNELS, reason=reason) for reason in news))
        news.clear()
