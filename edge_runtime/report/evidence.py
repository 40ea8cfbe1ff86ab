"""Keeps the sound around each alarm: a FLAC, and a JSON that says what was heard in it, by which model, when."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import math
import os
import queue
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
from numpy.typing import NDArray

from edge_runtime.capture.block import DROPPED, LOST, OUTAGE, OVERFLOW, Event
from edge_runtime.decision.alarm import ON, Alarm
from edge_runtime.decision.verdict import Window
from edge_runtime.errors import OutputError
from edge_runtime.report import Report
from edge_runtime.report.jsonl import alarm_line, to_json, utc
from edge_runtime.report.owned import MARK
from edge_runtime.report.pairs import SPARE_BYTES, Pairs

LONGEST_SECONDS = 60.0
"""Of an alarm in a clip: what lasts longer goes on as it began."""
PREPARE_SECONDS = 5.0
"""How long the beginning waits for the disk."""
CLOSE_SECONDS = 2.0
"""How long the end waits for the disk."""
WAITING = 4
"""Clips that may wait for the disk; more are left out, and told."""
DRAFT_SECONDS = 10.0
"""Of an alarm that goes on, what a power cut may take from its clip."""
_SPARE_SECONDS = 5.0
_LOOK_SECONDS = 60.0  # between two looks at the room on the disk
_PATIENCE_SECONDS = 10.0
_OPEN = 4
_LOSSES = (LOST, DROPPED, OVERFLOW, OUTAGE)


@dataclass
class _Clip:
    """An alarm whose clip is not complete yet. Places are seconds of sound."""

    alarm: Alarm
    start: float
    until: float
    wall: float  # at the alarm's start
    monotonic: float
    about: dict[str, Any]
    off: Alarm | None = None
    cut: bool = False
    drafted: float = -math.inf  # until where it is on the disk


@dataclass(frozen=True)
class _Job:
    name: str
    samples: NDArray[np.int16]
    told: dict[str, Any]
    draft: bool


class Evidence(Report):
    """Holds the last minute or so of sound in memory, 16 bit; what an alarm asks for is written by another thread.

    A clip in the making is drafted on the disk now and then, so that a power cut leaves what was heard until then.
    """

    def __init__(
        self,
        folder: str | Path,
        before_seconds: float,
        after_seconds: float,
        budget_bytes: int,
        about: Mapping[str, Any],
        sample_rate: int,
        complain: Callable[[str], object],
        *,
        clock: Callable[[], float] = time.monotonic,
        wall: Callable[[], float] = time.time,
        longest_seconds: float = LONGEST_SECONDS,
        spare_bytes: int = SPARE_BYTES,
    ) -> None:
        """`about` (model, model_sha256, device, version) is looked at again for each alarm and goes into its JSON.

        `folder` is made if it is missing; what a killed run left half written there is removed, and its drafts become
        clips. Raises OutputError for a path that can never be a folder. A disk that is full, fails, hangs or may only
        be read is no reason not to start: `complain` is called, and it is tried again and again. The oldest clips go to
        leave `spare_bytes` free on it.
        """
        self._before, self._after, self._longest = before_seconds, after_seconds, longest_seconds
        self._about = about
        self._rate = sample_rate
        self._complain = complain
        self._clock = clock
        self._wall = wall
        self._absent = 0.0  # seconds without sound until now
        self._kept_seconds = before_seconds + longest_seconds + after_seconds + _SPARE_SECONDS
        self._blocks: deque[NDArray[np.int16]] = deque()
        self._held = 0  # samples in them
        self._end = 0  # where they end in the run, in samples
        self._windows: deque[Window] = deque()
        self._events: deque[tuple[float, Event]] = deque(maxlen=1000)
        self._clips: list[_Clip] = []
        self._pairs = Pairs(Path(folder), budget_bytes, complain, spare_bytes)
        self._refused: OutputError | None = None
        self._looked = threading.Event()
        self._jobs: queue.Queue[_Job | None] = queue.Queue(WAITING)
        self._thread = threading.Thread(target=self._work, name="evidence", daemon=True)
        self._thread.start()
        if not self._looked.wait(PREPARE_SECONDS):
            complain(f"the disk of {folder} does not answer: listening goes on without clips")
        elif self._refused:
            raise self._refused

    def sound(self, at_seconds: float, samples: NDArray[np.float32]) -> None:
        """Keeps it; clips that were complete before it are written, while all of their sound is still held."""
        self._finish_complete()
        self._absent = 0.0
        whole = np.nan_to_num(samples, nan=0.0, posinf=0.0, neginf=0.0) * 32768.0
        self._blocks.append(np.clip(np.rint(whole), -32768, 32767).astype(np.int16))
        self._held += samples.size
        self._end = round(at_seconds * self._rate)
        while self._blocks and self._held - self._blocks[0].size >= self._kept_seconds * self._rate:
            self._held -= self._blocks.popleft().size
        oldest = (self._end - self._held) / self._rate
        while self._windows and self._windows[0].end < oldest:
            self._windows.popleft()

    def window(self, window: Window) -> None:
        """Keeps its score."""
        self._windows.append(window)

    def event(self, at_seconds: float, event: Event) -> None:
        """Keeps what says that a clip has a hole."""
        if event.kind in _LOSSES:
            self._events.append((at_seconds, event))

    def moment(self, absent_seconds: float) -> None:
        """Writes the clips that are complete, with the windows of the last sound, which came after it."""
        self._absent += absent_seconds
        self._finish_complete()
        self._draft()

    def alarm(self, alarm: Alarm) -> None:
        """Begins a clip, or says where it ends."""
        now = self._end / self._rate
        if alarm.kind == ON:
            if len(self._clips) >= _OPEN:
                self._finish(self._clips[0])
            ago = now - alarm.start
            # What led to the alarm may be longer ago than sound is held.
            begin = max(alarm.start, now - self._longest)
            self._clips.append(
                _Clip(
                    alarm,
                    start=max(0.0, begin - self._before),
                    until=begin + self._longest,
                    wall=self._wall() - ago,
                    monotonic=self._clock() - ago,
                    about=dict(self._about),
                    cut=begin > alarm.start,
                )
            )
            return
        for clip in self._clips:
            if clip.alarm.number == alarm.number and clip.off is None:
                clip.off = alarm
                clip.cut |= alarm.at > clip.until
                clip.until = min(clip.until, alarm.at) + self._after

    def settled(self) -> None:
        """Waits until all clips that are complete are on the disk, or have failed."""
        self._jobs.join()

    def close(self) -> None:
        """Writes the clips in progress, as long as they are, and waits a little for the disk."""
        for clip in list(self._clips):
            self._finish(clip)
        deadline = time.monotonic() + CLOSE_SECONDS
        with contextlib.suppress(queue.Full):
            self._jobs.put(None, timeout=CLOSE_SECONDS)
        self._thread.join(max(0.0, deadline - time.monotonic()))
        if self._thread.is_alive():
            self._complain("the disk is too slow: the last clips may be missing")

    def _finish_complete(self) -> None:
        now = self._end / self._rate
        for clip in list(self._clips):
            # Sound that does not come is not waited for for ever: a clip in memory may be lost.
            gone = clip.off is not None and self._absent > _PATIENCE_SECONDS
            if now >= clip.until or gone:
                clip.cut |= clip.off is None
                self._finish(clip)

    def _draft(self) -> None:
        """At a clip's begin and then now and then, unless the disk has other work."""
        now = self._end / self._rate
        for clip in self._clips:
            if now - clip.drafted >= DRAFT_SECONDS and self._jobs.empty():
                clip.drafted = now
                self._hand_over(self._job(clip, draft=True))

    def _finish(self, clip: _Clip) -> None:
        self._clips.remove(clip)
        if not self._hand_over(self._job(clip, draft=False)):
            self._complain("the disk is too slow: the clip of an alarm was left out")

    def _hand_over(self, job: _Job) -> bool:
        try:
            self._jobs.put_nowait(job)
        except queue.Full:
            return False
        return True

    def _job(self, clip: _Clip, draft: bool) -> _Job:
        held_from = self._end - self._held
        first = max(round(clip.start * self._rate), held_from)
        last = max(first, min(round(clip.until * self._rate), self._end))
        sound = np.concatenate(self._blocks) if self._blocks else np.zeros(0, np.int16)
        samples = sound[first - held_from : last - held_from]
        start, end = first / self._rate, last / self._rate
        told = {
            "time": utc(clip.wall),
            "time_unix": clip.wall,
            "monotonic": clip.monotonic,
            **clip.about,
            "alarms": [alarm_line(alarm, {}) for alarm in (clip.alarm, clip.off) if alarm],
            "cut": clip.cut or draft,
            "interrupted": draft,
            "sample_rate": self._rate,
            "start": start,
            "end": end,
            "windows": [_window(window) for window in self._windows if window.end > start and window.start < end],
            "events": [
                {"event": event.kind, "at": at, "seconds": event.seconds, "count": event.count}
                for at, event in self._events
                if start <= at <= end
            ],
        }
        return _Job(f"{_stamp(clip.wall)}-{clip.alarm.number:04d}", samples, told, draft)

    def _work(self) -> None:
        """The other thread: encodes and writes; nothing that goes wrong here may end it."""
        try:
            self._pairs.prepare()
        except OutputError as reason:
            self._refused = reason
            return
        except Exception as reason:
            self._complain(f"cannot keep clips: {reason}")
        finally:
            self._looked.set()
        self._each_job()
        self._pairs.close()

    def _each_job(self) -> None:
        self._look()
        while True:
            try:
                job = self._jobs.get(timeout=_LOOK_SECONDS)
            except queue.Empty:
                self._look()
                continue
            if job is None:
                return
            try:
                sound = _flac(job.samples, self._rate)
                told = {**job.told, "sha256": hashlib.sha256(sound).hexdigest()}
                write = self._pairs.draft if job.draft else self._pairs.add
                write(job.name, sound, functools.partial(_told, told))
            except Exception as reason:
                self._complain(f"cannot keep the clip of an alarm: {reason}")
            finally:
                self._jobs.task_done()

    def _look(self) -> None:
        try:
            self._pairs.leave_room()
        except Exception as reason:
            self._complain(f"cannot look after the clips: {reason}")


def _flac(samples: NDArray[np.int16], rate: int) -> bytes:
    """Mono int16 [n] as a FLAC file, made in memory.

    Through a descriptor: for Python's own streams soundfile needs memory that is both written and executed, which the
    service is not allowed.
    """
    with open(os.memfd_create("clip", os.MFD_CLOEXEC), "w+b") as file:
        with soundfile.SoundFile(file.fileno(), "w", rate, 1, "PCM_16", format="FLAC", closefd=False) as encoder:
            encoder.software = MARK
            encoder.write(samples)
        file.seek(0)
        return file.read()


def _told(told: Mapping[str, Any], file: str) -> str:
    return to_json({"file": file, **told})


def _window(window: Window) -> dict[str, Any]:
    return {
        "start": window.start,
        "end": window.end,
        "score": window.score,
        "verdict": str(window.verdict),
        "reason": str(window.reason),
        "level_dbfs": window.level_dbfs,
        "speech": window.speech,
    }


def _stamp(seconds: float) -> str:
    """20261124T100000.123Z: sorts by time."""
    return utc(seconds).replace("-", "").replace(":", "")
