"""Scores of whole clips by a PyTorch model, over the same windows that the runtime takes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from edge_runtime.detector import TAIL_SECONDS
from edge_runtime.model.contract import HIGH_PASS_HZ
from edge_runtime.model.frontend import FilterBank
from edge_runtime.model.highpass import filtered
from export.blocks import summary
from export.rawnet2 import Config, RawNet2
from training.batches import repeat_to

CLIPS = 64
"""Clips that are held as floats at a time."""
PADDED = 1.25
"""How much longer a stream may be than another that goes through the encoder with it, and is filled up to it."""


def as_judged(clip: NDArray[np.int16], rate: int) -> NDArray[np.float32]:
    """A clip, int16 [n] at `rate` Hz, as the runtime judges it: float32 [n] after the high-pass that export writes."""
    return filtered(clip.astype(np.float32) / np.float32(32768), HIGH_PASS_HZ, rate)


def hop_samples(config: Config, hop_seconds: float) -> int:
    """A hop as the runtime rounds it: to whole frames or, of a network with blocks, to whole blocks."""
    multiple = hop_multiple(config)
    return max(1, round(hop_seconds * config.sample_rate / multiple)) * multiple


def hop_multiple(config: Config) -> int:
    """Samples of what windows can share: `Contract.hop_multiple` of the file that a network is exported to."""
    return config.pool * (config.block_frames if config.has_blocks else 1)


@torch.no_grad()
def summarize_at(
    model: RawNet2, clips: Sequence[NDArray[np.float32]], starts: Sequence[Sequence[int]], batch: int = 16
) -> Tensor:
    """What the encoder sums up of windows, float32 [n, channels], which begin at `starts` (samples) in each clip.

    The clips, float32 [samples] each, are as `as_judged` gives them; one shorter than a window is repeated up to one.
    With blocks a clip is a stream: the context and the level of a window's first block reach back before it. A window
    that does not begin with a block stands alone.
    """
    config = model.config
    if config.has_blocks and any(start % hop_multiple(config) for own in starts for start in own):
        return _with_ends(model, clips, starts, batch)
    device = next(model.parameters()).device
    clips = [clip if len(clip) >= config.window_samples else repeat_to(clip, config.window_samples) for clip in clips]
    if not config.has_blocks:
        cut = _cut(clips, starts, config.window_samples)
        parts = (torch.from_numpy(np.stack(cut[first : first + batch])) for first in range(0, len(cut), batch))
        found = [model.summarize(model.features_fft(part.to(device))).float() for part in parts]
        return torch.cat(found) if found else torch.empty(0, 2 * model.encoder.channels)
    block = hop_multiple(config)
    bank = FilterBank(model.filters.cpu().numpy(), config.pool, config.leading_zeros)
    of_clip: dict[int, Tensor] = {}
    for some in _alike([len(clip) if len(own) else 0 for clip, own in zip(clips, starts, strict=True)], batch):
        # What is put after the shorter ones changes nothing of their own blocks.
        longest = len(clips[some[-1]]) // block * block
        features = np.zeros((len(some), config.filters, config.lead_frames + longest // config.pool), np.float32)
        for row, number in enumerate(some):
            own = bank.whole(clips[number][:longest])  # as the device has them
            features[row, :, : own.shape[1]] = own
        moments = model.moments(torch.from_numpy(features).to(device))
        for row, number in enumerate(some):
            begin = torch.tensor([start // block for start in starts[number]])
            of_clip[number] = summary(moments[row, begin[:, None] + torch.arange(config.window_blocks)])
    ordered = [of_clip[number] for number in sorted(of_clip)]
    return torch.cat(ordered) if ordered else torch.empty(0, 2 * model.encoder.channels)


def _with_ends(
    model: RawNet2, clips: Sequence[NDArray[np.float32]], starts: Sequence[Sequence[int]], batch: int
) -> Tensor:
    """As `summarize_at`, for clips of which some have windows that stand alone."""
    block, window = hop_multiple(model.config), model.config.window_samples
    places = [(number, start) for number, own in enumerate(starts) for start in own]
    alone = [start % block > 0 for _, start in places]
    ends = [clips[number][start : start + window] for (number, start), own in zip(places, alone, strict=True) if own]
    begun = [[start for start in own if not start % block] for own in starts]
    found = summarize_at(model, [*clips, *ends], [*begun, *([0] for _ in ends)], batch)
    order = np.argsort(np.argsort(alone, kind="stable"))  # from those in streams, then those that stand alone
    return found[torch.from_numpy(order)]


def _alike(lengths: Sequence[int], most: int) -> Iterator[list[int]]:
    """Places of clips with about one of `lengths`, at most so many at a time, the shortest first; 0 is left out."""
    some: list[int] = []
    for place in sorted((place for place, length in enumerate(lengths) if length), key=lengths.__getitem__):
        if some and (len(some) == most or lengths[place] > PADDED * lengths[some[0]]):
            yield some
            some = []
        some.append(place)
    if some:
        yield some


@torch.no_grad()
def score_at(
    model: RawNet2, clips: Sequence[NDArray[np.float32]], starts: Sequence[Sequence[int]], batch: int = 16
) -> NDArray[np.float64]:
    """Raw scores, float64 [n], logits[1] - logits[0], of windows at `starts` in each clip: see `summarize_at`."""
    model.eval()
    if model.config.has_encoder:
        logits = model.judge(summarize_at(model, clips, starts, batch))
    else:
        device = next(model.parameters()).device
        cut = _cut(clips, starts, model.config.window_samples)
        parts = (torch.from_numpy(np.stack(cut[first : first + batch])) for first in range(0, len(cut), batch))
        found = [model.classify(model.features_fft(part.to(device))) for part in parts]
        logits = torch.cat(found) if found else torch.empty(0, 2)
    return (logits[:, 1] - logits[:, 0]).double().cpu().numpy()


def score_clips(model: RawNet2, clips: Sequence[NDArray[np.int16]], hop_seconds: float) -> NDArray[np.float64]:
    """Raw score of each clip, float64 [clips]: the mean over the windows that the runtime takes at such a hop."""
    config = model.config
    hop, multiple = hop_samples(config, hop_seconds), 1 if config.has_blocks else hop_multiple(config)
    tail = int(TAIL_SECONDS * config.sample_rate)
    found = np.empty(len(clips))
    for first in range(0, len(clips), CLIPS):
        some = [as_judged(clip, config.sample_rate) for clip in clips[first : first + CLIPS]]
        places = [starts(len(clip), config.window_samples, hop, multiple, tail) for clip in some]
        owner = np.repeat(np.arange(len(some)), [len(own) for own in places])
        raw = score_at(model, some, places)
        found[first : first + len(some)] = np.bincount(owner, raw) / np.bincount(owner)
    return found


def starts(length: int, window: int, hop: int, multiple: int, tail: int) -> list[int]:
    """Where windows begin, in samples, in a clip of `length`: as `Detector` takes them.

    One each hop, then one that ends less than `multiple` before the clip does, if that adds more than `tail`; with
    blocks `multiple` is 1, as the last window ends with the clip.
    """
    found = list(range(0, length - window + 1, hop)) or [0]
    last = max(0, length - window) // multiple * multiple
    return [*found, last] if last - found[-1] > tail else found


def _cut(
    clips: Sequence[NDArray[np.float32]], starts: Sequence[Sequence[int]], window: int
) -> list[NDArray[np.float32]]:
    return [
        repeat_to(clip[start : start + window], window)
        for clip, own in zip(clips, starts, strict=True)
        for start in own
    ]
