"""New settings of a live run are tried beside it: a model may take a minute to try, and listening goes on meanwhile."""

from __future__ import annotations

import threading
from collections.abc import Callable

from edge_runtime.errors import Ended
from edge_runtime.run.plan import Plan
from edge_runtime.settings.schema import Settings
from edge_runtime.system.log import Log

_END_SECONDS = 5.0
"""How long an end waits for ONNX Runtime, which opens a file in one call that nothing can end."""


class Renewal:
    """One plan that is being made in a thread of its own."""

    def __init__(self, settings: Settings, stopped: Callable[[], bool], log: Log) -> None:
        """`stopped` is asked ten times a second and ends a model's trial."""
        self._given_up = threading.Event()
        self._plan: Plan | None = None
        self._error: Exception | None = None
        self._work = (settings, lambda: stopped() or self._given_up.is_set(), log)
        self._thread = threading.Thread(target=self._make, name="renewal", daemon=True)
        try:
            self._thread.start()
        except RuntimeError:  # no thread can be started: then listening has to wait
            self._make()

    @property
    def over(self) -> bool:
        """Whether there is a plan, or what was wrong."""
        return not self._thread.is_alive()

    def result(self) -> Plan | None:
        """The plan once it is `over`; None where it was given up. Raises what was wrong with the settings."""
        if self._error is not None:
            raise self._error
        return self._plan

    def give_up(self) -> None:
        """Ends it, and with it the process in which a model is tried."""
        self._given_up.set()
        if self._thread.ident is not None:
            self._thread.join(_END_SECONDS)

    def _make(self) -> None:
        try:
            self._plan = Plan(*self._work)
        except Ended:
            pass  # the run ends in good order, with what was in force
        except Exception as error:  # whatever goes wrong, the run that listens has to know
            self._error = error
