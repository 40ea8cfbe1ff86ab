"""The cutting of many rows, by several processes; what was cut before is not cut a second time."""

from __future__ import annotations

import io
import signal
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from functools import partial
from pathlib import Path

import soundfile
from tqdm import tqdm

from edge_runtime.atomic import whole_file
from edge_runtime.errors import OutputError
from training.pages import tables
from training.pages.alike import print_of
from training.pages.cut import RATE, NotCut, content, cut, git_folder
from training.pages.listed import ListedClip
from training.pages.tables import Line, RowResult


def cut_all(
    rows: Sequence[ListedClip], origin: dict[str, Line], clones: Path, output: Path, jobs: int
) -> list[RowResult]:
    """What became of each of `rows`, in order; the lines of new clips are added to `origin`.

    Raises OutputError when a clip cannot be written, or when a process was killed.
    """
    found = {row.file: made for row in rows if (made := _before(row, origin))}
    left = [row for row in rows if row.file not in found]
    with tables.journal(output) as file, tqdm(total=len(left), desc="cutting", unit="clip", disable=None) as bar:
        for row, made in zip(left, _fresh(left, clones, output, jobs), strict=True):
            found[row.file] = made
            if not made.fault:
                origin[row.file] = tables.line_of(row, made)
                tables.note(file, origin[row.file])
            bar.update()
    return [found[row.file] for row in rows]


def _before(row: ListedClip, origin: dict[str, Line]) -> RowResult | None:
    """What an earlier run made of a row, where the list means the same bytes still."""
    line = origin.get(row.file)
    made = tables.read(line) if line else None
    return made if made and made.sha256.startswith(row.sha256) else None


def _fresh(rows: Sequence[ListedClip], clones: Path, output: Path, jobs: int) -> Iterator[RowResult]:
    work = partial(make, clones=clones, output=output)
    if jobs == 1 or not rows:
        yield from map(work, rows)
        return
    with ProcessPoolExecutor(jobs, initializer=_let_the_parent_end_it) as pool:
        try:
            yield from pool.map(work, rows, chunksize=8)
        except BrokenProcessPool:
            raise OutputError(
                "a process was killed, for want of memory perhaps: the same command goes on where it was, "
                "with --jobs 1 in half of the memory"
            ) from None
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


def _let_the_parent_end_it() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def make(row: ListedClip, clones: Path, output: Path) -> RowResult:
    """Cuts the clip of one row and writes it. Raises OutputError when it cannot be written."""
    git = git_folder(clones, row)
    if git is None:
        return RowResult(NO_CLONE)
    try:
        found = cut(content(git, row))
    except NotCut as reason:
        return RowResult(str(reason))
    sound = io.BytesIO()
    soundfile.write(sound, found.samples, RATE, subtype="PCM_16", format="FLAC")
    with whole_file(output / row.file) as temporary:
        temporary.write_bytes(sound.getvalue())
    course = print_of(found.whole, RATE).tobytes()
    return RowResult("", found.sha256, found.offset, len(found.samples), len(found.whole), course)


NO_CLONE = "there is no clone of its repository"
