"""What networks that were trained before say of crops, for an ending to learn beside the labels.

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
from torch.nn import functional

from edge_runtime.errors import UsageError
from export.checkpoint import load
from export.rawnet2 import RawNet2
from training.summaries import Summaries

AT_ONCE = 8192


@dataclass(frozen=True)
class Teacher:
    """A network with the pupil's encoder, and the runs whose crops it learnt from."""

    model: RawNet2
    sha256: str
    looked: tuple[Mapping[str, Any], ...]

    def met(self, crops: Summaries) -> bool:
        """Whether it learnt from a run that `crops` are of."""
        return any(run in self.looked for run in crops.made)

    @torch.no_grad()
    def bonafide(self, inputs: Tensor) -> Tensor:
        """How probably each crop is human, float32 [n], of summaries [n, channels]."""
        model = self.model
        logits = [
            model.fc2(functional.gelu(model.fc1(model.summary_bn(some.float())))) for some in inputs.split(AT_ONCE)
        ]
        return torch.cat(logits).softmax(1)[:, 1]


def read_teacher(path: Path, pupil: RawNet2) -> Teacher:
    """The checkpoint of an ending or of a committee of them. Raises UsageError where its encoder is another."""
    checkpoint = load(path)
    model, state = checkpoint.model, pupil.state_dict()
    alike = replace(model.config, fc_nodes=pupil.config.fc_nodes) == pupil.config and all(
        torch.equal(tensor, state[name])
        for name, tensor in model.state_dict().items()
        if name.startswith(("first_bn.", "encoder."))
    )
    if not alike:
        raise UsageError(f"{path} has another encoder than START, so it cannot say anything of these crops")
    made = checkpoint.figures
    endings = [made["ending"]] if "ending" in made else [member["ending"] for member in made.get("committee", [])]
    return Teacher(model, checkpoint.sha256, tuple(run for ending in endings for run in ending["looked"]))


def taught(parts: Sequence[Summaries], teachers: Sequence[Teacher], weight: float, smoothing: float) -> Tensor:
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
