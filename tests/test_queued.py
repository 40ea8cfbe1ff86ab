"""A reader that does not read makes nobody wait: lines keep their order, alarms outlast windows, losses are counted."""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import threading

from hypothesis import given
from hypothesis import strategies as st

from edge_runtime.system.log import Log
from edge_runtime.system.queued import Queued, Rank

_LOST = re.compile(rb"lost (\d+)")


def all_of(descriptor: int) -> list[bytes]:
    """All lines until the other end is closed."""
    with open(descriptor, "rb") as file:
        return file.read().splitlines()


def through(ranks: list[Rank], lines: int) -> tuple[list[bytes], Queued]:
    """What a reader finds that reads only when all is said; the pipe between holds a page."""
    heard, said = os.pipe()
    fcntl.fcntl(said, fcntl.F_SETPIPE_SZ, 4096)
    os.write(said, b"\n" * 4096)  # so that the first line waits already
    queue = Queued(said, gap=lambda count: b"lost %d\n" % count, lines=lines)
    for number, rank in enumerate(ranks):
        queue.put(b"%d %d\n" % (number, rank), rank)
    found: list[bytes] = []
    reader = threading.Thread(target=lambda: found.extend(all_of(heard)))
    reader.start()
    assert queue.finish() == 0
    os.close(said)
    reader.join()
    return [line for line in found if line], queue


@given(st.lists(st.sampled_from([Rank.WINDOW, Rank.EVENT, Rank.LASTING]), max_size=300), st.integers(1, 40))
def test_lines_keep_their_order_and_every_loss_is_counted(ranks: list[Rank], lines: int) -> None:
    found, queue = through(ranks, lines)
    numbers = [int(line.split()[0]) for line in found if not _LOST.match(line)]
    assert numbers == sorted(set(numbers))
    gaps = sum(int(match[1]) for line in found if (match := _LOST.match(line)))
    assert gaps == queue.lost == len(ranks) - len(numbers)
    if ranks.count(Rank.LASTING) < lines:
        kept = [number for number in numbers if ranks[number] is Rank.LASTING]
        assert len(kept) == ranks.count(Rank.LASTING)


def test_a_reader_that_comes_back_finds_the_newest_windows_and_all_alarms() -> None:
    ranks = [Rank.LASTING if number % 50 == 0 else Rank.WINDOW for number in range(2000)]
    found, queue = through(ranks, 100)
    assert [line for line in found if line.endswith(b" 3")] == [b"%d 3" % number for number in range(0, 2000, 50)]
    assert found[-1] == b"1999 1" and queue.lost > 1800
    assert sum(line.startswith(b"lost") for line in found) <= 2


def test_of_a_screen_only_the_newest_state_waits() -> None:
    found, queue = through([Rank.EVENT, *[Rank.FRAME] * 500], 10)
    assert found[-1] == b"500 0" and len(found) <= 3
    assert queue.lost == 0


def test_an_end_does_not_wait_for_a_reader_that_does_not_read() -> None:
    heard, said = os.pipe()
    os.set_blocking(said, False)
    with contextlib.suppress(BlockingIOError):
        while True:
            os.write(said, bytes(4096))
    os.set_blocking(said, True)
    queue = Queued(said, gap=lambda count: b"")
    for number in range(5):
        queue.put(b"%d\n" % number, Rank.WINDOW)
    assert queue.finish() == queue.lost == 5
    with open(said, "w") as stream:  # neither does the log, with a thread or without one
        log = Log("info", stream, journal=False, queued=True)
        log.warning("nobody reads this")
        log.close()
        Log("info", stream, journal=False).error("nor this")
    os.close(heard)


def test_a_reader_that_has_gone_is_noticed() -> None:
    heard, said = os.pipe()
    os.close(heard)
    queue = Queued(said, gap=lambda count: b"")
    queue.put(b"a line\n", Rank.WINDOW)
    assert queue.finish() == 0
    assert isinstance(queue.failure, BrokenPipeError)
    os.close(said)
