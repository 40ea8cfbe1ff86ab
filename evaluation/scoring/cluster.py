"""A running Dask cluster as a pool of workers."""

from __future__ import annotations

import hashlib
import logging
import pickle
import re
import time
from collections.abc import Callable
from concurrent.futures import CancelledError, Future
from typing import Any

from edge_runtime.errors import InputError, UsageError
from edge_runtime.system.extras import demand

_PATIENCE_SECONDS = 120.0  # without any worker, as while a cluster's machines start again
_ANSWER_SECONDS = 10
_COUNT_SECONDS = 5.0  # between two counts of the workers
_AGAIN = "then run the same command again to go on"


class ClusterPool:
    """The workers of a Dask cluster. They need this clone on their Python's path, and the clips where they are here.

    Dask itself gives a dead worker's batch to another one, and a few times over (its setting `allowed-failures`) before
    it says that a batch kills workers: https://distributed.dask.org/en/stable/resilience.html.
    """

    tries_alone = 1

    def __init__(self, address: str, setup: Callable[[Any], None], argument: Any) -> None:
        """`setup(argument)` is sent to each worker once, and to those that join or start again later.

        Raises UsageError unless `address` is of the form `tcp://host:port`, InputError when no scheduler answers there
        or its workers cannot be used.
        """
        if not re.fullmatch(r"[a-z]+://\S+:\d+", address):
            raise UsageError(f"a cluster is named as tcp://HOST:PORT, not {address}")
        demand("cluster", "distributed")
        import distributed

        for name in [*logging.root.manager.loggerDict, "asyncio"]:  # what matters is said by an error of ours
            if name.partition(".")[0] in ("distributed", "tornado", "asyncio"):
                logging.getLogger(name).setLevel(logging.CRITICAL + 1)
        self._address = address
        self.deaths: tuple[type[BaseException], ...] = (distributed.KilledWorker,)
        try:
            self._client = distributed.Client(address, timeout=_ANSWER_SECONDS, set_as_default=False)
        except (OSError, ValueError, TypeError) as reason:
            raise InputError(f"no Dask scheduler answers at {address}: {_line(reason)}") from None
        try:
            self._client.wait_for_workers(1, timeout=_ANSWER_SECONDS)
            self._client.register_plugin(_plugin(setup, argument))
        except TimeoutError:
            self._client.close()
            raise InputError(f"the cluster at {address} has no workers: start some with `dask worker`") from None
        except Exception as reason:  # what the workers' Python raised: mostly that they lack this clone
            self._client.close()
            raise InputError(
                f"the workers at {address} cannot run this ({_line(reason)}): start them in the clone's folder and "
                "with its environment"
            ) from None
        self._executor = self._client.get_executor(pure=False)
        self._counted, self._seen, self._slots = 0.0, time.monotonic(), 1

    def slots(self) -> int:
        """Threads of all workers; a cluster grows and shrinks."""
        if time.monotonic() - self._counted > _COUNT_SECONDS:
            try:
                count = sum(self._client.nthreads().values())
            except (OSError, CancelledError):
                raise self.gone() from None
            self._counted = time.monotonic()
            if count:
                self._slots, self._seen = count, self._counted
        return self._slots

    def submit(self, function: Callable[..., Any], *arguments: Any) -> Future[Any]:
        """Runs it on a worker."""
        future: Future[Any] = self._executor.submit(function, *arguments)
        return future

    def check(self) -> None:
        """Raises InputError when the scheduler is gone, or all workers have been for two minutes."""
        if self._client.status not in ("running", "connecting"):
            raise self.gone()
        self.slots()
        if time.monotonic() - self._seen > _PATIENCE_SECONDS:
            raise InputError(
                f"the cluster at {self._address} has had no workers for {_PATIENCE_SECONDS:g} s: start some, {_AGAIN}"
            )

    def gone(self) -> InputError:
        """The error of a scheduler that went away."""
        return InputError(f"the Dask scheduler at {self._address} is gone: start one, {_AGAIN}")

    def recover(self) -> None:
        """Nothing to do: the cluster looks after its workers."""

    def close(self) -> None:
        """Gives up what is not done, and leaves the cluster as it was."""
        if self._client.status == "running":
            self._executor.shutdown(wait=False)
        self._client.close()


def _plugin(setup: Callable[[Any], None], argument: Any) -> Any:
    """What a worker runs when it is told to, or starts; the same setup of the same thing counts as one plugin."""
    begin, digest = setup, hashlib.sha256(pickle.dumps((setup, argument))).hexdigest()
    from distributed.diagnostics.plugin import WorkerPlugin

    class Setup(WorkerPlugin):  # within a function it is pickled whole, and asks nothing of the workers' path
        name = f"edge-detect-{digest}"

        def setup(self, worker: Any) -> None:
            begin(argument)

    return Setup()


def _line(reason: BaseException) -> str:
    lines = str(reason).strip().splitlines()
    return lines[0].rstrip(":. ") if lines else type(reason).__name__
