"""The runtime as a library: a whole file's verdict, the windows of a microphone, sound at the model's rate."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
from numpy.typing import ArrayLike, NDArray

from edge_runtime.capture.resample import Resampler
from edge_runtime.capture.source import LiveSource
from edge_runtime.decision.alarm import Alarms
from edge_runtime.decision.summary import Summary
from edge_runtime.decision.verdict import Window
from edge_runtime.detector import Detector
from edge_runtime.errors import ModelError
from edge_runtime.report import Report
from edge_runtime.run import listen as one_run
from edge_runtime.run.files import blocks_of
from edge_runtime.run.opening import alarm_rules, numberless
from edge_runtime.settings.schema import Settings


def score_file(path: str | os.PathLike[str], detector: Detector | None = None) -> Summary:
    """The verdict on a sound file, the one that `edge-detect score` gives.

    `detector` may be one that has been used; None is the shipped model with the speech gate. The summary has
    `verdict` (a `Verdict`, None where there was no sound), `score` (mean log-likelihood ratio, above 0 for a human
    voice; None without a judged window), `seconds`, `windows` by verdict, and the `stretches` that are spoof.

    Raises InputError for a file that cannot be read to its end, ModelError when the model fails.

    >>> score_file("examples/human.flac").verdict
    <Verdict.BONAFIDE: 'bonafide'>
    """
    detector = Detector(gate=True) if detector is None else detector
    name = os.fspath(path)
    before = detector.numberless
    rules = alarm_rules(Settings(file=(name,)), detector.thresholds)
    source = blocks_of(name, None, detector)
    summary, trouble = one_run.run(source, detector, Report(), alarms=Alarms(rules), report_alarms=False)
    if trouble is not None:
        raise trouble
    if detector.numberless > before:
        raise ModelError(f"{name}: {numberless(detector.numberless - before)}")
    return summary


def listen(device: str = "default", detector: Detector | None = None) -> Iterator[Window]:
    """The windows of a microphone as they are judged, for as long as the caller asks for more.

    `device` is named as `edge-detect listen --device` takes it. A microphone that goes away is waited for, and windows
    begin again with what comes then; times are seconds of sound from the start. Close the iterator, or leave the loop,
    to stop listening. Raises InputError for a microphone that is not there, ModelError when the model fails.
    """
    detector = Detector(gate=True) if detector is None else detector
    detector.reset()
    heard = 0
    begins_seconds = 0.0  # where the detector's stream begins in the run
    with contextlib.closing(LiveSource(device, detector.sample_rate)) as source:
        for block in source.blocks(lambda: False):
            now_seconds = heard / detector.sample_rate
            if block.absent_seconds and now_seconds > begins_seconds:
                yield from _moved(detector.flush(), begins_seconds)
                begins_seconds = now_seconds
            heard += len(block.samples)
            yield from _moved(detector.push(block.samples), begins_seconds)


def _moved(windows: list[Window], seconds: float) -> Iterator[Window]:
    for window in windows:
        yield replace(window, start=window.start + seconds, end=window.end + seconds) if seconds else window


def resample(samples: ArrayLike, rate: int, to_rate: int = 16000) -> NDArray[np.float32]:
    """Mono sound, floats [n] at `rate` Hz, as float32 [m] at `to_rate` Hz: what `Detector.push` takes.

    For a stream make one `edge_runtime.capture.resample.Resampler` and push the pieces through it. Raises InputError
    for rates that cannot be.

    >>> resample([0.0] * 48000, 48000).shape
    (16000,)
    """
    resampler = Resampler(rate, to_rate)
    sound = np.asarray(samples, np.float32)
    return np.concatenate([resampler.push(sound), resampler.flush()])
