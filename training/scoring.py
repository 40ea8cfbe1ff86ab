"""Scores of whole clips by a PyTorch model, over the same windows that the runtime takes."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from edge_runtime.model.contract import HIGH_PASS_HZ
from edge_runtime.model.highpass import filtered
from export.rawnet2 import RawNet2
from training.batches import repeat_to


def windows(samples: NDArray[np.float32], window: int, hop: int) -> list[NDArray[np.float32]]:
    """Windows of a clip every `hop` samples and one aligned to its end; a short clip is repeated up to one window."""
    if len(samples) <= window:
        return [repeat_to(samples, window)]
    starts = list(range(0, len(samples) - window + 1, hop))
    if starts[-1] < len(samples) - window:
        starts.append(len(samples) - window)
    return [samples[start : start + window] for start in starts]


def as_judged(clip: NDArray[np.int16], rate: int) -> NDArray[np.float32]:
    """A clip, int16 [n] at `rate` Hz, as the runtime judges it: float32 [n] after the high-pass that export writes."""
    return filtered(clip.astype(np.float32) / np.float32(32768), HIGH_PASS_HZ, rate)


@torch.no_grad()
def score_windows(
    model: RawNet2, clips: Sequence[NDArray[np.float32]], hop_seconds: float, batch: int = 16
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Raw scores of all windows of all clips, float64 [n], logits[1] - logits[0]; and each one's clip, int64 [n].

    The clips, float32 [samples] each, are as `as_judged` gives them, or parts of that.
    """
    model.eval()
    device = next(model.parameters()).device
    config = model.config
    hop = int(hop_seconds * config.sample_rate)
    cut: list[NDArray[np.float32]] = []
    owner: list[int] = []
    for index, clip in enumerate(clips):
        pieces = windows(clip, config.window_samples, hop)
        cut += pieces
        owner += [index] * len(pieces)
    raw = np.empty(len(cut))
    for start in range(0, len(cut), batch):
        waveform = torch.from_numpy(np.stack(cut[start : start + batch])).to(device)
        logits = model.classify(model.features_fft(waveform))
        raw[start : start + batch] = (logits[:, 1] - logits[:, 0]).double().cpu().numpy()
    return raw, np.array(owner, np.int64)


def score_clips(model: RawNet2, clips: Sequence[NDArray[np.int16]], hop_seconds: float) -> NDArray[np.float64]:
    """Raw score of each clip, float64 [clips]: the mean over its windows."""
    raw, owner = score_windows(model, [as_judged(clip, model.config.sample_rate) for clip in clips], hop_seconds)
    return np.bincount(owner, raw, len(clips)) / np.bincount(owner, minlength=len(clips))
