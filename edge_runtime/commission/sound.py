"""What a microphone gives: some seconds of it, measured and judged."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edge_runtime.capture.block import CHANNELS, STATE, Losses
from edge_runtime.capture.liveness import State
from edge_runtime.capture.source import LiveSource
from edge_runtime.commission.check import Check, fail, ok, warn
from edge_runtime.decision.quality import CLIPPED_SHARE, FLOOR_DBFS, clean, measure
from edge_runtime.errors import InputError

SETTLE_SECONDS = 0.5
"""Left out at the beginning: many sound cards open with zeros or a click."""
FLOOR_PERCENT = 10
"""The noise floor is the level that so many of the frames stay under, as in `edge_runtime.decision.quality`."""
_FRAME_SECONDS = 0.02
NOISY_FLOOR_DBFS = -40.0
"""A rule of thumb: speech at some distance comes in at -30 to -20 dBFS, and must stand out by 12 dB."""
FAINT_DBFS = -90.0
"""Below it lies the noise of 16 bits, and nothing that a microphone which works would give in a room."""
OFFSET = 0.1
"""A constant part of so much of full scale takes room from loud sound, which then clips. No score depends on it."""
LOST_SHARE = 0.1
"""Share of lost sound from which the box is not fit. A single gap at boot is not so much: 0.25 s is the least seen."""


NOTHING: NDArray[np.float32] = np.zeros(0, np.float32)


@dataclass(frozen=True)
class Sound:
    """What was measured. Levels are in dB of full scale, about the mean."""

    seconds: float
    level_dbfs: float  # RMS
    floor_dbfs: float  # FLOOR_PERCENT of the frames lie below
    peak_dbfs: float
    clipped: float  # share of samples at full scale, 0 to 1
    offset: float  # the mean; 1 is full scale
    invalid: int  # samples that were no numbers
    constant: bool  # it was one value for at least half of the time
    overflows: int
    dropped_seconds: float
    lost_seconds: float


@dataclass(frozen=True)
class Recording:
    """What came of listening: mono float32 [n], its measure where anything came, and what it broke off with."""

    samples: NDArray[np.float32]
    sound: Sound | None
    trouble: str
    channels: tuple[str, ...] = ()  # what `capture.channels` says of them


def listen(
    source: LiveSource, rate: int, seconds: float, stopped: Callable[[], bool], began: Callable[[], object]
) -> Recording:
    """Listens to `source`, which gives `rate` Hz, for `seconds` after SETTLE_SECONDS, or until `stopped()`.

    `began` is called once, when the first sound is there: before, nobody listens.
    """
    wanted = round((seconds + SETTLE_SECONDS) * rate)
    parts: list[NDArray[np.float32]] = []
    losses = Losses()
    constant = False
    trouble = ""
    channels: list[str] = []
    try:
        for block in source.blocks(lambda: sum(map(len, parts)) >= wanted or stopped()):
            if block.samples.size and not any(map(len, parts)):
                began()
            parts.append(block.samples)
            for event in block.events:
                losses = losses.plus(event)
                channels += [event.reason] if event.kind == CHANNELS else []
                constant |= event.kind == STATE and event.state == State.SILENT
    except InputError as reason:
        trouble = str(reason)
    samples = np.concatenate([NOTHING, *parts])
    settle = round(SETTLE_SECONDS * rate)
    samples = samples[settle : settle + round(seconds * rate)]
    found = measured(samples, rate, constant, losses) if samples.size else None
    return Recording(samples, found, trouble, tuple(channels))


def measured(samples: NDArray[np.float32], rate: int, constant: bool, losses: Losses) -> Sound:
    """The measure of mono float32 [n > 0] at `rate` Hz."""
    samples, invalid = clean(samples)
    quality = measure(samples, int(np.count_nonzero(invalid)))
    mean = float(samples.mean(dtype=np.float64))
    frame = min(samples.size, round(rate * _FRAME_SECONDS))
    frames = samples[: samples.size // frame * frame].reshape(-1, frame).astype(np.float64) - mean
    faint = float(np.percentile(np.sqrt((frames * frames).mean(axis=1)), FLOOR_PERCENT))
    return Sound(
        seconds=samples.size / rate,
        level_dbfs=quality.level_dbfs,
        floor_dbfs=max(FLOOR_DBFS, 20 * float(np.log10(max(faint, 1e-9)))),
        peak_dbfs=quality.peak_dbfs,
        clipped=quality.clipped,
        offset=mean,
        invalid=quality.invalid,
        constant=constant,
        overflows=losses.overflows,
        dropped_seconds=losses.dropped_seconds,
        lost_seconds=losses.lost_seconds,
    )


def judge(sound: Sound) -> list[Check]:
    """The checks `signal`, `noise floor`, `clipping` and `losses`; a dead microphone has the first alone."""
    dead = _signal(sound)
    if dead.code:
        return [dead, _losses(sound)]
    return [dead, _floor(sound), _clipping(sound), _losses(sound)]


def judge_channels(count: int, said: Sequence[str]) -> list[Check]:
    """The check `channels` of a source that has several, `count`, which are mixed; `said` is what was found of them."""
    if said:
        todo = (
            "name the channel that has the voice (--channel 1, or channel = 1 in the configuration), or mend the wiring"
        )
        return [warn("channels", "; ".join(said), todo)]
    return [ok("channels", f"{count}, of which none is dead, drowned or against another")] if count > 1 else []


def _signal(sound: Sound) -> Check:
    name, code = "signal", InputError.exit_code
    if sound.constant and abs(sound.offset) < 1e-4:
        return fail(
            name,
            "digital silence: nothing but zeros",
            "unmute the microphone (`alsamixer`, F4), check its switch and plug, and that it is the right one",
            code,
        )
    if sound.constant:
        return fail(
            name,
            f"one constant value only ({sound.offset:+.1%} of full scale), and no sound",
            "the microphone is dead or wired wrongly: check power and wiring, try another",
            code,
        )
    if sound.invalid:
        return fail(
            name,
            f"{sound.invalid} samples are no numbers",
            "the card or its driver is broken: name another device",
            code,
        )
    if sound.level_dbfs < FAINT_DBFS:
        return warn(
            name,
            f"next to nothing: {sound.level_dbfs:.1f} dBFS RMS",
            "raise the capture gain (`alsamixer`, F4), speak while this runs, check that it is the right one",
        )
    if abs(sound.offset) > OFFSET:
        return warn(
            name,
            f"a constant part of {sound.offset:+.0%} of full scale lies under the sound: no verdict depends on it, but "
            f"loud sound clips {_headroom_lost(sound.offset):.1f} dB earlier",
            "check the microphone's power and wiring, or try another card; lower the gain if `clipping` warns too",
        )
    return ok(name, f"{sound.seconds:.1f} s of sound, {sound.level_dbfs:.1f} dBFS RMS, peak {sound.peak_dbfs:.1f} dBFS")


def _headroom_lost(offset: float) -> float:
    """How much earlier sound clips above `offset`, 0 to below 1 of full scale, in dB."""
    return float(-20 * np.log10(max(1e-3, 1 - abs(offset))))


def _floor(sound: Sound) -> Check:
    text = f"{sound.floor_dbfs:.1f} dBFS"
    if sound.floor_dbfs > NOISY_FLOOR_DBFS:
        return warn(
            "noise floor",
            f"{text}, above {NOISY_FLOOR_DBFS:.0f}: noise hides what a voice is made of",
            "move the microphone away from fans and towards who speaks, or lower the gain; then run this again",
        )
    return ok("noise floor", text)


def _clipping(sound: Sound) -> Check:
    text = f"{sound.clipped:.2%} of the samples are at full scale"
    todo = "lower the capture gain (`alsamixer`, F4)"
    if sound.clipped > CLIPPED_SHARE:
        return fail("clipping", f"{text}: windows of such sound have no verdict", todo, InputError.exit_code)
    return warn("clipping", text, todo) if sound.clipped else ok("clipping", "none")


def _losses(sound: Sound) -> Check:
    lost = sound.dropped_seconds + sound.lost_seconds
    if not lost and not sound.overflows:
        return ok("losses", "no sound was lost")
    text = f"{lost:.2f} s of sound were lost, and the card reported {sound.overflows} overflows"
    todo = (
        "stop what else this machine does, try another USB port or a hub with power, and a supply that is strong enough"
    )
    if lost > LOST_SHARE * sound.seconds:
        return fail("losses", text, todo, InputError.exit_code)
    return warn("losses", text, todo)
