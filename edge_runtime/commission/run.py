"""The commissioning test: looks at one thing after the other, and goes on where one of them fails."""

from __future__ import annotations

import dataclasses
import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from edge_runtime.capture.device.identity import SoundCard, card_of, read_cards
from edge_runtime.capture.device.probe import Probed, probe
from edge_runtime.capture.liveness import LivenessLimits
from edge_runtime.capture.source import LiveSource
from edge_runtime.commission import clips, sound, speed
from edge_runtime.commission.check import Check, exit_code, fail, ok, warn, worst
from edge_runtime.commission.order import CommissionRequest
from edge_runtime.detector import Detector
from edge_runtime.errors import EdgeDetectError, Ended, InputError, UsageError
from edge_runtime.report.jsonl import utc
from edge_runtime.run.opening import foreign_hop, foreign_window, open_detector
from edge_runtime.settings import config
from edge_runtime.settings.option import variable
from edge_runtime.settings.schema import AUTO, MIX, RAW, SOURCES, Settings
from edge_runtime.system.log import Log
from edge_runtime.system.machine import Machine, this_machine
from edge_runtime.version import __version__

CONNECT_SECONDS = 15.0
"""How long a microphone is waited for at most, where the configuration would wait longer: USB takes seconds at boot."""
_RATE = 16000
"""What is listened at where there is no model to say it."""
_SND = Path("/dev/snd")

Stopped = Callable[[], bool]


@dataclass
class Findings:
    """All that was found; None where it could not be looked at."""

    begun: float  # seconds since 1970
    machine: Machine
    settings: Settings | None = None
    configuration: str | None = None
    model: Mapping[str, Any] | None = None
    microphones: Sequence[Probed] = ()
    device: Mapping[str, Any] | None = None
    sound: sound.Sound | None = None
    speed: speed.Speed | None = None
    clips: list[clips.ReferenceVerdict] = field(default_factory=list)
    checks: list[Check] = field(default_factory=list)

    @property
    def exit_code(self) -> int:
        return exit_code(self.checks)

    def as_json(self) -> dict[str, Any]:
        """The report of `--json`; docs/commissioning.md tells what the keys mean."""
        return {
            "type": "commission",
            "time": utc(self.begun),
            "verdict": str(worst(self.checks)),
            "exit_code": self.exit_code,
            "version": __version__,
            "configuration": self.configuration,
            "machine": dataclasses.asdict(self.machine),
            "model": self.model,
            "devices": [
                {**dataclasses.asdict(one.device), "rates": one.rates, "card": _card(one.card)}
                for one in self.microphones
            ],
            "device": self.device,
            "sound": dataclasses.asdict(self.sound) if self.sound else None,
            "speed": dataclasses.asdict(self.speed) if self.speed else None,
            "clips": [dataclasses.asdict(clip) for clip in self.clips],
            "checks": [
                {"check": check.name, "verdict": str(check.grade), "found": check.found, "todo": check.todo}
                for check in self.checks
            ],
        }


def commission(order: CommissionRequest, stopped: Stopped, tell: Callable[[str], object]) -> Findings:
    """Looks at configuration, model, microphone, sound, speed and clips; `tell` hears what takes long.

    Raises InputError only when `stopped()` before it was done: half a test is none.
    """
    found = Findings(time.time(), this_machine())
    detector = None
    if _settle(found, order.given):
        detector = _open_model(found, stopped)
    heard = _listen(found, order.seconds, detector.sample_rate if detector else _RATE, stopped, tell)
    _need(stopped)
    if detector and found.settings:
        tell("timing the model")
        _rate(found, found.settings, detector, heard, stopped)
        _need(stopped)
        _score_clips(found, found.settings, detector, order, stopped)
        _need(stopped)
    return found


def _need(stopped: Stopped) -> None:
    if stopped():
        raise InputError("ended before the test was done: there is no report")


def _settle(found: Findings, given: Mapping[str, Any]) -> bool:
    """The configuration, with a microphone of whatever place names one, else the default one."""
    found.configuration = given.get("config") or os.environ.get(variable("config")) or None
    try:
        stored = config.effective(given).values
        if "device" not in stored and (stored.get("stream") or stored.get("live")):
            raise UsageError(
                "commission tests microphones, and this configuration names a stream or a pipe: name a microphone "
                "(--device), or listen with --duration 60 and look at `edge-detect coverage`"
            )
        values = {name: value for name, value in stored.items() if name not in (*SOURCES, *RAW)}
        found.settings = Settings(**values, device=stored.get("device") or "default")
    except UsageError as reason:
        todo = "correct it, and run this again: without it nothing else can be tested"
        found.checks.append(fail("configuration", str(reason), todo, reason.exit_code))
        return False
    found.checks.append(ok("configuration", found.configuration or "no file, so the defaults"))
    return True


def _open_model(found: Findings, stopped: Stopped) -> Detector | None:
    """The detector, which scores all that is not silent, so that it can be timed without anybody speaking."""
    settings = found.settings
    assert settings is not None
    hop = None if settings.hop == AUTO else settings.hop
    try:
        detector = open_detector(dataclasses.replace(settings, hop=hop, least_speech=0.0), stopped, Log("error"))
        network, contract = detector.network, detector.network.contract
        found.model = {
            "name": contract.name,
            "sha256": network.sha256,
            "file": str(network.path),
            "level": contract.level,
            "variant": contract.variant,
            "target": contract.target,
            "form": contract.form,
            "calibrated": contract.calibrated,
            "window_seconds": detector.window_samples / detector.sample_rate,
            "notes": network.notes,
        }
    except Ended:
        return None  # `_need` says it
    except EdgeDetectError as reason:
        todo = "name a model that `python -m export` made, for this machine, and a window and hop that fit it"
        found.checks.append(fail("model", str(reason), todo, reason.exit_code))
        return None
    text = f"{contract.name or network.path.name} ({contract.variant}, {contract.level}), sha256 {network.sha256}"
    if contract.calibrated or settings.threshold is not None:
        found.checks.append(ok("model", "; ".join([text, *network.notes])))
    else:
        todo = "calibrate it (`python -m training.calibrate`), or set a threshold"
        found.checks.append(warn("model", f"{text}: not calibrated, its verdicts mean little", todo))
    if warning := foreign_window(detector):
        found.checks.append(warn("window", warning, "take `window` out of the configuration"))
    if hop is not None and (note := foreign_hop(detector, float(hop))):
        found.checks.append(warn("hop", note, f"set hop = {detector.hop_seconds:g} in the configuration"))
    return detector


def _listen(
    found: Findings, seconds: float, rate: int, stopped: Stopped, tell: Callable[[str], object]
) -> sound.Recording | None:
    """The microphones that there are, and the sound of the one that is meant."""
    unlisted = ""
    try:
        found.microphones = probe()
    except InputError as reason:
        unlisted = str(reason)
    settings = found.settings
    if settings is None:
        return None
    limits = LivenessLimits(
        stall=settings.stall,
        silent=min(settings.silent_after, seconds / 2),
        connect_timeout=min(settings.connect_seconds, CONNECT_SECONDS),
        recover_timeout=0.0,
    )
    source = LiveSource(settings.device or "default", rate, limits, settings.channel)
    tell(f"opening the microphone {settings.device}")
    listening = f"listening for {seconds:g} s to {settings.device}: speak, so that the level is that of a voice"
    heard = sound.listen(source, rate, seconds, stopped, lambda: tell(listening))
    if source.device is not None:
        card = card_of(source.device.name, read_cards())
        found.device = {
            "asked": settings.device,
            "name": source.device.name,
            "rate": source.native_rate,
            "channels": source.channels,
            "card": _card(card),
        }
    found.sound = heard.sound
    if heard.trouble or source.device is None:
        trouble = heard.trouble or "the microphone was not opened in time"
        todo = _advice(trouble, found.microphones, opened=source.device is not None)
        found.checks.append(fail("microphone", trouble, todo, InputError.exit_code))
    elif unlisted:
        found.checks.append(
            warn("microphone", f"{source.title}; {unlisted}", "restart the sound system, or the machine")
        )
    else:
        found.checks.append(ok("microphone", source.title))
    if heard.sound and not stopped():
        found.checks += sound.judge(heard.sound)
        if settings.channel == MIX:
            found.checks += sound.judge_channels(source.channels, heard.channels)
    return heard


def _advice(trouble: str, microphones: Sequence[Probed], opened: bool) -> str:
    """What to do about a microphone that cannot be opened, or broke off."""
    if opened:
        return "check the cable and what else uses the microphone; try another port, another microphone"
    locked = [str(path) for path in sorted(_SND.glob("pcm*c")) if not os.access(path, os.R_OK | os.W_OK)]
    if locked:
        return f"this user may not open {locked[0]}: run it with sudo, or add the user to the group audio"
    if "need PyAudio" in trouble:
        return "install PyAudio as it says, and run this again"
    if "busy" in trouble:
        return "end what holds it (`sudo systemctl stop edge-detect`, or a sound server), and run this again"
    if microphones:
        return (
            "plug it in, or name one that is listed (--device); one in use is not: `sudo systemctl stop edge-detect` "
            "frees the service's"
        )
    if read_cards():
        return (
            "a sound card is there, and no microphone at it is free: plug one in, end what uses it "
            "(`sudo systemctl stop edge-detect`)"
        )
    return "plug a microphone in, and see `arecord -l`; an I2S one needs its dtoverlay line in config.txt"


def _rate(
    found: Findings, settings: Settings, detector: Detector, heard: sound.Recording | None, stopped: Stopped
) -> None:
    alive = heard is not None and heard.sound is not None and not heard.sound.constant
    samples = heard.samples if heard is not None and alive else sound.NOTHING
    try:
        found.speed = speed.measure(detector, samples, settings.hop == AUTO, stopped)
    except EdgeDetectError as reason:
        todo = "the file is damaged or wrong for this machine: take another model"
        found.checks.append(fail("speed", str(reason), todo, reason.exit_code))
        return
    found.checks.append(speed.judge(found.speed))


def _score_clips(
    found: Findings, settings: Settings, detector: Detector, order: CommissionRequest, stopped: Stopped
) -> None:
    detector = Detector(
        detector.network,
        hop_seconds=detector.hop_seconds,
        window_seconds=settings.window,
        threshold=settings.threshold,
        gate=settings.gate,
        least_speech_seconds=settings.least_speech,
    )
    for clip in order.clips:
        try:
            judged = clips.score(clip, detector, stopped)
        except EdgeDetectError as reason:
            todo = "the file is damaged or wrong for this machine: take another model"
            found.checks.append(fail("clip", f"{clip.path}: {reason}", todo, reason.exit_code))
            continue
        found.clips.append(judged)
        found.checks.append(clips.judge(judged))


def _card(card: SoundCard | None) -> dict[str, Any] | None:
    return dataclasses.asdict(card) if card else None
