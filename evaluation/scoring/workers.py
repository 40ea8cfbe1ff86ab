"""Work spread over processes of this machine or of a Dask cluster, so that a worker that dies loses nothing."""

from __future__ import annotations

import multiprocessing
import os
import pickle
import shutil
import signal
import tempfile
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, CancelledError, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Any, Protocol, TypeVar

from edge_runtime.errors import InputError, UsageError

Item = TypeVar("Item")
Result = TypeVar("Result")

BATCHES_A_SLOT = 3
"""Batches out at once for each that can run: enough that no worker waits, and memory does not grow with the list."""
_STARTS = 3  # of processes that die at once, before it is held to be no accident
_LOOK_SECONDS = 5.0  # between two looks at whether anybody still works


class Pool(Protocol):
    """Where batches run: an executor, and what `spread` must know of it."""

    deaths: tuple[type[BaseException], ...]
    """What a future raises when the worker that ran it died."""
    tries_alone: int
    """How often an item is tried by itself, after a worker died with it, before it is held to be the cause."""

    def slots(self) -> int:
        """Batches that can run at once, now."""

    def submit(self, function: Callable[..., Any], *arguments: Any) -> Future[Any]:
        """As `concurrent.futures.Executor.submit`; may raise one of `deaths` itself."""

    def check(self) -> None:
        """Raises InputError when nobody is there to work any more."""

    def gone(self) -> InputError:
        """The error of a pool whose futures were cancelled under it."""

    def recover(self) -> None:
        """Makes the pool fit to work after a worker died."""

    def close(self) -> None:
        """Ends it; what has not begun is given up."""


def spread(
    pool: Pool,
    function: Callable[[list[Item]], list[Result]],
    items: Iterable[Item],
    fatal: Callable[[Item], Result],
    batch_items: int = 4,
) -> Iterator[list[Result]]:
    """The results of `function` on all `items`, in lists as they come: each item's exactly once, in no order.

    When a worker dies, what was out is done again one item at a time; an item whose worker dies each time gets the
    result of `fatal`. So a clip that kills whoever opens it costs that clip, and a worker killed by someone else costs
    nothing. `items` are taken as they are needed. What `function` raises ends the whole, and so does InputError where
    there are no workers left.
    """
    rest = iter(items)
    out: dict[Future[list[Result]], list[Item]] = {}
    suspects: list[Item] = []
    while True:
        while not suspects and len(out) < BATCHES_A_SLOT * pool.slots():
            batch = list(islice(rest, batch_items))
            if not batch:
                break
            try:
                out[pool.submit(function, batch)] = batch
            except pool.deaths:
                suspects += batch
        if not out and not suspects:
            return
        while out:
            done = _some(pool, out)
            for future in done:
                batch = out.pop(future)
                try:
                    results = future.result()
                except pool.deaths:
                    suspects += batch
                except CancelledError:
                    raise pool.gone() from None
                else:
                    yield results
            if not suspects:  # else all that is out comes in first: the suspects are tried with nobody beside them
                break
        if suspects:
            pool.recover()
            for item in suspects:
                yield [_alone(pool, function, item, fatal)]
            suspects = []


def _some(pool: Pool, futures: Iterable[Future[Any]]) -> set[Future[Any]]:
    """Those that are done, at least one."""
    while True:
        done, _ = wait(futures, timeout=_LOOK_SECONDS, return_when=FIRST_COMPLETED)
        if done:
            return done
        pool.check()


def _alone(
    pool: Pool, function: Callable[[list[Item]], list[Result]], item: Item, fatal: Callable[[Item], Result]
) -> Result:
    for _ in range(pool.tries_alone):
        try:
            (future,) = _some(pool, [pool.submit(function, [item])])
            (result,) = future.result()
        except pool.deaths:
            pool.recover()
        except CancelledError:
            raise pool.gone() from None
        else:
            return result
    return fatal(item)


@contextmanager
def workers(jobs: int | None, cluster: str | None, setup: Callable[[Any], None], argument: Any) -> Iterator[Pool]:
    """The pool for `--jobs` and `--cluster`, closed at the end of the block.

    `setup(argument)` is called once in each worker process before it works; both are pickled. `jobs` None means as many
    as there are cores. `cluster` is the address of a Dask scheduler; `jobs` does not count then. Raises UsageError for
    fewer than 1 job, InputError when there is no cluster to be had.

    Processes of this machine begin by importing the main module, so a script that calls this does so under
    `if __name__ == "__main__":`.
    """
    if jobs is not None and jobs < 1:
        raise UsageError(f"at least one job is needed, not {jobs}")
    pool: Pool
    if cluster is None:
        pool = LocalPool(jobs or cores(), setup, argument)
    else:
        from evaluation.scoring.cluster import ClusterPool  # needs Dask

        pool = ClusterPool(cluster, setup, argument)
    try:
        yield pool
    finally:
        pool.close()


def cores() -> int:
    """Cores that this process may use: a container or `taskset` may give it fewer than there are."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class LocalPool:
    """Processes of this machine."""

    deaths: tuple[type[BaseException], ...] = (BrokenProcessPool,)
    tries_alone = 2

    def __init__(self, jobs: int, setup: Callable[[Any], None], argument: Any) -> None:
        """`setup(argument)` is called in each process before it works."""
        # By a file, as a process that dies before it has read megabytes from its parent's pipe blocks the parent.
        self._folder = tempfile.TemporaryDirectory(prefix="edge-detect-")
        setup_file = Path(self._folder.name) / "setup.pickle"
        setup_file.write_bytes(pickle.dumps((setup, argument)))
        self._jobs, self._setup_file = jobs, setup_file
        self._executor = self._new()

    def _new(self) -> ProcessPoolExecutor:
        # Not forked: ONNX Runtime's threads and locks do not survive that.
        context = multiprocessing.get_context("spawn")
        return ProcessPoolExecutor(self._jobs, context, initializer=_begin_process, initargs=(self._setup_file,))

    def slots(self) -> int:
        """The processes."""
        return self._jobs

    def submit(self, function: Callable[..., Any], *arguments: Any) -> Future[Any]:
        """Runs it in one of them."""
        return self._executor.submit(function, *arguments)

    def check(self) -> None:
        """Nothing to do: the executor itself notices dead processes."""

    def gone(self) -> InputError:
        """Cannot be, except for a program error."""
        return InputError("the worker processes were ended from outside: run the same command again")

    def recover(self) -> None:
        """New processes in the place of all. Raises InputError when they die without having been given any work."""
        for _ in range(_STARTS):
            self._executor.shutdown(wait=True, cancel_futures=True)
            self._executor = self._new()
            try:
                self._executor.submit(os.getpid).result()
            except BrokenProcessPool:
                continue
            return
        raise InputError(
            "the worker processes die as they start: is there enough memory for --jobs of them? "
            "What is done is kept; run the same command again to go on"
        )

    def close(self) -> None:
        """Waits for what runs."""
        self._executor.shutdown(wait=True, cancel_futures=True)
        self._folder.cleanup()


def _begin_process(setup_file: Path) -> None:
    """What a worker process of this machine does first."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches all processes of a terminal; the parent decides
    threading.Thread(target=_end_with_parent, args=(setup_file.parent,), daemon=True).start()
    setup, argument = pickle.loads(setup_file.read_bytes())
    setup(argument)


def _end_with_parent(folder: Path) -> None:
    """A parent that was killed tells its workers nothing, and they would wait for work for ever."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        shutil.rmtree(folder, ignore_errors=True)
        os._exit(1)
