"""What a held encoder sums up of the windows of clips, and a file of it: heads are then tried in seconds.

The windows are those that the runtime takes (`training.verdicts`).
"""

from __future__ import annotations

import argparse
import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import safetensors.torch
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from torch import Tensor

from edge_runtime.atomic import whole_file
from edge_runtime.errors import InputError, UsageError
from evaluation.protocols import Clip
from export.rawnet2 import RawNet2
from training.scoring import summarize_at
from training.verdicts import ScoredClip, WindowedClip, cuts


@dataclass(frozen=True)
class WindowFeatures:
    """Clips, their windows, and what the encoder sums up of those that are to have a score."""

    clips: Sequence[Clip]
    cut: Sequence[WindowedClip]  # without their sound
    summaries: Tensor  # float16 [windows, channels], clip by clip
    first: Sequence[int]  # of each clip's summaries, and where the last one's end

    def of(self, place: int) -> Tensor:
        """The summaries, [windows, channels], of the clip at `place`."""
        return self.summaries[self.first[place] : self.first[place + 1]]

    def scored(self, place: int, logits: Tensor) -> ScoredClip:
        """The clip at `place` with raw scores by logits [windows, 2]."""
        return self.cut[place].scored(self.clips[place], (logits[:, 1] - logits[:, 0]).double().tolist())


def add_whole_blocks(command: argparse.ArgumentParser) -> None:
    """The option of programs that look at clips."""
    command.add_argument(
        "--whole-blocks",
        action="store_true",
        help="leave out what fills no block at a clip's end, which a device scores too: a third less to look at",
    )


@torch.no_grad()
def see(
    model: RawNet2,
    clips: Sequence[Clip],
    samples: Sequence[NDArray[np.int16]],
    encoder: str,
    hop_seconds: float,
    bfloat16: bool,
    file: Path | None = None,
    whole_blocks: bool = False,
) -> WindowFeatures:
    """Lets the encoder look at the windows of clips (`samples`: int16 [n] each), or reads what it saw from `file`.

    A `file` that is not there is written. `encoder` names the encoder, `whole_blocks` is that of `cuts`. Raises
    UsageError where the file is of other clips or of another encoder, InputError where it is damaged, OutputError
    where it cannot be written.
    """
    kept = _read(file) if file is not None and file.exists() else None
    cut: list[WindowedClip] = []
    parts: list[Tensor] = []
    digest = hashlib.sha256(json.dumps([encoder, hop_seconds, bfloat16, len(clips)]).encode())
    for some in cuts(model.config, samples, hop_seconds, "windows", whole_blocks):
        if kept is None:
            with torch.autocast("cpu", torch.bfloat16, enabled=bfloat16):
                parts.append(summarize_at(model, [c.sound for c in some], [c.starts for c in some]).half())
        for item in some:
            digest.update(json.dumps([len(item.sound), item.starts]).encode() + item.sound.tobytes())
            cut.append(WindowedClip(item.sound[:0], item.windows, item.places, item.starts))
    first = [0]
    for item in cut:
        first.append(first[-1] + len(item.places))
    if kept is None:
        summaries = torch.cat(parts)
        if file is not None:
            with whole_file(file) as temporary:
                temporary.write_bytes(safetensors.torch.save({"windows": summaries}, {"of": digest.hexdigest()}))
    else:
        summaries, of = kept
        if of != digest.hexdigest() or len(summaries) != first[-1]:
            raise UsageError(f"{file} is of other clips, another encoder, --hop or --bfloat16: name another file")
    return WindowFeatures(clips, cut, summaries, first)


def _read(file: Path) -> tuple[Tensor, str]:
    """Summaries and the digest of what they are of. Raises InputError."""
    try:
        with safe_open(file, "pt") as opened:
            summaries, of = opened.get_tensor("windows"), (opened.metadata() or {})["of"]
        if summaries.ndim != 2 or summaries.dtype != torch.float16 or not bool(torch.isfinite(summaries).all()):
            raise ValueError("no windows")
    except OSError as reason:
        raise InputError(f"cannot read {file}: {reason.strerror or reason}") from None
    except (SafetensorError, KeyError, ValueError):
        raise InputError(f"{file} is no file that --windows wrote, or it is damaged") from None
    return summaries, str(of)
