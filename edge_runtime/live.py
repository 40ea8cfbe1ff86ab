"""Device mode: wires a microphone, the detector and all that wants to know of it, for as long as it is wanted."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from edge_runtime import __version__
from edge_runtime.capture.block import CLOCK, IDENTITY, OUTAGE, STATE, Block, Event
from edge_runtime.capture.liveness import Limits, State
from edge_runtime.capture.source import LiveSource
from edge_runtime.decision.alarm import ON, Alarm, Alarms, Rules
from edge_runtime.decision.verdict import Verdict
from edge_runtime.errors import SPOOF_FOUND, EdgeDetectError, UsageError
from edge_runtime.governor import SHORTEST_SECONDS, Governor
from edge_runtime.listen import run
from edge_runtime.log import Log
from edge_runtime.opening import open_detector, open_report
from edge_runtime.report import Report, Several
from edge_runtime.report.evidence import Evidence
from edge_runtime.report.hook import Hook
from edge_runtime.report.ledger import Ledger, LedgerReport
from edge_runtime.service import Service
from edge_runtime.settings import AUTO, Settings
from edge_runtime.stop import Stop

if TYPE_CHECKING:
    from edge_runtime.detector import Detector

_MEGABYTE = 1_000_000
_MICROPHONE = ("device", "channel", "connect_timeout", "recover_timeout", "stall", "silent_after")
"""Settings of the source: when a new configuration leaves them, the microphone stays open."""


class _Teller(Report):
    """Tells the service manager that the loop goes round, and the log what people should know of a long run."""

    def __init__(self, service: Service, log: Log, source: LiveSource, about: dict[str, str], aloud: bool) -> None:
        """`about` is kept up to date with the microphone. `aloud`: nobody sees standard output, so the log has all."""
        self._service = service
        self._log = log
        self._source = source
        self._about = about
        self._aloud = aloud
        self._alarm: Alarm | None = None

    def moment(self, absent_seconds: float) -> None:
        self._service.alive()
        self._service.status(f"{self._source.state}: {self._source.title}" + (", ALARM" if self._alarm else ""))

    def event(self, at_seconds: float, event: Event) -> None:
        self._about["device"] = self._source.title
        if not self._aloud:
            return
        if event.kind == STATE:
            text = f"microphone {event.state}" + (f": {event.reason}" if event.reason else f": {self._source.title}")
            trouble = event.state not in (State.LISTENING, State.CONNECTING)
            (self._log.warning if trouble else self._log.info)(text)
        elif event.kind == OUTAGE:
            self._log.warning(f"no sound for {event.seconds:.1f} s until now", key="outage")
        elif event.kind in (IDENTITY, CLOCK):
            self._log.warning(event.reason or f"the clock was set by {event.seconds:+.1f} s")
        else:
            amount = f"{event.count} times" if event.count else f"{event.seconds:.2f} s"
            self._log.warning(f"{event.kind}: {amount} {event.reason}".rstrip(), key=event.kind)

    def alarm(self, alarm: Alarm) -> None:
        self._alarm = alarm if alarm.kind == ON else None
        if self._aloud:
            what = "a synthetic voice" if alarm.kind == ON else "over"
            self._log.warning(f"ALARM {alarm.number}: {what} (score {alarm.score:+.2f})")


def run_device(settings: Settings, stop: Stop, reload: Callable[[], Settings | None]) -> int:
    """Listens to `settings.device` until asked to stop, and gives the exit code.

    `reload` gives new settings when somebody asked for them: the run ends in good order and another begins with them,
    on the same open microphone where they leave that as it is. New settings that cannot be are told, and the old ones
    stay. Raises InputError for a microphone that is not there, ModelError, OutputError, ReaderGone or UsageError.
    """
    log = Log(settings.log_level)
    service = Service.from_environment()
    source: LiveSource | None = None
    blocks: Iterator[Block] = iter(())
    try:
        plan = _Plan(settings, stop, log)
        while True:
            if source is None:
                source = plan.source()
                if settings.connect_seconds == 0:
                    source.connect(stop)
                blocks = source.blocks(stop)
            service.ready(f"{source.state}: {source.title}")
            turn = _Turn(blocks, reload, plan)
            code = plan.run(turn.blocks(), source, service)
            if turn.next is None or stop() or code not in (0, SPOOF_FOUND):
                return code
            service.reloading()
            if not turn.next.same_microphone(plan):
                source.close()
                source = None
            plan = turn.next
            log.set_level(plan.settings.log_level)
            log.info("the configuration was read anew")
    finally:
        service.stopping()
        if source is not None:
            source.close()
        log.close()


class _Plan:
    """Settings with all that they ask for opened, so that nothing in them can be wrong any more."""

    def __init__(self, settings: Settings, stop: Callable[[], bool], log: Log) -> None:
        """Raises UsageError or ModelError for what cannot be."""
        if settings.device is None:
            raise UsageError("the configuration names no microphone any more (device)")
        self.settings = settings
        self.device = settings.device
        self.detector = open_detector(settings, stop, log)
        self._stop = stop
        self._log = log
        usual = self.detector.thresholds
        self._rules = Rules(
            on=usual.spoof if settings.alarm_on is None else settings.alarm_on,
            off=usual.bonafide if settings.alarm_off is None else settings.alarm_off,
            smoothing_seconds=settings.smoothing,
            duration_seconds=settings.alarm_duration,
            hold_seconds=settings.alarm_hold,
            refractory_seconds=settings.refractory,
        )

    def renewed(self, reload: Callable[[], Settings | None]) -> _Plan | None:
        """The plan of new settings when there are any, and they can be."""
        try:
            wanted = reload()
            return None if wanted is None else _Plan(wanted, self._stop, self._log)
        except EdgeDetectError as reason:
            self._log.error(f"{reason}; what was in force before stays so")
            return None

    def source(self) -> LiveSource:
        """The microphone, not open yet."""
        settings = self.settings
        limits = Limits(
            stall=settings.stall,
            silent=settings.silent_after,
            connect_timeout=settings.connect_seconds,
            recover_timeout=settings.recover_seconds,
        )
        return LiveSource(self.device, self.detector.sample_rate, limits, settings.channel)

    def same_microphone(self, other: _Plan) -> bool:
        """Whether the source of one plan serves the other."""
        rates = self.detector.sample_rate == other.detector.sample_rate
        return rates and all(getattr(self.settings, name) == getattr(other.settings, name) for name in _MICROPHONE)

    def run(self, blocks: Iterator[Block], source: LiveSource, service: Service) -> int:
        """One run, until the blocks end; gives its exit code. What is heard from one run to the next is not lost."""
        settings, detector = self.settings, self.detector
        reports: list[Report] = []
        try:
            self._open(reports, source, service)
            report = Several(reports)
            # The source itself ends when asked to, after what it had already heard.
            summary, trouble = run(
                blocks,
                detector,
                report,
                duration_seconds=settings.duration,
                governor=_governor(settings, detector),
                alarms=Alarms(self._rules),
            )
        finally:
            for opened in reports:
                opened.close()
        if trouble is not None:
            self._log.error(str(trouble))
            return trouble.exit_code
        return SPOOF_FOUND if settings.fail_on_spoof and summary.verdict is Verdict.SPOOF else 0

    def _open(self, reports: list[Report], source: LiveSource, service: Service) -> None:
        """Adds all reports. The ledger and the evidence come before standard output, whose reader may be gone."""
        settings, contract = self.settings, self.detector.network.contract
        about = {
            "device": source.title,
            "model": contract.name,
            "model_sha256": self.detector.network.sha256,
            "version": __version__,
        }
        front = open_report(settings, f"{source.title}; Ctrl-C ends", wall=time.time)
        reports.append(_Teller(service, self._log, source, about, aloud=not _seen()))
        if settings.ledger:
            reports.append(LedgerReport(Ledger(settings.ledger, about, self._log.warning), tell=front.event))
        if settings.save_clips:
            budget_bytes = round(settings.clip_budget * _MEGABYTE)
            reports.append(
                Evidence(
                    settings.save_clips,
                    settings.clip_before,
                    settings.clip_after,
                    budget_bytes,
                    about,
                    self.detector.sample_rate,
                    self._log.warning,
                )
            )
        if settings.exec:
            reports.append(Hook(settings.exec, settings.exec_timeout, self._log.warning, about))
        reports.append(front)


class _Turn:
    """The blocks of one run, which ends when another configuration is to be used."""

    def __init__(self, blocks: Iterator[Block], reload: Callable[[], Settings | None], plan: _Plan) -> None:
        self.next: _Plan | None = None
        self._blocks = blocks
        self._reload = reload
        self._plan = plan

    def blocks(self) -> Iterator[Block]:
        """Until then; the iterator behind it stays open."""
        for block in self._blocks:
            yield block
            self.next = self._plan.renewed(self._reload)
            if self.next is not None:
                return


def _governor(settings: Settings, detector: Detector) -> Governor:
    # With auto the hop found at the start may have been measured in a bad moment: the governor may go below it.
    window_seconds = detector.window_samples / detector.sample_rate
    shortest = min(SHORTEST_SECONDS if settings.hop == AUTO else detector.hop_seconds, window_seconds)
    grain_seconds = detector.network.contract.hop_multiple / detector.sample_rate
    return Governor(shortest, window_seconds, detector.hop_seconds, grain_seconds)


def _seen() -> bool:
    """Whether standard output leads anywhere: a service's goes to /dev/null."""
    try:
        return sys.stdout is not None and os.fstat(sys.stdout.fileno()).st_rdev != os.stat(os.devnull).st_rdev
    except (OSError, ValueError):
        return True
