"""RawNet2 for anti-spoofing in PyTorch: one clean network that covers the public variants and our own.

The architecture is that of Tak et al., "End-to-end anti-spoofing with RawNet2", ICASSP 2021, after Jung et al.,
"Improved RawNet with feature map scaling", Interspeech 2020. `VARIANTS` says what differs between the public
implementations; `edge` is ours: it takes the logarithm of the bank's envelopes relative to the window's mean
level, which makes scores independent of the microphone's gain, and has wider, fewer and earlier channels, which
two CPU cores train several times faster. `hybrid` is ours too: RawNet2's raw front end and its dense head, with a
pretrained speech encoder (`export.encoder`) in the place of the residual blocks and the GRU. With `block_frames` it
looks at each frame of a stream once (`export.blocks`).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from export import blocks
from export.encoder import REACH, Encoder, FixedNorm

LONGEST_FRAMES = 6000
"""Feature frames that the encoder can tell the places of: a minute at its 100 frames a second."""


@dataclass(frozen=True)
class Config:
    """Everything that shapes a RawNet2. `channels` are the output widths of the residual blocks in order."""

    variant: str
    window_samples: int
    kernel: int
    filters: int
    channels: tuple[int, ...]
    gru_nodes: int
    gru_layers: int
    fc_nodes: int
    sample_rate: int = 16000
    pool: int = 3
    extra_mel_points: int = 0  # mel points beyond filters + 1 that are laid out and not used
    mel_scale: bool = True  # band edges equally spaced in mel, else in Hz
    slaney: bool = False  # the mel of Slaney's Auditory Toolbox, edges halfway between its triangles' peaks
    live_bn1: bool = False  # bn1 + LeakyReLU before conv1, from the second block on
    compression: str = "none"  # none | log: logarithm relative to the window's mean level
    log_softmax: bool = False  # the published code ends in log-softmax; the exported file never does
    encoder_width: int = 0  # 0: residual blocks and a GRU; else a speech encoder, and `channels` is empty
    encoder_heads: int = 6
    encoder_layers: int = 3
    encoder_read: bool = True  # fc_nodes channels are read frame by frame, to be learnt; else all go to a fitted head
    block_frames: int = 0  # new feature frames of a block; 0: the encoder sees whole windows
    context_frames: int = 0  # frames before a block that are seen again with it
    level_blocks: int = 0  # newest blocks whose mean envelope is the level

    @property
    def has_blocks(self) -> bool:
        """Whether the encoder sees blocks of a stream, each once, in place of whole windows."""
        return self.block_frames > 0

    @property
    def lead_frames(self) -> int:
        """Frames before a block's own that it is given."""
        return REACH + self.context_frames if self.has_blocks else 0

    @property
    def leading_zeros(self) -> int:
        """Samples of silence before the first: with them a block is complete when its last sample is there."""
        return self.kernel - 1 + self.lead_frames * self.pool if self.has_blocks else 0

    @property
    def window_blocks(self) -> int:
        """Blocks of one window."""
        return self.window_samples // (self.block_frames * self.pool)

    @property
    def has_encoder(self) -> bool:
        """Whether a speech encoder stands in the place of the residual blocks and the GRU."""
        return self.encoder_width > 0

    @property
    def shortest_frames(self) -> int:
        """The fewest feature frames that the network can take: for one step of the GRU, or two of the encoder."""
        if self.has_blocks:
            return self.lead_frames + self.block_frames
        return 4 if self.has_encoder else 3 ** len(self.channels)

    @property
    def frames(self) -> int:
        """Feature frames of one window."""
        return (self.leading_zeros + self.window_samples - self.kernel + 1) // self.pool


_PUBLIC = Config("asvspoof2021", 64600, 1025, 20, (20, 20, 128, 128, 128, 128), 1024, 3, 1024, log_softmax=True)
VARIANTS: dict[str, Config] = {
    "asvspoof2021": _PUBLIC,
    "asvspoof5": replace(_PUBLIC, variant="asvspoof5", window_samples=64000, live_bn1=True, log_softmax=False),
    "eurecom2019": Config(
        "eurecom2019", 64600, 129, 128, (128, 128, 512, 512, 512, 512), 1024, 3, 1024, extra_mel_points=2, live_bn1=True
    ),
    "lanceaking": replace(_PUBLIC, variant="lanceaking"),
    "edge": Config(
        "edge", 64000, 513, 48, (32, 64, 96, 128, 128), 256, 2, 128, pool=16, mel_scale=False, live_bn1=True,
        compression="log",
    ),
    "hybrid": Config(
        "hybrid", 64000, 401, 80, (), 0, 0, 128, pool=160, slaney=True, compression="log", encoder_width=384
    ),
}  # fmt: skip


def sinc_filters(config: Config) -> NDArray[np.float32]:
    """The fixed filter bank, float32 [filters, kernel]: contiguous band-pass filters.

    Each is the difference of two ideal low-pass sincs times a Hamming window (Ravanelli and Bengio, "Speaker
    recognition from raw waveform with SincNet", 2018), without gain normalisation.
    """
    nyquist = config.sample_rate / 2
    points = config.filters + 1 + config.extra_mel_points
    if config.slaney:
        # Linear up to 1 kHz, 200/3 Hz a mel, then logarithmic, 27 mel to a factor of 6.4; as librosa and Whisper.
        top = 15 + 27 * np.log(nyquist / 1000) / np.log(6.4)
        mel = (np.arange(points) + 0.5) * top / (config.filters + 1)
        edges_hz = np.where(mel < 15, mel * 200 / 3, 1000 * 6.4 ** ((mel - 15) / 27))
    elif config.mel_scale:
        mel = np.linspace(0.0, 2595 * np.log10(1 + nyquist / 700), points)
        edges_hz = 700 * (10 ** (mel / 2595) - 1)
    else:
        edges_hz = np.linspace(0.0, nyquist, points)
    taps = np.arange(-(config.kernel - 1) / 2, (config.kernel - 1) / 2 + 1)
    relative = 2 * edges_hz[: config.filters + 1, None] / config.sample_rate
    low_pass = relative * np.sinc(relative * taps[None, :])
    return ((low_pass[1:] - low_pass[:-1]) * np.hamming(config.kernel)).astype(np.float32)


@torch.no_grad()
def envelopes_fft(waveform: Tensor, filters: Tensor, pool: int, size: int = 4096) -> Tensor:
    """Waveforms [batch, samples] to the bank's absolute values, max-pooled: [batch, filters, frames].

    By overlap-save FFTs of `size` points: blocks that fit the cache make it three times faster than one FFT over the
    window.
    """
    taps = filters.shape[1]
    frames = (waveform.shape[1] - taps + 1) // pool
    step = (size - taps + 1) // pool * pool
    blocks = -(-frames * pool // step)
    padded = functional.pad(waveform, (0, max(0, (blocks - 1) * step + size - waveform.shape[1])))
    spectra = torch.fft.rfft(padded.unfold(1, size, step)[:, :blocks])
    response = torch.fft.rfft(filters, size).conj()
    clips = []
    for spectrum in spectra:
        bands = torch.fft.irfft(spectrum.unsqueeze(1) * response, size)[..., :step].abs()
        pooled = bands.unflatten(-1, (step // pool, pool)).amax(-1)
        clips.append(pooled.transpose(0, 1).flatten(1)[:, :frames])
    return torch.stack(clips)


class ResidualBlock(nn.Module):
    """A residual block with its max-pool and its feature map scaling: [B, in, T] -> [B, out, T // 3]."""

    def __init__(self, inputs: int, outputs: int, live_bn1: bool) -> None:
        super().__init__()
        self.bn1 = nn.BatchNorm1d(inputs) if live_bn1 else None
        self.conv1 = nn.Conv1d(inputs, outputs, 3, padding=1)
        self.bn2 = nn.BatchNorm1d(outputs)
        self.conv2 = nn.Conv1d(outputs, outputs, 3, padding=1)
        self.downsample = nn.Conv1d(inputs, outputs, 1) if inputs != outputs else None
        self.attention = nn.Linear(outputs, outputs)

    def forward(self, x: Tensor) -> Tensor:
        y = x if self.bn1 is None else functional.leaky_relu(self.bn1(x), 0.3)
        y = functional.leaky_relu(self.bn2(self.conv1(y)), 0.3)
        y = self.conv2(y) + (x if self.downsample is None else self.downsample(x))
        y = functional.max_pool1d(y, 3)
        scale = torch.sigmoid(self.attention(y.mean(dim=2))).unsqueeze(2)
        return y * scale + scale


class RawNet2(nn.Module):
    """Waveforms, float32 [batch, samples], to logits, float32 [batch, 2]; index 1 is bona fide."""

    filters: Tensor

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config
        self.register_buffer("filters", torch.from_numpy(sinc_filters(config)), persistent=False)
        self.first_bn = nn.BatchNorm1d(config.filters)
        if config.has_encoder:
            width, layers, nodes = config.encoder_width, config.encoder_layers, config.fc_nodes
            summary = nodes if config.encoder_read else 0
            self.encoder = Encoder(config.filters, width, config.encoder_heads, layers, summary, LONGEST_FRAMES // 2)
            if not config.encoder_read:
                self.summary_bn = FixedNorm(2 * self.encoder.channels)
            self.fc1 = nn.Linear(2 * self.encoder.channels, nodes)
            self.fc2 = nn.Linear(nodes, 2)
            return
        widths = (config.filters, *config.channels)
        self.blocks = nn.ModuleList(
            ResidualBlock(inputs, outputs, config.live_bn1 and index > 0)
            for index, (inputs, outputs) in enumerate(pairwise(widths))
        )
        self.bn_before_gru = nn.BatchNorm1d(widths[-1])
        self.gru = nn.GRU(widths[-1], config.gru_nodes, config.gru_layers, batch_first=True)
        self.fc1 = nn.Linear(config.gru_nodes, config.fc_nodes)
        self.fc2 = nn.Linear(config.fc_nodes, 2)

    def features(self, waveform: Tensor) -> Tensor:
        """The front end by direct convolution: [batch, samples] -> [batch, filters, frames]."""
        waveform = functional.pad(waveform, (self.config.leading_zeros, 0))
        bands = functional.conv1d(waveform.unsqueeze(1), self.filters.unsqueeze(1))
        return functional.max_pool1d(bands.abs(), self.config.pool)

    def features_fft(self, waveform: Tensor) -> Tensor:
        """The same front end by FFTs: what training uses, as the bank is not trained."""
        waveform = functional.pad(waveform, (self.config.leading_zeros, 0))
        return envelopes_fft(waveform, self.filters, self.config.pool)

    def relate(self, features: Tensor) -> Tensor:
        """Features of the same shape, compressed as the variant has it."""
        if self.config.compression != "log":
            return features
        return blocks.related(features, features.mean(dim=(1, 2), keepdim=True))

    def moments(self, features: Tensor) -> Tensor:
        """Moments of each block, [batch, blocks, 2, channels], of streams' features [batch, filters, frames]."""
        config = self.config
        sizes = (config.block_frames, config.context_frames, config.level_blocks)
        return blocks.block_moments(
            features, lambda x: self.encoder.block(self.first_bn(x), config.block_frames // 2), *sizes
        )

    def summarize(self, features: Tensor) -> Tensor:
        """What the encoder sums up of windows that stand alone, [batch, 2 * channels]."""
        if self.config.has_blocks:
            return blocks.summary(self.moments(features))
        return self.encoder(self.first_bn(self.relate(features)))

    def stream(self, waveform: Tensor) -> Tensor:
        """Logits of every window that ends with a block, [windows, 2], of a stream, float32 [samples], from its start.

        Only a network with blocks has them: their context and level reach back before the window.
        """
        return self.classify_stream(self.features_fft(waveform[None]))

    def classify_stream(self, features: Tensor) -> Tensor:
        """`stream`, of the front end's features [1, filters, frames]; by FFTs they are less exact after loud sound."""
        found = self.moments(features)[0]
        windows = found.unfold(0, self.config.window_blocks, 1).movedim(-1, 1)
        return self.judge(blocks.summary(windows))

    def classify(self, features: Tensor) -> Tensor:
        """Front-end features [batch, filters, frames] to logits [batch, 2]."""
        if self.config.has_encoder:
            return self.judge(self.summarize(features))
        x = self.relate(features)
        x = functional.selu(self.first_bn(x))
        for block in self.blocks:
            x = block(x)
        x = functional.selu(self.bn_before_gru(x))
        x, _ = self.gru(x.permute(0, 2, 1))
        return self.fc2(self.fc1(x[:, -1]))

    def judge(self, summary: Tensor) -> Tensor:
        """What the encoder sums up of windows, [batch, 2 * channels], to logits [batch, 2]."""
        summary = summary if self.config.encoder_read else self.summary_bn(summary)
        return self.fc2(functional.gelu(self.fc1(summary)))

    def forward(self, waveform: Tensor) -> Tensor:
        return self.classify(self.features(waveform))
