"""Run a plan: skip what is made, spread the rest over processes, show progress, sum up."""

from __future__ import annotations

import os
import sys
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, field, replace
from itertools import islice
from multiprocessing import get_context
from pathlib import Path

from tqdm import tqdm

from edge_runtime.errors import OutputError
from training.synthesize.clips import LIST, read_rows
from training.synthesize.make import TaskResult, attempt
from training.synthesize.plan import Task


@dataclass
class EngineTally:
    """What one engine made in this run."""

    clips: int = 0
    seconds: float = 0.0
    cost: float = 0.0
    failures: list[str] = field(default_factory=list)


def already_made(folder: Path) -> set[str]:
    """Files of `folder` that have both a row and a file."""
    table = folder / LIST
    if not table.is_file():
        return set()
    return {row.file for row in read_rows(table) if (folder / row.file).is_file()}


def one_thread() -> None:
    """Keep a worker's libraries to one thread each: the processes are the parallelism."""
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ[name] = "1"


def timed(task: Task, folder: Path) -> TaskResult:
    """`attempt` with the CPU seconds it took, those of finished child programs included."""
    before = os.times()
    outcome = attempt(task, folder)
    return replace(outcome, cost=sum(os.times()[:4]) - sum(before[:4]))


def outcomes(tasks: Sequence[Task], folder: Path, jobs: int) -> Iterator[TaskResult]:
    """Outcomes as they come, over `jobs` processes; one job stays in this process."""
    if jobs == 1:
        yield from (timed(task, folder) for task in tasks)
        return
    left = iter(tasks)
    with ProcessPoolExecutor(jobs, mp_context=get_context("spawn"), initializer=one_thread) as pool:
        try:
            running = {pool.submit(timed, task, folder) for task in islice(left, 2 * jobs)}
            while running:
                done, running = wait(running, return_when=FIRST_COMPLETED)
                running |= {pool.submit(timed, task, folder) for task in islice(left, len(done))}
                yield from (future.result() for future in done)
        except BrokenProcessPool:
            raise OutputError("a process was killed (no memory left?): call again with fewer --jobs") from None
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


def run(tasks: Sequence[Task], folder: Path, jobs: int, until: float = float("inf")) -> int:
    """Make what `tasks` lack in `folder`, until the time `until` (seconds since 1970); the exit code.

    0: done; 3: a human clip cannot be read; 5: the output cannot be written.
    """
    try:
        (folder / "spoof").mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"{folder}: cannot be made ({error.strerror})") from None
    made = already_made(folder)
    todo = [task for task in tasks if task.file not in made]
    print(f"{len(tasks)} clips planned, {len(tasks) - len(todo)} already made", file=sys.stderr)
    tallies: dict[str, EngineTally] = defaultdict(EngineTally)
    code = 0
    for outcome in tqdm(outcomes(todo, folder, jobs), total=len(todo), unit="clip", mininterval=1.0):
        tally = tallies[outcome.engine]
        tally.cost += outcome.cost
        if outcome.failed:
            tally.failures.append(outcome.failed)
        else:
            tally.clips += 1
            tally.seconds += outcome.seconds
        if outcome.stop:
            print(outcome.failed, file=sys.stderr)
            code = outcome.stop
        if code or time.time() > until:
            break
    report(tallies)
    return code


def report(tallies: dict[str, EngineTally]) -> None:
    """One line an engine: clips, minutes, CPU seconds a second of audio, failures with the last reason."""
    for name, tally in sorted(tallies.items()):
        factor = tally.cost / tally.seconds if tally.seconds else 0.0
        line = f"{name}: {tally.clips} clips, {tally.seconds / 60:.1f} min, {factor:.3f} CPU s per s of audio"
        if tally.failures:
            line += f"; {len(tally.failures)} failed, the last one: {tally.failures[-1]}"
        print(line)
