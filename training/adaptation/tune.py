"""The descent from a trained network to one that knows a room, and the line between the two."""

from __future__ import annotations

import copy
import math
import time
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional
from tqdm import tqdm

from edge_runtime.errors import UsageError
from export.rawnet2 import RawNet2
from training.adaptation.room import Room
from training.batches import Crops, Library, Strengths

TEMPERATURE = 2.0
"""Softens the old network's scores, so that how sure it is counts and not only what it says."""
ROOM_SHARE = 0.5
"""Share of the kept pairs that are heard in the room; the others stay as they are, so that nothing is forgotten."""
MOST_NORM = 1.0


@dataclass(frozen=True)
class TuningSettings:
    """How far and how fast. Half of a batch are the user's clips, half the kept ones."""

    steps: int = 300
    batch: int = 32
    learning_rate: float = 1e-4
    warmup: int = 20
    label_smoothing: float = 0.05
    distillation: float = 1.0  # weight of the old network's scores, against the labels
    augmentation: float = 0.3  # scales the probability of every augmentation; more would hide the room
    seed: int = 1

    def check(self) -> None:
        if not (self.steps >= 1 and self.batch >= 4 and self.batch % 4 == 0):
            raise UsageError("--steps must be 1 or more, --batch a multiple of 4: it is made of pairs of two kinds")
        if not (self.learning_rate > 0 and self.distillation >= 0):
            raise UsageError("--learning-rate must be above 0, --distillation not below")


def tune(
    old: RawNet2, mine: Library, keep: Library, room: Room, settings: TuningSettings, seconds: float
) -> tuple[RawNet2, int]:
    """The adapted network, and the steps that `seconds` were enough for; the learning rate falls with either.

    Where the head was fitted to an encoder as it is (`training.head`), the encoder is held here too: trained on, it
    got worse on sources unseen (docs/research/encoder.md).
    """
    model = copy.deepcopy(old)
    if model.config.has_encoder and not model.config.encoder_read:
        model.requires_grad_(False)
        for layer in (model.fc1, model.fc2):
            layer.requires_grad_(True)
    old.eval()
    model.train()
    for module in model.modules():
        if isinstance(module, nn.BatchNorm1d):
            module.eval()  # a room is a small sample: its statistics would replace those of all others
    length = model.config.window_samples
    strengths = Strengths(augmentation=settings.augmentation, ramp=0)
    crops, kept_crops = (
        Crops(library, settings.batch // 2, length, settings.seed, 0, strengths) for library in (mine, keep)
    )
    learnt = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(learnt, lr=settings.learning_rate, weight_decay=0.0)
    began = time.monotonic()
    done = 0
    for step in tqdm(range(settings.steps), desc="adapting", unit="step"):
        passed = (time.monotonic() - began) / max(seconds, 1e-9)
        if passed >= 1 and step:
            break
        rate = settings.learning_rate * _schedule(step, settings, min(passed, 1.0))
        for group in optimizer.param_groups:
            group["lr"] = rate
        waveforms, labels = crops.make(step)
        kept, kept_labels = kept_crops.make(step)
        heard = _in_room(kept, room, np.random.default_rng((settings.seed, step, 1)))
        logits = model.classify(model.features_fft(torch.cat([waveforms, heard])))
        with torch.no_grad():
            teacher_logits = old.classify(old.features_fft(kept))  # as it heard them before: outside the room
        loss = functional.cross_entropy(
            logits, torch.cat([labels, kept_labels]), label_smoothing=settings.label_smoothing
        ) + settings.distillation * distance(logits[len(labels) :], teacher_logits)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(learnt, MOST_NORM)
        optimizer.step()
        done = step + 1
    return model.requires_grad_(True).eval(), done


def distance(logits: Tensor, teacher_logits: Tensor) -> Tensor:
    """How far logits [batch, 2] are from those of the old network: divergence of softened scores (Hinton 2015)."""
    soft = functional.log_softmax(logits / TEMPERATURE, 1)
    target = functional.log_softmax(teacher_logits / TEMPERATURE, 1)
    return functional.kl_div(soft, target, log_target=True, reduction="batchmean") * TEMPERATURE**2


def _schedule(step: int, settings: TuningSettings, passed: float) -> float:
    """Factor of the learning rate: a short warm-up, then half a cosine over the steps or the time that there is."""
    if step < settings.warmup:
        return (step + 1) / settings.warmup
    return 0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * max(step / settings.steps, passed)))


def _in_room(waveforms: Tensor, room: Room, rng: np.random.Generator) -> Tensor:
    """Crops [batch, samples], rows by pairs, some of the pairs as if heard in the room: both of a pair alike."""
    heard = waveforms.numpy().copy()
    for row in range(0, len(heard), 2):
        seed = int(rng.integers(1 << 32))
        if rng.random() < ROOM_SHARE:
            for place in range(row, min(row + 2, len(heard))):
                heard[place] = room.put_on(heard[place], np.random.default_rng(seed))
    return torch.from_numpy(heard)
