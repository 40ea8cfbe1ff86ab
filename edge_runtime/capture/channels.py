"""Several channels to one: the mean of those that hold sound, or a single one where the mean would cancel it."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from edge_runtime.decision.quality import clean

_BLOCK_SECONDS = 0.1
_LOOKED_AT = 800
"""Frames of a block that are looked at, evenly spaced: enough for a level, and little memory for many channels."""
_KEPT = 0.98
"""What of the past counts from block to block: half of it after 3.4 s."""
_FAINT = 1e-9
"""Power (-90 dBFS) below which the loudest channel of a block says nothing about any."""
_DEAD, _ALIVE = 1e-4, 1e-3
"""Power beside the loudest channel's below which a channel counts as dead (40 dB), and from which it counts again."""
_UNEVEN = 1e2
"""Ratio of powers (20 dB) from which the user should know that one channel drowns another."""
_SURE_BLOCKS, _LONG_BLOCKS = 3, 30
"""Blocks with sound before anything is said of channels that cancel; of dead or uneven ones, which may be a pause."""

Samples = NDArray[np.float32]


class Mixer:
    """Frames of several channels to mono, the same for every split of the frames.

    After each block of 0.1 s, counted from the start, it looks at the powers of the channels and of their sum, over the
    last seconds with sound. Channels 40 dB below the loudest are left out of the mean. When the mean of the others is
    far fainter than channels that have nothing to do with each other would make it, they cancel, as the two wires of a
    balanced line do: then one of them is taken alone, until they clearly agree. A change is faded over the next block.
    """

    def __init__(self, rate: int) -> None:
        """`rate` in Hz is that of the frames."""
        self._block = max(1, round(rate * _BLOCK_SECONDS))
        self._stride = max(1, self._block // _LOOKED_AT)
        self._place = 0  # in the block
        self._seen: list[Samples] = []  # frames of this block to look at
        self._powers: NDArray[np.float64] | None = None  # of each channel
        self._power_of_sum = 0.0
        self._dead: NDArray[np.bool_] | None = None
        self._alone: int | None = None  # the channel that is taken where the mean cancels
        self._chosen: tuple[int, ...] = ()  # empty before there are frames
        self._before: tuple[int, ...] = ()  # what is faded out in this block
        self._blocks = self._apart = 0  # blocks with sound, and those of them in which channels cancelled
        self._said: set[str] = set()
        self._news: list[str] = []

    def push(self, frames: Samples) -> Samples:
        """The next frames, float32 [n, channels], as mono float32 [n]. The number of channels must not change."""
        if frames.shape[1] == 1:
            return np.ascontiguousarray(frames[:, 0])
        if not self._chosen:
            self._chosen = self._before = tuple(range(frames.shape[1]))
            self._powers, self._dead = np.zeros(frames.shape[1]), np.zeros(frames.shape[1], np.bool_)
        mono = np.empty(len(frames), np.float32)
        done = 0
        while done < len(frames):
            piece = frames[done : done + self._block - self._place]
            with np.errstate(over="ignore", invalid="ignore"):
                mono[done : done + len(piece)] = self._mixed(piece)
            self._seen.append(piece[-self._place % self._stride :: self._stride].copy())
            self._place += len(piece)
            done += len(piece)
            if self._place == self._block:
                self._look(np.concatenate(self._seen))
                self._seen, self._place = [], 0
        return mono

    def news(self) -> list[str]:
        """What people should know of the channels since the last call, a sentence each; none comes twice."""
        news, self._news = self._news, []
        return news

    def _mixed(self, piece: Samples) -> NDArray[np.float64]:
        mixed = _mean(piece, self._chosen)
        if self._before == self._chosen:
            return mixed
        share = np.arange(self._place + 1, self._place + 1 + len(piece)) / self._block
        return share * mixed + (1 - share) * _mean(piece, self._before)

    def _look(self, block: Samples) -> None:
        """Decides on the channels from now on."""
        self._before = self._chosen
        assert self._powers is not None and self._dead is not None
        values = clean(block)[0].astype(np.float64)
        values -= values.mean(axis=0)
        powers = (values * values).mean(axis=0)
        if powers.max() < _FAINT:
            return
        self._blocks += 1
        self._powers = _KEPT * self._powers + powers
        self._power_of_sum = _KEPT * self._power_of_sum + float((values.sum(axis=1) ** 2).mean())
        loudest = self._powers.max()
        self._dead = self._powers < np.where(self._dead, _ALIVE, _DEAD) * loudest
        alive = np.flatnonzero(~self._dead)
        # 1 where the channels are alike, 1 / count where they have nothing to do with each other, 0 where they cancel.
        agreement = self._power_of_sum / (len(alive) * float(self._powers[alive].sum()))
        if len(alive) == 1 or agreement > (1 + 1 / len(alive)) / 2:
            self._alone = None
        elif self._alone is not None or agreement < 1 / (4 * len(alive)):
            self._alone = self._best(loudest)
        self._chosen = tuple(alive.tolist()) if self._alone is None else (self._alone,)
        self._say(alive)

    def _best(self, loudest: float) -> int:
        """The channel that is taken already while it is not much fainter than others, else the first of the loud."""
        assert self._powers is not None
        if self._alone is not None and self._powers[self._alone] > 0.01 * loudest:
            return self._alone
        return int(np.argmax(self._powers > 0.5 * loudest))

    def _say(self, alive: NDArray[np.intp]) -> None:
        assert self._powers is not None
        self._apart += self._alone is not None
        if self._alone is not None and self._apart >= _SURE_BLOCKS:
            self._note(
                "cancel",
                f"the channels cancel each other, as the wires of a balanced line do: channel {self._alone + 1} alone "
                "is scored",
            )
        elif self._alone is None and self._apart >= _SURE_BLOCKS:
            self._note("agree", "the channels agree again: their mean is scored")
        if self._blocks < _LONG_BLOCKS:
            return
        loudest, faintest = int(np.argmax(self._powers)), int(alive[np.argmin(self._powers[alive])])
        if len(alive) < len(self._powers):
            silent = [str(channel + 1) for channel in np.flatnonzero(self._powers < self._powers.max() * _ALIVE)[:8]]
            more = len(self._powers) - len(alive) > len(silent)
            self._note(
                "dead",
                f"channel {', '.join(silent)}{' and others' if more else ''} gives no sound beside channel "
                f"{loudest + 1} (40 dB fainter): left out of the mean",
            )
        if self._alone is None and self._powers[loudest] > _UNEVEN * self._powers[faintest]:
            difference = 10 * np.log10(self._powers[loudest] / self._powers[faintest])
            self._note(
                "uneven",
                f"channel {loudest + 1} is {difference:.0f} dB louder than channel {faintest + 1}, which is hardly "
                f"heard in their mean: if the voice is in channel {faintest + 1}, let that one alone be scored",
            )

    def _note(self, kind: str, text: str) -> None:
        if kind not in self._said:
            self._said.add(kind)
            self._news.append(text)


def _mean(frames: Samples, channels: tuple[int, ...]) -> NDArray[np.float64]:
    """The mean of some channels of float32 [n, all], added in one order whatever n is: float64 [n]."""
    total = frames[:, channels[0]].astype(np.float64)
    for channel in channels[1:]:
        total += frames[:, channel]
    return total / len(channels)
