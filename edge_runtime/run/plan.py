"""What a configuration asks for, opened: the detector, the rules of alarms, the source, all that wants to know."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from edge_runtime.capture.block import CHANNELS, CLOCK, IDENTITY, OUTAGE, STATE, Block, Event
from edge_runtime.capture.liveness import LivenessLimits, State
from edge_runtime.capture.source import LiveSource
from edge_runtime.capture.wanted import Kind
from edge_runtime.decision.alarm import ON, Alarm, Alarms
from edge_runtime.decision.verdict import Reason, Verdict, Window
from edge_runtime.errors import SPOOF_FOUND, ModelError, UsageError
from edge_runtime.governor import SHORTEST_SECONDS, Governor
from edge_runtime.report import Report, Several
from edge_runtime.report.evidence import Evidence
from edge_runtime.report.front import front
from edge_runtime.report.hook import Hook, need, split
from edge_runtime.report.ledger.accounting import LedgerReport
from edge_runtime.report.ledger.writer import Ledger
from edge_runtime.report.light import Light
from edge_runtime.run.listen import run
from edge_runtime.run.opening import alarm_rules, numberless, open_detector, open_report, wanted
from edge_runtime.run.service import Service
from edge_runtime.settings.schema import AUTO, Settings
from edge_runtime.shadow.order import TrialRequest
from edge_runtime.shadow.report import Shadow
from edge_runtime.system.log import Log
from edge_runtime.version import __version__

if TYPE_CHECKING:
    from edge_runtime.detector import Detector

_MEGABYTE = 1_000_000


class Plan:
    """Settings that can be: the model is open, and the rules and the command are in order."""

    def __init__(self, settings: Settings, stop: Callable[[], bool], log: Log, patient: bool = False) -> None:
        """Raises UsageError or ModelError for what cannot be.

        `patient`: that the command for alarms is not there is told only, as it may come later. It is no reason not to
        listen, but one to stay with a configuration whose command is there.
        """
        if not settings.listens:
            raise UsageError("the configuration names no live source any more (device, stream or live)")
        self.settings = settings
        self.wanted = wanted(settings)
        self.detector = open_detector(settings, stop, log)
        self._log = log
        self.rules = alarm_rules(settings, self.detector.thresholds)
        if settings.exec:
            split(settings.exec)
            try:
                need(settings.exec)
            except UsageError as reason:
                if not patient:
                    raise
                log.warning(f"{reason}: listening goes on, and each alarm tries it again")

    def source(self, patient: bool) -> LiveSource:
        """The source, not open yet. `patient`: one that is not there is waited for as if it had been there."""
        return LiveSource(self.wanted, self.detector.sample_rate, self.limits(patient))

    def limits(self, patient: bool) -> LivenessLimits:
        """What the settings say of the time that the source has."""
        settings = self.settings
        return LivenessLimits(
            stall=settings.stall,
            silent=settings.silent_after,
            connect_timeout=settings.recover_seconds if patient else settings.connect_seconds,
            recover_timeout=settings.recover_seconds,
        )

    def same_source(self, other: Plan) -> bool:
        """Whether the source of one plan serves the other.

        Raises UsageError where it is one pipe that is to be read in two ways: it cannot be opened again.
        """
        same = (self.wanted, self.detector.sample_rate) == (other.wanted, other.detector.sample_rate)
        pipes = self.wanted.kind is other.wanted.kind is Kind.PIPE
        if pipes and not same and self.wanted.name == other.wanted.name:
            raise UsageError(
                "a pipe that is open is read on as it is: for another raw, rate, channels or channel start again"
            )
        return same

    def open_reports(self, source: LiveSource, service: Service) -> list[Report]:
        """All that wants to know of a run. Ledger and evidence come before standard output, whose reader may go.

        Raises OutputError or UsageError for what cannot be written or run; nothing stays open then.
        """
        reports: list[Report] = []
        try:
            self._open(reports, source, service)
        except BaseException:
            close(reports)
            raise
        return reports

    def run(self, blocks: Iterator[Block], reports: list[Report], alarms: Alarms, duration: float | None) -> int:
        """One run, until the blocks end or `duration` seconds of sound are heard; closes the reports. The exit code."""
        try:
            summary, trouble = run(
                blocks,
                self.detector,
                Several(reports),
                duration_seconds=duration,
                governor=_governor(self.settings, self.detector),
                alarms=alarms,
            )
        finally:
            close(reports)
        if trouble is not None:
            self._log.error(str(trouble))
            return trouble.exit_code
        if self.detector.numberless:
            self._log.error(numberless(self.detector.numberless))
            return ModelError.exit_code
        return SPOOF_FOUND if self.settings.fail_on_spoof and summary.verdict is Verdict.SPOOF else 0

    def _open(self, reports: list[Report], source: LiveSource, service: Service) -> None:
        settings, contract = self.settings, self.detector.network.contract
        about = {
            "device": source.title,
            "model": contract.name,
            "model_sha256": self.detector.network.sha256,
            "version": __version__,
        }
        teller = _Teller(service, self._log, source, about, aloud=not _seen())
        reports.append(teller)
        if settings.ledger:
            told: list[Report] = [teller]

            def tell(at_seconds: float, event: Event) -> None:
                for report in told:
                    report.event(at_seconds, event)

            ledger = Ledger(settings.ledger, about, self._log.warning)
            # What a reader of the blocks has not had yet belongs to this run.
            ago = 0.0 if source.told_until is None else max(0.0, time.monotonic() - source.told_until)
            reports.append(LedgerReport(ledger, tell, ago))
        if settings.save_clips:
            reports.append(
                Evidence(
                    settings.save_clips,
                    settings.clip_before,
                    settings.clip_after,
                    round(settings.clip_budget * _MEGABYTE),
                    about,
                    self.detector.sample_rate,
                    self._log.warning,
                )
            )
        if settings.exec:
            reports.append(Hook(settings.exec, settings.exec_timeout, self._log.warning, about))
        if settings.light:
            reports.append(Light(settings.light, lambda: source.state is State.LISTENING, self._log.warning))
        if order := TrialRequest.of(settings, self.detector):
            reports.append(Shadow(order, self._log))
        shown = open_report(
            settings,
            f"{source.title}; Ctrl-C ends",
            wall=time.time,
            output=front(self._log.warning),
            thresholds=self.detector.thresholds,
        )
        reports.append(shown)
        if settings.ledger:
            told.append(shown)


def close(reports: list[Report]) -> None:
    """Has all write what they hold back."""
    for report in reports:
        report.close()


class _Teller(Report):
    """Tells the service manager that the loop goes round, and the log what people should know of a long run."""

    def __init__(self, service: Service, log: Log, source: LiveSource, about: dict[str, str], aloud: bool) -> None:
        """`about` is kept up to date with the source. `aloud`: nobody sees standard output, so the log has all."""
        self._service = service
        self._log = log
        self._source = source
        self._about = about
        self._aloud = aloud
        self._alarm: Alarm | None = None
        self._scored = False

    def window(self, window: Window) -> None:
        if window.reason is Reason.MODEL:
            self._log.warning("the model gave no number for a window: it is unsure", key="model")
        if self._aloud and not self._scored and window.score is not None:
            self._scored = True
            self._log.info(f"the first window with speech is scored: {window.score:+.2f}")

    def moment(self, absent_seconds: float) -> None:
        self._service.alive()
        self._service.status(f"{self._source.state}: {self._source.title}" + (", ALARM" if self._alarm else ""))

    def event(self, at_seconds: float, event: Event) -> None:
        self._about["device"] = self._source.title
        if not self._aloud:
            return
        if event.kind == STATE:
            text = f"{self._source.kind} {event.state}" + (
                f": {event.reason}" if event.reason else f": {self._source.title}"
            )
            trouble = event.state not in (State.LISTENING, State.CONNECTING)
            (self._log.warning if trouble else self._log.info)(text)
        elif event.kind == OUTAGE:
            self._log.warning(f"no sound for {event.seconds:.1f} s until now", key="outage")
        elif event.kind in (IDENTITY, CLOCK, CHANNELS):
            self._log.warning(event.reason or f"the clock was set by {event.seconds:+.1f} s", key=event.kind)
        else:
            amount = f"{event.count} times" if event.count else f"{event.seconds:.2f} s"
            self._log.warning(f"{event.kind}: {amount} {event.reason}".rstrip(), key=event.kind)

    def alarm(self, alarm: Alarm) -> None:
        self._alarm = alarm if alarm.kind == ON else None
        if self._aloud:
            what = "a synthetic voice" if alarm.kind == ON else f"over ({alarm.reason})"
            self._log.warning(f"ALARM {alarm.number}: {what} (score {alarm.score:+.2f})")


def _governor(settings: Settings, detector: Detector) -> Governor:
    # With auto the hop found at the start may have been measured in a bad moment: the governor may go below it.
    window_seconds = detector.window_samples / detector.sample_rate
    shortest = min(SHORTEST_SECONDS if settings.hop == AUTO else detector.hop_seconds, window_seconds)
    contract = detector.network.contract
    grain_seconds = contract.hop_multiple / detector.sample_rate
    return Governor(shortest, window_seconds, detector.hop_seconds, grain_seconds, by_sound=contract.form == "blocks")


def _seen() -> bool:
    """Whether standard output leads anywhere: a service's goes to /dev/null."""
    try:
        return sys.stdout is not None and os.fstat(sys.stdout.fileno()).st_rdev != os.stat(os.devnull).st_rdev
    except (OSError, ValueError):
        return True
