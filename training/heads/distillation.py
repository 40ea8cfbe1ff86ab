"""What networks that were trained before say of crops, for a head to learn beside the labels.

Hinton et al., "Distilling the knowledge in a neural network", 2015; Furlanello et al., "Born again neural networks",
2018, for a pupil no smaller than its teacher. What a network says of crops that it has learnt by heart tells little
more than their labels, so of several teachers those teach a crop that did not learn from the run that looked at it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from edge_runtime.errors import ModelError, UsageError
from export.checkpoint import load
from export.rawnet2 import RawNet2
from training.heads.crop_features import DIGEST, Summaries

AT_ONCE = 8192


@dataclass(frozen=True)
class Teacher:
    """A network with the pupil's encoder, and the runs whose crops it learnt from."""

    model: RawNet2
    sha256: str
    looked: tuple[Mapping[str, Any], ...]

    def met(self, crops: Summaries) -> bool:
        """Whether it learnt from a run that `crops` are of."""
        return any(same_run(run, own) for run in crops.made for own in self.looked)

    @torch.no_grad()
    def bonafide(self, inputs: Tensor) -> Tensor:
        """How probably each crop is human, float32 [n], of summaries [n, channels]."""
        logits = torch.cat([self.model.judge(some.float()) for some in inputs.split(AT_ONCE)])
        return logits.softmax(1)[:, 1]


def same_run(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    """Whether two descriptions are of one run: by its crops' digest, or, where one is too old for that, its options."""
    if DIGEST in one and DIGEST in other:
        return bool(one[DIGEST] == other[DIGEST])
    return _options(one) == _options(other)


def _options(run: Mapping[str, Any]) -> dict[str, Any]:
    """What decides on a run's crops; before there were shares, `replayed` was that of `replay`."""
    shares = run.get("shares") or ({"replay": run["replayed"]} if run.get("replayed") is not None else {})
    return {"shares": shares, **{name: run.get(name) for name in ("crops", "augmentation", "seed", "bfloat16")}}


def heads_of(figures: Mapping[str, Any]) -> list[dict[str, Any]]:
    """How each head of a checkpoint was fitted, as its figures say; several, where it is an ensemble.

    Checkpoints up to edge-7 call them `ending` and `committee`. Raises KeyError or TypeError where they say nothing.
    """
    alone = figures.get("head", figures.get("ending"))
    if alone is not None:
        return [alone]
    members = figures["ensemble"] if "ensemble" in figures else figures["committee"]
    return [member["head"] if "head" in member else member["ending"] for member in members]


def read_teacher(path: Path, pupil: RawNet2) -> Teacher:
    """The checkpoint of a head or of an ensemble of them.

    Raises UsageError where its encoder is another, and ModelError where it does not say what it learnt from.
    """
    checkpoint = load(path)
    model, state = checkpoint.model, pupil.state_dict()
    alike = replace(model.config, fc_nodes=pupil.config.fc_nodes) == pupil.config and all(
        torch.equal(tensor, state[name]) or torch.equal(tensor, state[name].half().float())  # of a --half checkpoint
        for name, tensor in model.state_dict().items()
        if name.startswith(("first_bn.", "encoder."))
    )
    if not alike:
        raise UsageError(f"{path} is no head of START's encoder, so it cannot say anything of these crops")
    try:
        looked = tuple(dict(run) for head in heads_of(checkpoint.figures) for run in head["looked"])
    except (KeyError, TypeError, ValueError):
        looked = ()
    if not looked:
        raise ModelError(f"{path} does not say which crops it learnt from: fit it again")
    return Teacher(model, checkpoint.sha256, looked)


def soft_targets(parts: Sequence[Summaries], teachers: Sequence[Teacher], weight: float, smoothing: float) -> Tensor:
    """What to learn of all crops of `parts`, one after the other: probabilities, float32 [n, 2], spoof and bona fide.

    `weight` of it, 0 to 1, is the mean of what those teachers say that have not met the part; of all, where all have.
    The rest are the labels, with `smoothing` of them spread over both.
    """
    wanted = []
    for part in parts:
        teach = [teacher for teacher in teachers if not teacher.met(part)] or teachers
        said = torch.stack([teacher.bonafide(part.inputs) for teacher in teach]).mean(0)
        known = part.labels * (1 - smoothing) + smoothing / 2
        wanted.append(weight * said + (1 - weight) * known)
    bonafide = torch.cat(wanted)
    return torch.stack((1 - bonafide, bonafide), 1)
