"""The pure core: samples in, judged windows out, the same for every split of the samples into pushes."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike, NDArray

from edge_runtime.decision.quality import Quality, clean, measure, objection
from edge_runtime.decision.speech import LEAST_SECONDS, SpeechGate
from edge_runtime.decision.verdict import Reason, Thresholds, Window, decide
from edge_runtime.errors import ModelError, UsageError
from edge_runtime.model import limits
from edge_runtime.model.highpass import HighPass
from edge_runtime.model.inputs import Inputs, Tape
from edge_runtime.model.network import Network

HOP_SECONDS = 0.5
"""From one window to the next, where nothing else is asked for."""
MOST_NUMBERLESS = 10
"""Windows in a row for which a model may give no number: one strange sound is a window's fault, ten are the model's."""
TAIL_SECONDS = 0.05
"""An unscored end up to this long gets no window of its own: it is shorter than a syllable."""


class Detector:
    """Scores a mono stream in overlapping windows, one each hop; what the overlap gives is computed once.

    The front end is fed at fixed places, the ends of windows, and not as samples happen to come in: hence
    the scores do not depend on the split. Positions are counted in samples, so that times do not drift.
    Memory is bounded by the window and the model's largest batch.

    All sound goes through the model's high-pass first, so that a constant under it, or what drifts slowly, changes
    nothing: network, gate, level and contrast have what comes out. Peak and clipping are those of the sound as it came.
    Samples that are not numbers count as the one before and make their windows unsure, as clipping does; silent windows
    are not scored (see `edge_runtime.decision.quality` for the limits). With `gate` neither are windows with less than
    `least_speech_seconds` of speech, or than half a shorter stream. A window for which the model gives NaN or infinity
    is unsure with the reason `model`, and counted (`numberless`); several in a row are a ModelError.

    >>> import soundfile
    >>> samples, rate = soundfile.read("examples/human.flac", dtype="float32")
    >>> detector = Detector()
    >>> windows = [*detector.push(samples), *detector.flush()]
    >>> [str(window.verdict) for window in windows]
    ['bonafide', 'bonafide', 'bonafide', 'bonafide', 'bonafide']
    """

    def __init__(
        self,
        model: str | Path | Network | None = None,
        *,
        hop_seconds: float | None = None,
        window_seconds: float | None = None,
        threshold: float | None = None,
        gate: bool = False,
        least_speech_seconds: float = LEAST_SECONDS,
    ) -> None:
        """`model`: a file, an opened network or None for the shipped one. `threshold` replaces both of its.

        `hop_seconds`, HOP_SECONDS or a shorter window where it is None, is rounded to the model's hop multiple.
        `window_seconds` other than the model's needs a
        model with a dynamic time axis. Raises UsageError for values that cannot be, ModelError for the model.
        """
        self.network = model if isinstance(model, Network) else Network.load(model)
        contract = self.network.contract
        self.sample_rate = contract.sample_rate
        self.window_samples = _window_samples(self.network, window_seconds)
        if hop_seconds is None:
            hop_seconds = min(HOP_SECONDS, self.window_samples / self.sample_rate)
        self.hop_samples = self._checked_hop(hop_seconds)
        self.thresholds = (
            Thresholds(contract.threshold, contract.threshold_bonafide)
            if threshold is None
            else Thresholds(threshold, threshold)
        )
        self._gate = SpeechGate(contract.sample_rate) if gate else None
        self._least_speech = round(least_speech_seconds * self.sample_rate)
        # Held are the newest complete window and the hop that comes in after it, at most a window.
        held = 2 * self.window_samples
        limits.check_memory(self.network.needed_bytes(self.window_samples, held), "the model with such windows")
        self._high_pass = HighPass(contract.high_pass_hz, self.sample_rate)
        self._samples = Tape((held,))  # what is judged
        self._raw = Tape((held,))  # as it came, with zeros for what is no number
        self._invalid = Tape((held,), np.bool_)
        self._tapes = (self._samples, self._raw, self._invalid)
        self._inputs = Inputs(self.network, self.window_samples, held)
        # Written here once, when a window is complete; pages never used cost nothing.
        batch = self.network.largest_batch
        self._batch = np.empty((batch, *self.network.input_shape(self.window_samples)), np.float32)
        self.numberless = 0
        """Windows of sound in order for which the model gave no number, since this was made."""
        self._numberless_in_a_row = 0
        self.reset()

    def __repr__(self) -> str:
        contract = self.network.contract
        times = f"windows of {self.window_samples / self.sample_rate:g} s every {self.hop_seconds:g} s"
        return f"<Detector {contract.name!r} at {contract.level}: {times}, {self.sample_rate} Hz>"

    def reset(self) -> None:
        """Forgets everything heard: the next sample is at 0 s."""
        for tape in self._tapes:
            tape.reset()
        self._high_pass.reset()
        self._inputs.reset()
        if self._gate:
            self._gate.reset()
        self._heard = 0  # samples that the gate was fed
        self._base = 0  # position in the stream of the tapes' first sample: the start of the newest complete window
        self._waiting: list[_Sound] = []  # complete windows that are not scored yet
        self._complete = False  # whether any window is

    @property
    def hop_seconds(self) -> float:
        """From one window to the next, as it truly is: a multiple of what windows can share."""
        return self.hop_samples / self.sample_rate

    @property
    def batch_seconds(self) -> float:
        """New sound that makes a full batch: a push of so much lets the model score several windows at once."""
        return self.network.largest_batch * self.hop_seconds

    def set_hop(self, hop_seconds: float) -> None:
        """From now on windows come every `hop_seconds`, counted from the newest complete one.

        Raises UsageError when that is no positive time or longer than the window.
        """
        self.hop_samples = self._checked_hop(hop_seconds)

    def _checked_hop(self, seconds: float) -> int:
        multiple = self.network.contract.hop_multiple
        samples = _hop_samples(seconds, self.sample_rate, multiple)
        if samples > self.window_samples and seconds * self.sample_rate <= self.window_samples + 0.5:
            samples = self.window_samples // multiple * multiple  # the window is no multiple: not beyond it
        if samples > self.window_samples:
            raise UsageError(
                f"a hop of {seconds:g} s leaves sound unheard between windows of "
                f"{self.window_samples / self.sample_rate:g} s: take a shorter hop"
            )
        return samples

    def push(self, samples: ArrayLike) -> list[Window]:
        """The windows that `samples`, mono floats [n] at `sample_rate` with full scale 1.0, complete.

        Raises UsageError unless they are one-dimensional floats, ModelError when the model fails.
        """
        block = _mono_floats(samples)
        windows: list[Window] = []
        while block.size:
            start = self.hop_samples if self._complete else 0  # of the next window, on the tapes
            missing = max(0, start + self.window_samples - self._samples.length)
            values, invalid = clean(block[:missing])
            self._raw.push(values)
            self._invalid.push(invalid)
            self._samples.push(self._high_pass.push(values, invalid))
            if values.size == missing:
                windows += self._take_in(start)
            block = block[missing:]
        return windows + self._score_waiting()

    def flush(self) -> list[Window]:
        """Ends the stream and resets: the window at its end, where one is due.

        A stream shorter than a window is repeated up to one, as RawNet2 was trained, with its own end as the
        window's. A longer one gets a last window, if that adds more than 0.05 s to what was scored: it ends less
        than a hop multiple before the stream does or, with blocks, where the stream does, and stands alone unless
        it ends with a block. Raises ModelError when the model fails.
        """
        windows: list[Window] = []
        heard = self._samples.length
        if not self._complete:
            if heard:
                windows = self._score_alone(0, np.resize(self._samples.data, self.window_samples))
        else:
            # The tapes begin with the last window scored: `start` is also how much a later one adds.
            contract = self.network.contract
            start = heard - self.window_samples
            within = start % contract.hop_multiple
            start -= 0 if contract.form == "blocks" else within  # a block is too long to leave out
            if start > TAIL_SECONDS * self.sample_rate:
                alone = contract.form == "blocks" and within
                windows = (
                    self._score_alone(start, self._samples.data[start:])
                    if alone
                    else self._take_in(start) + self._score_waiting()
                )
        self.reset()
        return windows

    def _take_in(self, start: int) -> list[Window]:
        """Takes in the complete window that begins at `start` on the tapes and forgets what lies before it.

        Gives the windows that are scored now, when as many wait as the model takes at once.
        """
        end = start + self.window_samples
        sound = _Sound(self._base + start, end - start, self._quality(start, end), *self._speech(start, end))
        self._inputs.push(self._samples.data, end)
        if sound.worth_scoring:
            self._inputs.write(self._samples.data, start, self._batch[sum(s.worth_scoring for s in self._waiting)])
        self._waiting.append(sound)
        self._complete = True
        self._base += start
        for tape in self._tapes:
            tape.drop(start)
        self._inputs.drop(start)
        return self._score_waiting() if len(self._waiting) == self.network.largest_batch else []

    def _score_alone(self, start: int, samples: NDArray[np.float32]) -> list[Window]:
        """The last window, from `start` on the tapes to the stream's end: `samples`, as if no sound had come before."""
        end = self._samples.length
        quality = self._quality(start, end)
        sound = _Sound(self._base + start, end - start, quality, *self._speech(start, end, ended=True))
        if sound.worth_scoring:
            self._batch[0] = self._inputs.whole(samples)
        self._waiting = [sound]
        return self._score_waiting()

    def _quality(self, start: int, end: int) -> Quality:
        """That of the sound between two places on the tapes."""
        invalid = int(np.count_nonzero(self._invalid.data[start:end]))
        return measure(self._samples.data[start:end], invalid, self._raw.data[start:end])

    def _speech(self, start: int, end: int, ended: bool = False) -> tuple[float | None, bool]:
        """The share of speech between two places on the tapes, and whether it is enough; True without a gate."""
        if self._gate is None:
            return None, True
        stream_end = self._base + end
        self._gate.push(self._samples.data[self._heard - self._base : end])
        self._heard = stream_end
        if ended:
            self._gate.flush()
        share = self._gate.share(self._base + start, stream_end)
        self._gate.drop(self._base + start)
        length = end - start
        return share, share * length >= min(self._least_speech, length / 2)

    def _score_waiting(self) -> list[Window]:
        """Scores the windows that are complete, all in one run of the network."""
        sounds, self._waiting = self._waiting, []  # also when the model fails: whoever goes on, goes on with new sound
        count = sum(sound.worth_scoring for sound in sounds)
        scores = iter(self.network.contract.llr(self.network.body(self._batch[:count])).tolist() if count else ())
        return [self._judge(sound, next(scores) if sound.worth_scoring else None) for sound in sounds]

    def _judge(self, sound: _Sound, score: float | None) -> Window:
        quality = sound.quality
        reason = objection(quality, sound.samples / self.sample_rate)
        if not sound.spoken and not quality.silent:
            reason = Reason.NO_SPEECH
        if score is not None:
            score = score if math.isfinite(score) else None
            self._count_numberless(score is None and reason is not Reason.INVALID)
            reason = Reason.MODEL if score is None and reason is not Reason.INVALID else reason
        return Window(
            start=sound.start / self.sample_rate,
            end=(sound.start + sound.samples) / self.sample_rate,
            score=score,
            verdict=decide(score, self.thresholds, reason),
            level_dbfs=quality.level_dbfs,
            peak_dbfs=quality.peak_dbfs,
            clipped=quality.clipped,
            invalid=quality.invalid,
            reason=reason,
            speech=sound.speech,
        )

    def _count_numberless(self, numberless: bool) -> None:
        """Raises ModelError when the model gives no numbers any more: then it is broken, and all windows are lost."""
        self.numberless += numberless
        self._numberless_in_a_row = self._numberless_in_a_row + 1 if numberless else 0
        if self._numberless_in_a_row >= MOST_NUMBERLESS:
            self._numberless_in_a_row = 0
            raise ModelError(
                f"the model {self.network.path} gave NaN or infinity for {MOST_NUMBERLESS} windows in a row: it is "
                "damaged or wrong for this machine"
            )


@dataclass(frozen=True)
class _Sound:
    """A window that is complete: where it begins in the stream, its length, and what was measured on it."""

    start: int  # samples
    samples: int
    quality: Quality
    speech: float | None  # share, where there is a gate
    spoken: bool  # enough speech to be scored

    @property
    def worth_scoring(self) -> bool:
        return self.spoken and not self.quality.silent


def _mono_floats(samples: ArrayLike) -> NDArray[np.float32]:
    array = np.asarray(samples)
    if array.ndim != 1:
        raise UsageError(f"samples must be mono, of shape [n], not {array.shape}: mix the channels first")
    if not np.issubdtype(array.dtype, np.floating):
        raise UsageError(f"samples must be floats with full scale 1.0, not {array.dtype}: divide by full scale")
    with np.errstate(over="ignore"):  # what float32 cannot hold becomes infinite, and hence invalid
        return array.astype(np.float32, copy=False)


def _hop_samples(seconds: float, rate: int, multiple: int) -> int:
    if not (math.isfinite(seconds) and seconds > 0):
        raise UsageError(f"the hop must be a time above 0 s, not {seconds:g}")
    return max(1, round(seconds * rate / multiple)) * multiple


def _window_samples(network: Network, seconds: float | None) -> int:
    """The window in samples; another than the model's own is tried out once."""
    contract = network.contract
    if seconds is None:
        return contract.window_samples
    if not 0 < seconds <= limits.LONGEST_WINDOW_SECONDS:
        raise UsageError(f"the window must be above 0 and at most {limits.LONGEST_WINDOW_SECONDS:g} s, not {seconds:g}")
    samples = round(seconds * contract.sample_rate)
    if samples == contract.window_samples:
        return samples
    own = f"{contract.window_samples / contract.sample_rate:g} s"
    if not network.dynamic_time:
        raise UsageError(f"this model takes windows of {own} only, not of {seconds:g} s")
    if contract.form == "blocks" and samples % contract.hop_multiple:
        block = f"{contract.hop_multiple / contract.sample_rate:g} s"
        raise UsageError(
            f"a window of {seconds:g} s is no whole number of this model's blocks of {block}: its own has {own}"
        )
    try:
        network.fit(samples)
    except ModelError as reason:
        short = samples < contract.window_samples
        what = "is too short for this model" if short else f"does not fit this model ({reason})"
        raise UsageError(f"a window of {seconds:g} s {what}: its own has {own}") from None
    return samples
