"""Live mode: listens to one source for as long as it is wanted, through new configurations too."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable, Iterator

from edge_runtime.capture.block import Block
from edge_runtime.decision.alarm import Alarms
from edge_runtime.errors import SPOOF_FOUND, EdgeDetectError, ModelError, OutputError
from edge_runtime.report.front import finish
from edge_runtime.report.output import ReaderGone
from edge_runtime.run.plan import Plan
from edge_runtime.run.renewal import Renewal
from edge_runtime.run.service import Service
from edge_runtime.run.stop import ORDERLY_SECONDS, Stop
from edge_runtime.settings.schema import AUTO, Settings
from edge_runtime.system.log import Log

Reload = Callable[[], Settings | None]


def run_device(settings: Settings, stop: Stop, reload: Reload) -> int:
    """Listens to a microphone, a stream or a live pipe until asked to stop, or its end, and gives the exit code.

    `reload` gives new settings when somebody asked for them: they are tried beside the run, which then ends in good
    order, and another begins with them, on the same open source where they leave that as it is. New settings that
    cannot be are reported, and the old ones stay. A command for alarms that is not there keeps no run from beginning.
    Raises InputError for a source that is not there, ModelError, OutputError, ReaderGone or UsageError.
    """
    log = Log(settings.log_level, queued=True, modules=True)
    service = Service.from_environment()
    live: _Live | None = None
    try:
        live = _Live(Plan(settings, stop, log, patient=True), stop, reload, service, log)
        stop.patience = ORDERLY_SECONDS
        code = live.run()
        finish()
        return code
    finally:
        service.stopping("ended")
        if live:
            live.close()
        with contextlib.suppress(OutputError, ReaderGone):  # an error has to end with its own words
            finish()
        log.close()


def rehearse(settings: Settings, stopped: Callable[[], bool]) -> None:
    """Raises the UsageError or ModelError with which `run_device` would not begin, or could not tell of alarms; the
    source is not tried. Raises Ended when it was `stopped()`."""
    # The hop `auto` is measured, and nothing about it can be wrong.
    hop = None if settings.hop == AUTO else settings.hop
    Plan(dataclasses.replace(settings, hop=hop), stopped, Log("warning"))


class _Live:
    """All runs from the start of the program to its end."""

    def __init__(self, plan: Plan, stop: Stop, reload: Reload, service: Service, log: Log) -> None:
        self._plan = plan
        self._before: Plan | None = None  # what to go back to when the plan cannot be
        self._stop = stop
        self._reload = reload
        self._renewal: Renewal | None = None
        self._service = service
        self._log = log
        self._alarms = Alarms(plan.rules)
        self._heard_seconds = 0.0
        self._found = 0
        self._leaving = False
        self._connect(patient=False)

    def run(self) -> int:
        """Runs one after the other; the exit code of the worst that happened."""
        while True:
            try:
                reports = self._plan.open_reports(self._source, self._service)
            except Exception as reason:
                if self._before is None:
                    raise
                self._log.error(f"{reason}; what was in force before is so again")
                self._change(self._before)
                self._before = None
                continue
            self._service.ready(f"{self._source.state}: {self._source.title}")
            self._next: Plan | None = None
            begun = self._heard_seconds
            duration = self._plan.settings.duration
            code = self._plan.run(self._until_news(), reports, self._alarms, duration and duration - begun)
            self._found = code or self._found
            if (
                self._stop()
                or self._next is None
                or code not in (0, SPOOF_FOUND, ModelError.exit_code)
                or (duration and self._heard_seconds >= duration)
            ):
                return self._found
            self._service.reloading()
            self._alarms = self._alarms.carried_on(self._next.rules, self._heard_seconds - begun)
            self._before, old = self._plan, self._plan
            self._change(self._next)
            self._log.set_level(self._plan.settings.log_level)
            self._log.info(f"the configuration {old.settings.config or ''} was read again".replace("  ", " "))

    def close(self) -> None:
        """Lets the source go, and gives up a plan that is still being made."""
        if self._renewal is not None:
            self._renewal.give_up()
        self._source.close()

    def _change(self, plan: Plan) -> None:
        other = not plan.same_source(self._plan)
        self._plan = plan
        if other:
            self._source.close()
            self._connect(patient=True)
        else:
            self._source.limit(plan.limits(patient=True))

    def _connect(self, patient: bool) -> None:
        self._leaving = False
        self._source = self._plan.source(patient)
        if not patient and self._plan.settings.connect_seconds == 0:
            self._source.connect(self._stop)
        self._blocks = self._source.blocks(lambda: self._stop() or self._leaving)

    def _until_news(self) -> Iterator[Block]:
        """The blocks until another plan is to be used; unless it is of another source, the source stays open."""
        for block in self._blocks:
            self._heard_seconds += len(block.samples) / self._plan.detector.sample_rate
            yield block
            if self._leaving or self._stop():
                continue  # to the end of what was heard
            self._next = self._renewed()
            if self._next is not None and not self._stop():
                self._leaving = not self._next.same_source(self._plan)
                if not self._leaving:
                    return

    def _renewed(self) -> Plan | None:
        """The plan of new settings when there are any, and they can be; whatever goes wrong, the old one stays.

        It is made beside the run. Whoever asks again meanwhile is heeded after it.
        """
        self._service.alive()
        try:
            if self._renewal is None:
                wanted = self._reload()
                if wanted is not None:
                    self._renewal = Renewal(wanted, self._stop, self._log)
            if self._renewal is None or not self._renewal.over:
                return None
            renewal, self._renewal = self._renewal, None
            plan = renewal.result()
            if plan is not None:
                plan.same_source(self._plan)  # raises what cannot be
            return plan
        except EdgeDetectError as reason:
            self._log.error(f"{reason}; what was in force before stays so")
        except Exception as reason:  # a mistake of ours, or no memory: neither is a reason not to listen
            said = " ".join(str(reason).split())[:200]
            self._log.error(f"new settings failed ({type(reason).__name__}: {said}); what was in force before stays so")
        return None
