"""The training run: from a library of clips to checkpoints that resume, with early stopping on a dev set."""

from __future__ import annotations

import json
import os
import shutil
import time
from dataclasses import MISSING, asdict, dataclass, field, fields
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from torch.utils.data import DataLoader
from tqdm import tqdm

from edge_runtime.errors import EdgeDetectError, ModelError, OutputError
from evaluation.metrics import eer
from export.checkpoint import save
from export.rawnet2 import Config, RawNet2, envelopes_fft
from training.batches import Crops, Library, Strengths
from training.blocks import crop_samples
from training.qat import fake_quantized
from training.recipe import Recipe
from training.scoring import score_clips

PRETRAINED = ("encoder.stem", "encoder.layers")
"""Names of the parts that may begin with weights learnt elsewhere."""
TEMPERATURE = 2.0
"""Softens a teacher's scores, so that how sure it is counts and not only what it says."""


@dataclass
class RunState:
    """What a run has come to; with the weights it is the checkpoint that resumes."""

    step: int = 0
    best_eer: float = 1.0
    since_best: int = 0
    history: list[dict[str, float]] = field(default_factory=list)
    recipes: list[dict[str, Any]] = field(default_factory=list)  # what was set, each with the step it began at


class Trainer:
    """Trains a RawNet2. `dev` may be None: then the last weights are the best ones.

    `start` holds weights to begin with, `teacher` a network whose scores the trained one learns beside the labels.
    """

    def __init__(
        self,
        config: Config,
        recipe: Recipe,
        train: Library,
        dev: Library | None,
        folder: Path,
        start: RawNet2 | None = None,
        teacher: RawNet2 | None = None,
    ) -> None:
        recipe.check(config)
        torch.manual_seed(recipe.seed)
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self.config, self.recipe, self.train, self.dev, self.folder = config, recipe, train, dev, folder
        self.model = RawNet2(config).to(self.device)
        if start is not None:
            self.model.load_state_dict(start.state_dict())
        for part in self.model.modules():
            if isinstance(part, nn.Dropout):
                part.p = recipe.dropout
        self.teacher = None if teacher is None else teacher.to(self.device).eval()
        self.averaged = AveragedModel(self.model, multi_avg_fn=get_ema_multi_avg_fn(recipe.average), use_buffers=True)
        self.optimizer = torch.optim.AdamW(self._groups())
        self.run = RunState(recipes=[{"from_step": 0, **asdict(recipe)}])
        self.changed: list[str] = []
        """What a resumed run sets otherwise than before, a line each."""
        compiles = recipe.compile and any(shutil.which(name) for name in ("c++", "g++", "clang++"))
        self.classify = torch.compile(self.model.classify) if compiles else self.model.classify

    def _groups(self) -> list[dict[str, Any]]:
        """Parameters by learning rate and decay: norms and biases are not decayed, that only slows them."""
        groups: list[dict[str, Any]] = []
        for pretrained in (False, True):
            for matrix in (True, False):
                chosen = [
                    parameter
                    for name, parameter in self.model.named_parameters()
                    if (parameter.ndim > 1) == matrix and name.startswith(PRETRAINED) == pretrained
                ]
                decay = self.recipe.weight_decay if matrix else 0.0
                share = self.recipe.encoder_rate if pretrained else 1.0
                for parameter in chosen:
                    parameter.requires_grad_(share > 0)  # what is held needs no gradient, which saves half of the time
                if chosen:
                    groups.append({"params": chosen, "weight_decay": decay, "share": share})
        return groups

    @property
    def network(self) -> RawNet2:
        """The network with averaged weights."""
        network = self.averaged.module
        assert isinstance(network, RawNet2)
        return network

    def learning_rate(self, step: int) -> float:
        """Linear warm-up, then a half cosine down to 1 %."""
        recipe = self.recipe
        if step < recipe.warmup:
            return recipe.learning_rate * (step + 1) / recipe.warmup
        share = (step - recipe.warmup) / max(1, recipe.steps - recipe.warmup)
        return float(recipe.learning_rate * (0.01 + 0.99 * 0.5 * (1 + np.cos(np.pi * min(1.0, share)))))

    def step(self, waveforms: Tensor, labels: Tensor, clips: Tensor | None = None) -> float:
        """One step of descent; returns the loss. `clips`, int64 [batch], are those that the crops are from.

        In the place of waveforms [batch, samples] their features [batch, bands, frames] will do, without a teacher.
        """
        self.model.train()
        for group in self.optimizer.param_groups:
            group["lr"] = self.learning_rate(self.run.step) * group["share"]
        waveforms, labels = waveforms.to(self.device), labels.to(self.device)
        features = self.model.features_fft(waveforms) if waveforms.ndim == 2 else waveforms
        self.optimizer.zero_grad(set_to_none=True)
        with fake_quantized(self.model, self.recipe.weight_bits):
            with torch.autocast(self.device.type, torch.bfloat16, enabled=self.recipe.bfloat16):
                logits = self.classify(mask(features, self.recipe.masking) if self.recipe.masking else features)
            losses = self.losses(logits.float(), labels)
            loss = losses.mean()
            if self.teacher is not None:
                share = self.recipe.distillation
                loss = (1 - share) * loss + share * self.distance(waveforms, logits)
            loss.backward()
        nn.utils.clip_grad_norm_(self.model.parameters(), 5.0)
        self.optimizer.step()
        self.averaged.update_parameters(self.model)
        self.run.step += 1
        if clips is not None:
            hardness = self.train.hardness
            hardness[clips] = 0.7 * hardness[clips] + 0.3 * losses.detach().cpu()
        return float(loss.detach())

    def losses(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Cross-entropy of each crop, float32 [batch], of logits [batch, 2] of which the right one gives `margin`."""
        if self.recipe.margin:
            logits = logits - self.recipe.margin * functional.one_hot(labels, 2)
        return functional.cross_entropy(logits, labels, label_smoothing=self.recipe.label_smoothing, reduction="none")

    def distance(self, waveforms: Tensor, logits: Tensor) -> Tensor:
        """How far the scores are from the teacher's: cross-entropy of softened ones (Hinton et al. 2015)."""
        assert self.teacher is not None
        with torch.no_grad(), torch.autocast(self.device.type, torch.bfloat16, enabled=self.recipe.bfloat16):
            teacher_logits = self.teacher.classify(self.teacher.features_fft(waveforms)).float()
        soft = functional.cross_entropy(logits.float() / TEMPERATURE, (teacher_logits / TEMPERATURE).softmax(1))
        return soft * TEMPERATURE

    def fit(self) -> RunState:
        """Runs to the end of the schedule or until dev stops improving; safe to stop at any moment."""
        recipe, run = self.recipe, self.run
        long_from = int(recipe.steps * (1 - recipe.long_share))
        bar = tqdm(total=recipe.steps, initial=run.step, unit="step", desc="training", smoothing=0.05)
        while run.step < recipe.steps:
            long = run.step >= long_from
            until = recipe.steps if long else long_from
            for waveforms, labels, clips in self._batches(long):
                loss = self.step(waveforms, labels, clips[:, 0])
                bar.update()
                run.history.append({"step": run.step, "loss": loss, "clips": len(labels), "time": time.time()})
                last = run.step >= recipe.steps
                if run.step % recipe.evaluate_every == 0 or last:
                    self.evaluate()
                    bar.write(self.progress_line())
                    if recipe.patience and run.since_best >= recipe.patience:
                        bar.write(f"no better dev EER in {recipe.patience} evaluations: stopping early")
                        return run
                if run.step >= until:
                    break
        bar.close()
        return run

    def _batches(self, long: bool) -> DataLoader[tuple[Tensor, Tensor, Tensor]]:
        recipe = self.recipe
        seconds = recipe.long_crop_seconds if long else recipe.crop_seconds
        batch = max(2, round(recipe.batch * recipe.crop_seconds / seconds))
        strengths = Strengths(
            recipe.augmentation, recipe.ramp, recipe.matched, recipe.partial, recipe.mining, balance=recipe.balance
        )
        samples = crop_samples(self.config, int(seconds * self.config.sample_rate))
        crops = Crops(self.train, batch, samples, recipe.seed, self.run.step, strengths)
        # The filter bank is not trained: the loading processes compute it, as the network's own time is the scarce one.
        bank = partial(_front_end, self.model.filters.cpu(), self.config)
        return DataLoader(
            crops, batch_size=None, num_workers=recipe.workers, prefetch_factor=4 if recipe.workers else None,
            worker_init_fn=_quiet_worker, collate_fn=None if self.teacher else bank,
        )  # fmt: skip

    def evaluate(self) -> None:
        """EER on dev with the averaged weights, in `weight_bits`; keeps the best checkpoint, and what resumes."""
        run = self.run
        if self.dev is not None:
            half = torch.autocast(self.device.type, torch.bfloat16, enabled=self.recipe.bfloat16)
            with half, fake_quantized(self.network, self.recipe.weight_bits):
                scores = score_clips(self.network, self.dev.samples, hop_seconds=4.0)
            bonafide = np.array([clip.is_bonafide for clip in self.dev.clips])
            value, _ = eer(scores[bonafide], scores[~bonafide])
            run.history[-1]["dev_eer"] = value
        else:
            value = 0.0
        if value <= run.best_eer or self.dev is None:
            run.best_eer, run.since_best = value, 0
            figures = {"dev_eer_during_training": value, "step": run.step, "recipes": run.recipes}
            save(self.folder / "best.safetensors", self.network, figures=figures)
        else:
            run.since_best += 1
        self.save()

    def progress_line(self) -> str:
        """Step, mean loss since the last evaluation, clips per second and dev EER in one line."""
        recent = self.run.history[-self.recipe.evaluate_every :]
        passed = max(1e-9, recent[-1]["time"] - recent[0]["time"])
        rate = sum(entry["clips"] for entry in recent[1:]) / passed
        loss = np.mean([entry["loss"] for entry in recent])
        value = recent[-1].get("dev_eer")
        shown = "no dev set" if value is None else f"dev EER {value:.1%} (best {self.run.best_eer:.1%})"
        return f"step {self.run.step}: loss {loss:.3f}, {rate:.0f} clips/s, {shown}"

    def save(self) -> None:
        """Writes what resumes, whole or not at all."""
        target = self.folder / "last.pt"
        state = {
            "config": asdict(self.config),
            "recipe": asdict(self.recipe),
            "run": asdict(self.run),
            "model": self.model.state_dict(),
            "averaged": self.averaged.state_dict(),
            "optimizer": self.optimizer.state_dict(),
        }
        try:
            torch.save(state, target.with_suffix(".tmp"))
            os.replace(target.with_suffix(".tmp"), target)
            (self.folder / "history.json").write_text(json.dumps(self.run.history))
        except (OSError, RuntimeError) as reason:
            raise OutputError(f"cannot write {target}: {reason}") from None

    def resume(self) -> bool:
        """Goes on from `last.pt` when there is one. Raises ModelError when it belongs to another network."""
        source = self.folder / "last.pt"
        if not source.is_file():
            return False
        try:
            state = torch.load(source, map_location=self.device, weights_only=True)
            # A field that the run's program did not have yet is left at its default, which means what it did.
            was = {item.name: item.default for item in fields(Config) if item.default is not MISSING} | state["config"]
            if was != json.loads(json.dumps(asdict(self.config))) and was != asdict(self.config):
                raise ModelError(f"{source} was made with other network settings: choose another folder")
            self.model.load_state_dict(state["model"])
            self.averaged.load_state_dict(state["averaged"])
            self.optimizer.load_state_dict(state["optimizer"])
            self.run = RunState(**state["run"])
            # A setting that the run's program did not have yet is left at its default, which means what it did.
            before = {"from_step": 0} | {item.name: item.default for item in fields(Recipe)} | state["recipe"]
            self.run.recipes = self.run.recipes or [before]
            now = asdict(self.recipe)
            if now["weight_bits"] != before["weight_bits"]:
                self.run.best_eer, self.run.since_best = 1.0, 0  # of other weights than those that dev is judged by now
            self.changed = [f"{key}: {before[key]} -> {now[key]}" for key in now if before[key] != now[key]]
            if self.changed:
                self.run.recipes.append({"from_step": self.run.step, **now})
        except EdgeDetectError:
            raise
        except Exception as reason:
            raise ModelError(f"cannot resume from {source}: {reason}; move it away to begin again") from None
        return True


def mask(features: Tensor, probability: float) -> Tensor:
    """Features [batch, bands, frames] with some bands and a stretch of frames blanked out in some of the crops.

    After SpecAugment (Park et al. 2019), but on the filter bank's envelopes: zero is silence there.
    """
    batch, bands, frames = features.shape
    kept = torch.ones_like(features)
    for row in range(batch):
        if torch.rand(()) < probability:
            for axis, size, most in ((0, bands, 0.2), (1, frames, 0.15)):
                width = int(torch.rand(()) * most * size)
                first = int(torch.rand(()) * (size - width))
                kept[row].narrow(axis, first, width).zero_()
    return features * kept


def _front_end(filters: Tensor, config: Config, batch: tuple[Tensor, Tensor, Tensor]) -> tuple[Tensor, Tensor, Tensor]:
    waveforms, labels, clips = batch
    waveforms = functional.pad(waveforms, (config.leading_zeros, 0))
    return envelopes_fft(waveforms, filters, config.pool), labels, clips


def _quiet_worker(_: int) -> None:
    torch.set_num_threads(1)
