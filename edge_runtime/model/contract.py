"""The contract between host and device: what one ONNX file says of itself in its metadata.

This is the one place that knows the metadata keys. The host writes through `Contract.to_metadata`, the
device reads through `Contract.from_metadata`. Every key starts with `edge_detect.`, every value is text, as
ONNX metadata demands. ARCHITECTURE.md lists the keys.
"""

from __future__ import annotations

import base64
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_runtime.errors import ModelError
from edge_runtime.model import limits

SCHEMA = 1
PREFIX = "edge_detect."
FORMS = ("waveform", "streaming", "shared", "blocks")
LEVELS = ("fp32", "fp16", "int8", "int8-static", "int4", "auto")
TARGETS = ("portable", "arm64", "arm64-dotprod", "x86-avx2", "x86-vnni")
INT8_BITS = (0, 7, 8)
_SATURATING_TARGETS = ("portable", "x86-avx2")
"""Targets that name machines without VNNI, where 8-bit weights come out wrong: see `processor`."""
_INDEPENDENT_LEVELS = ("fp32", "fp16")
"""Levels whose windows do not touch each other in a batch, for files that do not say; others may share scales."""
POLARITY = "higher-is-bonafide"
_NUMBERS = (
    *("schema", "filter_shape", "sample_rate", "window_samples", "pool", "int8_bits"),
    *("scale", "offset", "threshold", "threshold_bonafide", "high_pass_hz"),
    *("block_frames", "context_frames", "level_blocks"),
)
_LONGEST_NUMBER = 40  # characters
HIGH_PASS_HZ = 10.0
"""The high-pass where a file does not say: below every voice, so that it takes away an offset and little else."""
HIGHEST_HIGH_PASS_HZ = 1000.0
BLOCK_REACH = 4
"""Frames before a block's own that its first encoder frame depends on."""
COLUMN_FRAMES = 3
"""Frames that RawNet2's first block pools into a column."""


@dataclass(frozen=True)
class Contract:
    """What the runtime must know to score sound with a model file.

    `form` is `waveform` (input `waveform`, float32 [batch, samples]) or `streaming` (input `features`, float32
    [batch, filters, frames]: the filter bank's absolute values, max-pooled over `pool` samples) or `shared` (input
    `columns`, float32 [batch, channels, 1, frames // 3]: what the first residual block makes of those features up to
    its max-pool; `first_block` is that part, an ONNX model of its own from `features` to `columns`, whose work windows
    share). All give `logits`, float32 [batch, 2], index 1 bona fide. The raw score is logits[1] - logits[0]; the
    log-likelihood ratio is `scale * raw + offset` (natural logarithm). At or above `threshold_bonafide` a window is
    bona fide, below `threshold` it is spoof, between the two it is unsure.

    A file of the form `blocks` has two halves in one graph. The first makes of a block's `features`, float32 [batch,
    filters, `seen_frames`], and of their `level`, float32 [batch, 1, 1], the block's `moments`, float32 [batch, 2,
    channels], mean and variance over its frames: the newest `block_frames`. Those before them, BLOCK_REACH and
    `context_frames`, are seen again and do not count. The second half makes of `window`, float32 [windows, blocks, 2,
    channels], the moments of a window's blocks in order, the `logits`. The level is the mean envelope of the newest
    `level_blocks` blocks. `leading_zeros` samples of silence stand before the stream: its first block has frames before
    it like any other, and a block is complete with its last sample.

    `int8_bits` is the range that int8 weights use where they are multiplied by uint8 activations: 8 for -127..127,
    7 for -64..64, 0 where there are none (other weights, or int8 on both sides, saturate nowhere); it decides where the
    file is right (`processor.judge_target`). `independent` says that the windows of a batch do not influence one
    another, so that several may be scored at once.

    `high_pass_hz` is the corner of the high-pass (`highpass.HighPass`) that all sound goes through before
    it is cut into windows, 0 for none. Thresholds and calibration are for sound so filtered.
    """

    form: str
    variant: str
    sample_rate: int
    window_samples: int
    pool: int
    filters: NDArray[np.float32]  # [filters, taps], correlated with the waveform, no padding
    level: str = "fp32"
    target: str = "portable"
    int8_bits: int = 0
    independent: bool = True
    calibrated: bool = False
    scale: float = 1.0
    offset: float = 0.0
    threshold: float = 0.0
    threshold_bonafide: float = 0.0
    source_sha256: str = ""
    name: str = ""
    figures: Mapping[str, Any] = field(default_factory=dict)  # measured accuracy, with the data set it came from
    first_block: bytes = b""  # ONNX, of the `shared` form only
    high_pass_hz: float = HIGH_PASS_HZ
    block_frames: int = 0  # these three of the `blocks` form only
    context_frames: int = 0
    level_blocks: int = 0
    schema: int = SCHEMA

    @property
    def hop_multiple(self) -> int:
        """Samples that a hop must be a multiple of, so that windows share what is computed once."""
        frames = {"streaming": 1, "shared": COLUMN_FRAMES, "blocks": self.block_frames}
        return frames[self.form] * self.pool if self.form in frames else 1

    @property
    def leading_zeros(self) -> int:
        """Samples of silence that the filter bank has heard before the first."""
        before = self.seen_frames - self.block_frames
        return self.filters.shape[1] - 1 + before * self.pool if self.form == "blocks" else 0

    @property
    def seen_frames(self) -> int:
        """Frames that the network is given for a block: its own and those before it."""
        return BLOCK_REACH + self.context_frames + self.block_frames

    @property
    def frames(self) -> int:
        """Feature frames of one window."""
        return self.frames_of(self.window_samples)

    def frames_of(self, samples: int) -> int:
        """Feature frames of a stream of `samples` samples."""
        return (self.leading_zeros + samples - self.filters.shape[1] + 1) // self.pool

    def llr(self, logits: NDArray[np.float32]) -> NDArray[np.float64]:
        """Log-likelihood ratios, float64 [batch], of logits [batch, 2]; higher is more bona fide."""
        raw = logits[:, 1].astype(np.float64) - logits[:, 0].astype(np.float64)
        return self.scale * raw + self.offset

    def check(self) -> None:
        """Raises ModelError with the reason when a field is not usable."""
        if self.schema != SCHEMA:
            raise ModelError(
                f"the model's metadata has schema {self.schema}, this program reads {SCHEMA}: "
                "export it again with the matching release"
            )
        for name, value, allowed in (
            ("form", self.form, FORMS),
            ("level", self.level, LEVELS),
            ("target", self.target, TARGETS),
        ):
            if value not in allowed:
                raise ModelError(f"the model's {name} is {value[:60]!r}, known are {', '.join(allowed)}")
        if self.int8_bits not in INT8_BITS:
            raise ModelError(
                f"the model's int8_bits is {limits.number(self.int8_bits)}, known are {', '.join(map(str, INT8_BITS))}"
            )
        if self.int8_bits == 8 and self.target in _SATURATING_TARGETS:
            raise ModelError(
                f"the model says that it is for {self.target} and has 8-bit integer products, which go wrong there: "
                f"make it again with `python -m quantization FLOAT.onnx --target {self.target} -o OUT.onnx`"
            )
        if self.filters.ndim != 2 or 0 in self.filters.shape or not np.isfinite(self.filters).all():
            raise ModelError("the model's filter bank is damaged")
        self._check_sizes()
        high_pass = self.high_pass_hz  # NaN fails both comparisons
        if not (high_pass == 0 or 0.1 <= high_pass <= min(HIGHEST_HIGH_PASS_HZ, self.sample_rate / 8)):
            raise ModelError(
                f"the model's high_pass_hz is {high_pass:g}: it must be 0, or from 0.1 to {HIGHEST_HIGH_PASS_HZ:g} Hz "
                "and at most an eighth of the sample rate"
            )
        if not isinstance(self.figures, Mapping) or limits.depth(self.figures) > limits.DEEPEST_FIGURES:
            raise ModelError("the model's figures are damaged")
        numbers = (self.scale, self.offset, self.threshold, self.threshold_bonafide)
        if not all(math.isfinite(number) for number in numbers):
            raise ModelError("the model's calibration or threshold is not a number")
        if self.scale <= 0 or self.threshold_bonafide < self.threshold:
            raise ModelError("the model's calibration or thresholds are in the wrong order")
        if any(abs(number) > limits.LARGEST_NUMBER for number in numbers):
            raise ModelError(f"the model's calibration or thresholds are beyond {limits.LARGEST_NUMBER:g}")
        if any(len(text) > limits.LONGEST_TEXT for text in (self.name, self.variant, self.source_sha256)):
            raise ModelError(f"the model's names have more than {limits.LONGEST_TEXT} characters")

    def _check_sizes(self) -> None:
        """Raises ModelError for a length that is absurd alone or with the others, before anything is made of it."""
        count, taps = self.filters.shape
        lowest, highest = limits.RATES
        if self.sample_rate <= 0 or self.pool <= 0 or self.frames < 1:
            raise ModelError("the model's window is shorter than its filter bank")
        longest = int(limits.LONGEST_WINDOW_SECONDS * self.sample_rate)
        for what, value, least, most in (
            ("sample rate", self.sample_rate, lowest, highest),
            ("window in samples", self.window_samples, 1, longest),
            ("pool", self.pool, 1, limits.LARGEST_POOL),
            ("number of filters", count, 1, limits.MOST_FILTERS),
            ("number of taps", taps, 1, limits.MOST_TAPS),
        ):
            if not least <= value <= most:
                raise ModelError(f"the model's {what} is {limits.number(value)}, allowed are {least} to {most}")
        sizes = (self.block_frames, self.context_frames, self.level_blocks)
        if self.form == "blocks":
            limits.check_blocks(sizes, self.window_samples, self.pool, self.sample_rate)
        elif any(sizes):
            raise ModelError(f"the model has blocks, and the form {self.form}, which has none")
        needed = self.needed_bytes(self.window_samples, channels=0, batch=1)
        limits.check_memory(needed, f"its window of {self.window_samples} samples with {count} filters")

    def needed_bytes(self, window_samples: int, channels: int, batch: int, held_samples: int | None = None) -> int:
        """What windows of that length take beside the network: see `limits.needed_bytes`."""
        return limits.needed_bytes(
            window_samples=window_samples,
            pool=self.pool,
            filters=self.filters.shape[0],
            taps=self.filters.shape[1],
            form=self.form,
            block_frames=self.block_frames,
            lead_frames=self.seen_frames - self.block_frames,
            channels=channels,
            batch=batch,
            held_samples=2 * window_samples if held_samples is None else held_samples,
        )

    def to_metadata(self) -> dict[str, str]:
        """The ONNX metadata of a file with this contract."""
        self.check()
        if bool(self.first_block) != (self.form == "shared"):
            raise ModelError("a model of the shared form, and no other, carries its first block")
        taps = np.ascontiguousarray(self.filters, dtype="<f4")
        values = {
            "schema": str(self.schema),
            "name": self.name,
            "form": self.form,
            "variant": self.variant,
            "level": self.level,
            "target": self.target,
            "int8_bits": str(self.int8_bits),
            "independent_windows": _truth(self.independent),
            "sample_rate": str(self.sample_rate),
            "window_samples": str(self.window_samples),
            "hop_multiple": str(self.hop_multiple),
            "pool": str(self.pool),
            "filter_shape": f"{taps.shape[0]}x{taps.shape[1]}",
            "filters_f4le_base64": base64.b64encode(taps.tobytes()).decode("ascii"),
            "high_pass_hz": repr(self.high_pass_hz),
            "polarity": POLARITY,
            "calibrated": _truth(self.calibrated),
            "scale": repr(self.scale),
            "offset": repr(self.offset),
            "threshold": repr(self.threshold),
            "threshold_bonafide": repr(self.threshold_bonafide),
            "source_sha256": self.source_sha256,
            "figures": json.dumps(dict(self.figures), sort_keys=True),
        }
        if self.form == "blocks":
            values |= {name: str(getattr(self, name)) for name in ("block_frames", "context_frames", "level_blocks")}
        if self.first_block:
            values["first_block_onnx_base64"] = base64.b64encode(self.first_block).decode("ascii")
        return {PREFIX + key: value for key, value in values.items()}

    @staticmethod
    def from_metadata(metadata: Mapping[str, str]) -> Contract:
        """Reads a contract. Raises ModelError when the file is no edge-detect model or is damaged."""
        values = {key[len(PREFIX) :]: text for key, text in metadata.items() if key.startswith(PREFIX)}
        if not values:
            raise ModelError(
                "this ONNX file carries no edge-detect metadata: make one with `python -m export CHECKPOINT`"
            )
        try:
            if long := [key for key in _NUMBERS if len(values.get(key, "")) > _LONGEST_NUMBER]:
                raise ModelError(f"the model's {long[0]} has {len(values[long[0]])} characters: that is no number")
            if odd := [key for key in _NUMBERS if not _plain(values.get(key, "0"))]:
                raise ModelError(f"the model's {odd[0]} is {values[odd[0]]!r}: that is no plain number")
            if int(values["schema"]) != SCHEMA:
                raise ModelError(
                    f"the model's metadata has schema {limits.number(int(values['schema']))}, "
                    f"this program reads {SCHEMA}: export it again with the matching release"
                )
            if values["polarity"] != POLARITY:
                raise ModelError(f"the model's polarity is {values['polarity'][:60]!r}, expected {POLARITY!r}")
            rows, columns = (int(part) for part in values["filter_shape"].split("x"))
            if not (0 < rows <= limits.MOST_FILTERS and 0 < columns <= limits.MOST_TAPS):
                raise ModelError(
                    f"the model's filter bank is {limits.number(rows)} x {limits.number(columns)}, allowed are "
                    f"{limits.MOST_FILTERS} filters of {limits.MOST_TAPS} taps"
                )
            if len(values["filters_f4le_base64"]) > 4 * -(-4 * rows * columns // 3):
                raise ModelError("the model's filter bank is damaged")
            if len(values.get("figures", "")) > limits.MOST_FIGURES:
                raise ModelError(f"the model's figures have more than {limits.MOST_FIGURES} characters")
            raw = base64.b64decode(values["filters_f4le_base64"], validate=True)
            contract = Contract(
                form=values["form"],
                variant=values["variant"],
                sample_rate=int(values["sample_rate"]),
                window_samples=int(values["window_samples"]),
                pool=int(values["pool"]),
                filters=np.frombuffer(raw, dtype="<f4").astype(np.float32).reshape(rows, columns),
                level=values["level"],
                target=values["target"],
                int8_bits=int(values.get("int8_bits", "0")),
                independent=_is_true("independent_windows", values, values["level"] in _INDEPENDENT_LEVELS),
                calibrated=_is_true("calibrated", values),
                scale=float(values["scale"]),
                offset=float(values["offset"]),
                threshold=float(values["threshold"]),
                threshold_bonafide=float(values["threshold_bonafide"]),
                source_sha256=values.get("source_sha256", ""),
                name=values.get("name", ""),
                figures=json.loads(values.get("figures", "{}")),
                high_pass_hz=float(values.get("high_pass_hz", HIGH_PASS_HZ)),
                block_frames=int(values.get("block_frames", "0")),
                context_frames=int(values.get("context_frames", "0")),
                level_blocks=int(values.get("level_blocks", "0")),
                first_block=base64.b64decode(values.get("first_block_onnx_base64", ""), validate=True),
            )
        except KeyError as missing:
            raise ModelError(f"the model's metadata lacks {PREFIX}{missing.args[0]}") from None
        except (ValueError, TypeError, OverflowError, RecursionError) as reason:
            raise ModelError(f"the model's metadata is damaged: {_short(reason)}") from None
        contract.check()
        if bool(contract.first_block) != (contract.form == "shared"):
            raise ModelError("the model's metadata lacks its first block, or has one although its form is not shared")
        return contract


def _short(reason: object) -> str:
    """What a value of somebody else's was, on a screen line."""
    text = " ".join(str(reason).split())
    return text if len(text) <= 160 else text[:157] + "..."


def _truth(value: bool) -> str:
    return "true" if value else "false"


def _plain(number: str) -> bool:
    """Whether it is written as `to_metadata` does: int and float take blanks, underscores and digits of any script."""
    return number.isascii() and "_" not in number and number == number.strip()


def _is_true(key: str, values: Mapping[str, str], usual: bool | None = None) -> bool:
    """What the file says, or what is `usual` where an older one does not. Raises ValueError or KeyError."""
    word = values[key] if usual is None else values.get(key, _truth(usual))
    if word not in ("true", "false"):
        raise ValueError(f"{key} is {word[:60]!r}, neither true nor false")
    return word == "true"
