"""What deploy/image/test requires of a box, step by step; every step leaves the box running."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any, TypeVar

from machine import Failed, Machine

T = TypeVar("T")
REPEATS = 4
"""How often a clip of some 6 seconds is played: an alarm needs more than one window."""
CONFIGURATION = "/etc/edge-detect/edge-detect.toml"
RECORDINGS = """
import sys
sys.path.insert(0, "/usr/lib/edge-detect")
import numpy, soundfile
for name in ("human", "synthetic"):
    samples, rate = soundfile.read(f"/usr/share/edge-detect/{name}.flac", dtype="int16")
    soundfile.write(f"/run/{name}.wav", numpy.tile(samples, %d), rate)
"""


@dataclass
class Given:
    """The box, what is tried on it, and what is known of it so far."""

    machine: Machine
    updates: dict[str, Path]
    light: str
    say: Callable[[str], None]
    started: str = field(default="", init=False)
    """The identity of the start that was seen last."""


def boots(box: Given) -> None:
    """The first start: grown, named, closed, and commissioned."""
    machine = box.machine
    machine.power_on()
    box.started = machine.wait()
    login = machine.uptime()
    box.say(f"ok    first start: login {login:.0f} s after the kernel's start, {_first_score(box)}")
    _require(machine.run("hostname").strip() == "proof", "the hostname of provision.toml is not in force")
    _require(machine.run("date +%Z").strip() == "CET", "the timezone of provision.toml is not in force")
    _require("hop = 4" in machine.run(f"cat {CONFIGURATION}"), "the settings of provision.toml are not in force")
    roots = machine.run("findmnt -no FSTYPE,OPTIONS / | head -1")
    _require(roots.startswith("overlay") and "lowerdir=/lower" in roots, f"the root is {roots}")
    size = int(machine.run("df --output=size -B1M /data | tail -1"))
    _require(size > 2000, f"/data has not grown: {size} MB")
    sshd = machine.run("sshd -T")
    _require("passwordauthentication no" in sshd and "kbdinteractiveauthentication no" in sshd, "sshd takes passwords")
    _require(machine.run("passwd -S root").split()[1] == "L", "root has a password")
    _require(not machine.run("find /var/log/journal -type f 2>/dev/null || true"), "the journal is written to disk")
    failed = [line.split()[0] for line in machine.run("systemctl --failed --plain --no-legend").splitlines()]
    _require(not failed, f"units failed: {' '.join(failed)}")
    box.say(
        f"ok    /data grown to {size} MB; hostname, timezone, settings of provision.toml; keys only; journal in memory"
    )


def again(box: Given) -> None:
    """A later start of a box that was left."""
    box.machine.power_on()
    box.started = box.machine.wait()
    _recordings(box)
    is_good(box)


def is_commissioned(box: Given) -> None:
    """The report of the first start is there, and has devices, noise floor, speed, and both clips judged right."""
    told = json.loads(box.machine.run("cat /data/commissioning*.json"))
    verdicts = [clip["verdict"] for clip in told["clips"]]
    _require(verdicts == ["bonafide", "spoof"], f"the example clips were judged {verdicts}")
    sound, speed = told["sound"], told["speed"]
    box.say(f"ok    commissioning report: {len(told['devices'])} devices, {told['device']['rate']} Hz, "
            f"noise floor {sound['floor_dbfs']:.0f} dBFS, a window takes {speed['median_ms']:.0f} ms, "
            f"shortest hop {speed['shortest_hop_seconds']:g} s, both clips judged right")  # fmt: skip


def hears(box: Given) -> None:
    """A human voice: silence. A synthetic one: the alarm, in log, ledger, evidence, and light."""
    machine = box.machine
    before = len(_alarms(box))
    _play(box, "human")
    _require(len(_alarms(box)) == before, f"an alarm at the human voice: {_alarms(box)[-1:]}")
    box.say("ok    human voice: silence")
    machine.start(
        "voice", "aplay -q -D plughw:1,1 /run/synthetic.wav; sleep 1; aplay -q -D plughw:1,1 /run/synthetic.wav"
    )
    _until(box, "an alarm at the synthetic voice", 120, lambda: len(_alarms(box)) > before)
    line = _alarms(box)[-1]
    seen = machine.run(f"for i in $(seq 40); do cat /sys/class/leds/{box.light}/brightness; sleep 0.1; done").split()
    turns = sum(one != other for one, other in pairwise(seen))
    _require(turns >= 8, f"the light does not blink in an alarm: {turns} changes in {len(seen)} looks")
    box.say(f"ok    synthetic voice: {line}; the light blinks ({turns} changes in 4 s)")
    clip = _until(
        box, "a clip of the alarm", 180, lambda: machine.run("ls /var/lib/edge-detect/clips/*.flac || true").split()
    )
    told = _until(box, "the alarm in the ledger", 120, lambda: _coverage(box)["alarms"])
    box.say(f"ok    the ledger has the alarm ({told[-1]['text']}), and its sound is kept: {Path(clip[-1]).name}")


def is_good(box: Given) -> None:
    """The health check has found the system good."""
    slot, version = _slot(box)

    def marked() -> bool:
        environment = box.machine.run("grub-editenv /boot/firmware/grub/grubenv list")
        return f"{slot}_TRY=0" in environment and f"{slot}_OK=1" in environment and ": found good" in _health(box)

    _until(box, "the system found good, and GRUB knows", 300, marked)
    box.say(f"ok    system {slot}, version {version}, is found good: {_health(box).splitlines()[-1]}")


def refuses(box: Given) -> None:
    """Bundles that were tampered with, are of a stranger, or for another board."""
    machine = box.machine
    for name, because in {
        "strange": "signature verification failed",
        "resigned": "LastError",
        "other": "LastError",
        "changed": "LastError",
    }.items():
        machine.send(box.updates[name], "/data/update.raucb")
        line = machine.refuses("rauc install /data/update.raucb 2>&1", because)
        order = machine.run("grub-editenv /boot/firmware/grub/grubenv list").splitlines()
        slot, _ = _slot(box)
        _require(f"ORDER={slot} " in "\n".join(order), f"after the {name} bundle GRUB would start another system")
        box.say(f"ok    {name} bundle refused: {line[:160]}")


def survives_a_cut_while_updating(box: Given) -> None:
    """Power is cut while the other slot is being written."""
    machine = box.machine
    machine.send(box.updates["good"], "/data/update.raucb")
    machine.start("update", "rauc install /data/update.raucb >/run/install.log 2>&1")
    # Held there, since what is told of the progress comes too late to cut the power at it.
    machine.run("until grep -qs '7.% Copying' /run/install.log; do sleep 0.02; done; pkill -STOP -x rauc; sync")
    at = machine.run("tail -1 /run/install.log").strip()
    slot, version = _slot(box)
    _cut_and_boot(box)
    _require(_slot(box) == (slot, version), "another system started")
    box.say(f"ok    power cut while updating (at: {at}): system {slot} starts as before")
    is_good(box)


def updates(box: Given) -> None:
    """A good update: the other system starts, keeps what the box knew, hears, and is found good."""
    slot, _ = _slot(box)
    seconds = _install(box, "good")
    _reboot(box)
    now, version = _slot(box)
    _require(now != slot and version == "2", f"system {now}, version {version} started")
    _require("hop = 4" in box.machine.run(f"cat {CONFIGURATION}"), "the configuration was lost")
    _require(bool(_coverage(box)["alarms"]), "the ledger was lost")
    box.say(f"ok    a later start: {_first_score(box)}")
    is_good(box)
    box.say(f"ok    good update: installed in {seconds:.0f} s; configuration and ledger kept")


def falls_back_from_dead(box: Given) -> None:
    """An update whose system does not start: GRUB takes the old one."""
    before = _slot(box)
    _install(box, "dead")
    _reboot(box)
    _require(_slot(box) == before, f"system {_slot(box)} started")
    is_good(box)
    box.say(f"ok    an update that does not start: back to system {before[0]}, version {before[1]}")


def falls_back_from_mute(box: Given) -> None:
    """An update that starts, but whose detector does not hear: the health check goes back."""
    before = _slot(box)
    _install(box, "mute")
    _reboot(box)
    _require(_slot(box)[1] == "mute", f"system {_slot(box)} started")
    box.say(f"      the update that does not hear runs as system {_slot(box)[0]}")
    box.started = box.machine.wait(unlike=box.started)
    _require(_slot(box) == before, f"system {_slot(box)} started")
    line = next(line for line in _health(box, "mute").splitlines() if "going back" in line)
    is_good(box)
    box.say(f"ok    an update that does not hear: {line}")


def survives_a_cut_while_writing(box: Given) -> None:
    """Power is cut in the middle of an alarm, while its sound and the ledger are written."""
    machine = box.machine
    _recordings(box)
    for delay in (0.0, 12.0):
        before = len(_coverage(box)["alarms"])
        machine.start("voice", "for i in 1 2 3 4; do aplay -q -D plughw:1,1 /run/synthetic.wav; done")
        _until(box, "an alarm", 150, lambda: _alarms(box))
        time.sleep(delay)
        _cut_and_boot(box)
        _until(box, "listening", 120, lambda: _journal_time(box, "microphone listening"))
        checked = machine.run(
            "journalctl -b -k -o cat --no-pager | grep -E '^(data|/dev/vda4|initrd):' || true"
        ).strip()
        told = _coverage(box)
        _require(len(told["alarms"]) > before, "the alarm before the cut is not in the ledger")
        clips = machine.run("cd /var/lib/edge-detect/clips; ls").split()
        whole = machine.run(f"python3 -I -c '{_whole_clips()}'").split()
        _require(set(whole) >= {name for name in clips if name.endswith(".flac")}, f"clips are broken: {clips}")
        _recordings(box)
        checked = checked.splitlines()[0] if checked else "clean"
        box.say(f"ok    power cut {delay:.0f} s into an alarm: listens again; the ledger has the alarm; "
                f"clips that can be heard: {len(whole)}; /data: {checked}")  # fmt: skip


def tries_a_model(box: Given) -> None:
    """A model alone: refused from a stranger, tried beside the running one, takes over, and goes back on command."""
    machine = box.machine
    machine.send(box.updates["strange-model"], "/data/new.model")
    line = machine.refuses("edge-detect-model install /data/new.model 2>&1", "is not signed by the key")
    box.say(f"ok    model of a stranger refused: {line[:160]}")
    # Two networks are too much for 500 million instructions a second, and the trial says so: here it has 1000.
    machine.shift = 0
    _cut_and_boot(box)
    _recordings(box)
    machine.run(f"grep -q shadow_windows {CONFIGURATION} || echo shadow_windows = 10 >>{CONFIGURATION}; sync")
    machine.send(box.updates["model"], "/data/new.model")
    began = machine.uptime()
    machine.run("edge-detect-model install /data/new.model")
    machine.start("voice", "while aplay -q -D plughw:1,1 /run/human.wav; do :; done")
    state = "edge-detect-model status"
    _until(box, "the end of the trial", 600, lambda: "on trial" not in machine.run(state))
    told = machine.run(state)
    _require("running:  proof" in told and "on probation" in told, f"the model did not take over: {told}")
    box.say(f"ok    model: took over after {machine.uptime() - began:.0f} s in shadow; {told.splitlines()[-1].strip()}")
    machine.run("sleep 75; edge-detect-model tick --health 30")  # the ledger is written once a minute
    _require("on probation" not in machine.run(state), f"still on probation: {machine.run(state)}")
    machine.run("systemctl stop voice; edge-detect-model rollback")
    told = machine.run(state)
    _require("running:  the service's own model" in told, f"not back: {told}")
    box.say("ok    model: stays after its probation; rolled back on command")


ALL = (
    *(boots, is_commissioned, hears, is_good, refuses, survives_a_cut_while_updating, updates, falls_back_from_dead),
    *(falls_back_from_mute, survives_a_cut_while_writing, tries_a_model),
)
FAST = (boots, hears, is_good, updates, falls_back_from_dead)


def _require(true: bool, otherwise: str) -> None:
    if not true:
        raise Failed(otherwise)


def _until(box: Given, what: str, seconds: float, look: Callable[[], T]) -> T:
    """Looks until there is something, for so many seconds of the box's own clock."""
    end = box.machine.uptime() + seconds
    while not (found := look()):
        if box.machine.uptime() > end:
            raise Failed(f"did not come within {seconds:.0f} s: {what}")
        time.sleep(2)
    return found


def _recordings(box: Given) -> None:
    box.machine.run(f"python3 -I - <<'END'\n{RECORDINGS % REPEATS}\nEND")


def _first_score(box: Given) -> str:
    """Has a human voice there at once, so that the first score depends on the box alone, and says when it came."""
    _recordings(box)
    box.machine.start("voice", "while aplay -q -D plughw:1,1 /run/human.wav; do :; done")
    first = _until(box, "a first score", 180, lambda: _journal_time(box, "first window with speech is scored"))
    ready = _journal_time(box, "Started edge-detect.service")
    listens = _journal_time(box, "microphone listening")
    box.machine.run("systemctl stop voice")
    return f"service {ready:.0f} s, listening {listens:.0f} s, first score {first:.0f} s (by the box's own clock)"


def _whole_clips() -> str:
    return (
        'import sys, glob; sys.path.insert(0, "/usr/lib/edge-detect"); import soundfile; '
        '[print(name.rsplit("/")[-1]) for name in glob.glob("/var/lib/edge-detect/clips/*.flac") '
        "if len(soundfile.read(name)[0])]"
    )


def _play(box: Given, name: str) -> None:
    """Plays it to its end, and waits until what was heard is judged."""
    box.machine.run(f"aplay -q -D plughw:1,1 /run/{name}.wav && sleep 8", 900)


def _alarms(box: Given) -> list[str]:
    """The alarms of this start, in the service's log."""
    text = box.machine.run("journalctl -u edge-detect -b -o cat --no-pager")
    return [line for line in text.splitlines() if re.match(r"ALARM \d+: a synthetic voice", line)]


def _journal_time(box: Given, text: str) -> float:
    """When a line came, in seconds from the kernel's start; 0 where it did not."""
    lines = box.machine.run("journalctl -b -u edge-detect -o short-monotonic --no-hostname --no-pager").splitlines()
    found = next((line for line in lines if text in line), "")
    return float(found[1:].split("]")[0]) if found else 0.0


def _coverage(box: Given) -> dict[str, Any]:
    return json.loads(box.machine.run(f"edge-detect coverage --json --since 6h --config {CONFIGURATION}"))


def _slot(box: Given) -> tuple[str, str]:
    """The system that runs: its slot and version."""
    told = box.machine.run("cat /proc/cmdline /etc/edge-detect-image.json")
    return re.findall(r"rauc\.slot=(\w)", told)[0], json.loads(told.splitlines()[-1])["version"]


def _health(box: Given, version: str = "") -> str:
    """What the health check wrote, of the system that runs or of another."""
    wanted = f" {version or _slot(box)[1]}: "
    return "\n".join(line for line in box.machine.run("cat /data/rauc/health.log").splitlines() if wanted in line)


def _install(box: Given, name: str) -> float:
    box.machine.send(box.updates[name], "/data/update.raucb")
    began = box.machine.uptime()
    box.machine.run("rauc install /data/update.raucb && rm /data/update.raucb", 600)
    return box.machine.uptime() - began


def _reboot(box: Given) -> None:
    box.machine.run("systemctl reboot")
    box.started = box.machine.wait(unlike=box.started)


def _cut_and_boot(box: Given) -> None:
    box.machine.power_cut()
    box.machine.power_on()
    box.started = box.machine.wait(unlike=box.started)
