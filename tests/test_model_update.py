"""A model on its way to a box: signed, checked, tried, taken back; systemd alone is played (rigs/manager)."""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import onnx
import pytest

from tests.rigs.manager import lives
from tests.rigs.modelbox import BOX, PROJECT, Box, bundle, run, signing_keys
from tests.rigs.pulse import PulseMicrophone

Exported = Callable[[str], Path]


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("keys")
    done = signing_keys(folder)
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.splitlines()) == 1 and "secret" in done.stdout
    return folder


@pytest.fixture
def box(tmp_path: Path, keys: Path) -> Box:
    """Its service manager does nothing."""
    made = Box(tmp_path / "root", keys)
    made.control = "true"
    return made


def test_a_key_is_private_and_never_inside_a_checkout(keys: Path, tmp_path: Path) -> None:
    assert (keys / "key.pem").stat().st_mode & 0o777 == 0o600
    before = (keys / "key.pem").read_bytes()
    assert run(PROJECT / "deploy/keys", keys).returncode == 2
    assert (keys / "key.pem").read_bytes() == before

    run("git", "init", "-q", tmp_path)
    refused = run(PROJECT / "deploy/keys", tmp_path / "mine")
    assert refused.returncode == 2 and "git" in refused.stderr and not (tmp_path / "mine").exists()
    (tmp_path / ".gitignore").write_text("/mine/\n")
    assert run(PROJECT / "deploy/keys", tmp_path / "mine").returncode == 0
    assert "/keys/" in (PROJECT / ".gitignore").read_text().splitlines()


def test_what_another_key_signed_or_somebody_changed_is_refused(
    box: Box, keys: Path, exported: Exported, tmp_path: Path
) -> None:
    good = bundle(exported("streaming"), keys, tmp_path / "good")
    others = tmp_path / "others"
    run(PROJECT / "deploy/keys", others)
    foreign = bundle(exported("streaming"), others, tmp_path / "foreign")
    assert "not signed by the key" in box.refuses("install", foreign)
    data = good.read_bytes()
    for place in (len(data) // 2, len(data) - 10):  # in the model, and in the signature
        changed = tmp_path / "changed"
        changed.write_bytes(data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :])
        assert "changed" in box.refuses("install", changed)
    (tmp_path / "short").write_bytes(data[:5000])
    box.refuses("install", tmp_path / "short")
    box.refuses("install", exported("streaming"))
    box.refuses("install", tmp_path / "nothing")
    # Signed by the right key, but for something else.
    run("openssl", "cms", "-sign", "-binary", "-nodetach", "-outform", "DER", "-in", exported("streaming"),
        "-signer", keys / "cert.pem", "-inkey", keys / "key.pem", "-out", tmp_path / "other")  # fmt: skip
    assert "holds no model" in box.refuses("install", tmp_path / "other")
    (box.root / "etc/rauc/keyring.pem").unlink()
    assert "no certificate" in box.refuses("install", good)


def test_a_model_that_does_not_open_here_changes_nothing(
    box: Box, keys: Path, exported: Exported, tmp_path: Path
) -> None:
    model = onnx.load(str(exported("streaming")))
    for value in model.metadata_props:
        if value.key == "edge_detect.schema":
            value.value = "99"
    onnx.save(model, str(tmp_path / "later.onnx"))
    told = box.refuses("install", bundle(tmp_path / "later.onnx", keys, tmp_path / "later"), code=4)
    assert "schema 99" in told
    refused = run(sys.executable, PROJECT / "deploy/bundle-model", BOX, "--keys", keys, "-o", tmp_path / "x")
    assert refused.returncode == 2 and "no model" in refused.stderr and not (tmp_path / "x").exists()


def test_an_older_one_is_refused_unless_forced_and_rollback_goes_back_to_the_first(
    box: Box, keys: Path, exported: Exported, tmp_path: Path
) -> None:
    old = bundle(exported("waveform"), keys, tmp_path / "old", "--name", "old", "--sequence", "7")
    new = bundle(exported("streaming"), keys, tmp_path / "new", "--name", "new", "--sequence", "8")
    assert "nothing to go back to" in box.refuses("rollback")
    box.well("install", "--without-trial", new)
    assert box.model() == "new"
    assert "model that runs" in box.refuses("install", new)
    assert "older" in box.refuses("install", old)
    box.well("install", "--force", old)
    assert box.model() == "new" and "old" in box.variable("EDGE_DETECT_SHADOW")
    assert "on trial: old" in box.well("status")
    box.well("rollback")  # of the trial
    assert box.model() == "new" and not box.variable("EDGE_DETECT_SHADOW")
    box.well("install", "--force", "--without-trial", old)
    assert box.model() == "old"
    box.well("rollback")
    assert box.model() == "new"
    box.well("rollback")
    assert box.model() == ""
    assert [name for name in box.everything() if name.endswith(".onnx")] == []


def test_what_is_killed_between_is_done_by_the_timer(box: Box, keys: Path, exported: Exported, tmp_path: Path) -> None:
    new = bundle(exported("streaming"), keys, tmp_path / "new", "--name", "new")
    box.control = "sh -c 'kill -9 $PPID' sh"  # as a power cut, when all is written and the service does not know of it
    assert box("install", "--without-trial", new).returncode == -signal.SIGKILL
    assert box.model() == "new"
    box.control = f"sh -c 'echo $1 >>{tmp_path}/asked' sh"
    box.well("tick")
    asked = (tmp_path / "asked").read_text().split()
    assert asked.count("restart") == 1
    box.well("tick")
    assert (tmp_path / "asked").read_text().split().count("restart") == 1
    # Leftovers of a write that was cut short are none of its business, and go with the next change.
    (box.root / "data/models/.environment.part").write_text('EDGE_DETECT_MODEL="/half')
    (box.root / "data/models/.new-abcd_123").mkdir()
    (box.root / "data/models/.new-abcd_123/content").write_bytes(b"half")
    assert box.model() == "new"
    box.well("rollback")
    assert sorted(file.name for file in (box.root / "data/models").iterdir()) == [".lock", "environment"]


def test_a_file_that_is_not_ours_is_left_alone(box: Box, keys: Path, exported: Exported, tmp_path: Path) -> None:
    new = bundle(exported("streaming"), keys, tmp_path / "new")
    box.well("install", "--without-trial", new)
    (box.root / "data/models/environment").write_text("EDGE_DETECT_MODEL=/elsewhere\n")
    for command in (("install", new), ("tick",), ("status",), ("rollback",)):
        assert "changed by somebody else" in box.refuses(*command)


@pytest.mark.parametrize(
    ("shown", "model"),
    [
        ("ActiveState=active\\nNRestarts=2", "new"),
        ("ActiveState=inactive\\nNRestarts=0", "new"),  # somebody has stopped it
        ("ActiveState=failed\\nNRestarts=0", ""),
        ("ActiveState=active\\nNRestarts=3", ""),
        ("ActiveState=activating\\nNRestarts=1", ""),  # for the whole probation
    ],
)
def test_a_service_that_fails_with_it_gets_the_model_before(
    box: Box, keys: Path, exported: Exported, tmp_path: Path, shown: str, model: str
) -> None:
    box.control = f"printf '{shown}\\n%s'"
    box.well("install", "--without-trial", bundle(exported("streaming"), keys, tmp_path / "new", "--name", "new"))
    box.well("tick", "--health", "0")
    assert box.model() == model


@pytest.mark.parametrize(("trial", "model"), [("passed", "new"), ("failed", ""), ("trying", "")])
def test_the_trial_decides(box: Box, keys: Path, exported: Exported, tmp_path: Path, trial: str, model: str) -> None:
    box.control = "printf 'ActiveState=active\\nNRestarts=0\\n%s'"
    box.well("install", bundle(exported("streaming"), keys, tmp_path / "new", "--name", "new"))
    state = json.loads((box.root / "data/models/environment").read_text().splitlines()[1][2:])
    report = {"state": trial, "reason": "so", "candidate": {"sha256": state["candidate"]["sha256"]}}
    path = box.root / "var/lib/edge-detect/shadow.json"
    path.write_text(json.dumps(report | {"candidate": {"sha256": "of another trial"}}))
    box.well("tick")
    assert box.model() == "" and box.variable("EDGE_DETECT_SHADOW")
    path.write_text(json.dumps(report))
    box.well("tick")
    assert box.model() == model
    assert bool(box.variable("EDGE_DETECT_SHADOW")) == (trial == "trying")


@pytest.fixture
def heard(tmp_path: Path, keys: Path, exported: Exported) -> Iterator[Box]:
    """A box whose service listens to a microphone that hears syllables of noise, with a model of its own."""
    with PulseMicrophone() as rig:
        generator = np.random.default_rng(0)
        syllables = np.abs(np.sin(np.arange(60 * 16000) / 1600)) ** 4
        rig.feed.play((3000 * syllables * generator.standard_normal(len(syllables))).clip(-32768, 32767).astype("<i2"))
        made = Box(tmp_path / "root", keys, rig.environment)
        # An alarm has the ledger written at once, and not with the minute.
        (made.root / "etc/edge-detect/edge-detect.toml").write_text(
            f'device = "hw:1"\nmodel = "{exported("streaming")}"\nledger = "{made.root}/ledger"\n'
            "gate = false\nhop = 0.1\nshadow_windows = 2\nthreshold = -1e5\nalarm_on = 1e5\nalarm_off = 1e5\n"
            "smoothing = 0\nalarm_duration = 1\n"
        )
        yield made
        made.manager.stop()


@pytest.mark.nightly
def test_from_the_trial_at_a_microphone_to_the_end_of_the_probation_and_back(
    heard: Box, keys: Path, exported: Exported, tmp_path: Path
) -> None:
    heard.well("install", bundle(exported("waveform"), keys, tmp_path / "new", "--name", "new"))
    assert "trying" in heard.well("status") or "not begun" in heard.well("status")
    deadline = time.monotonic() + 240
    while not heard.model() and time.monotonic() < deadline:
        assert "not taken" not in heard.well("tick"), heard.manager.complaints.read_text()
        time.sleep(0.1)
    assert "new" in heard.well("status") and "on probation" in heard.well("status")
    sha256 = json.loads((heard.root / "var/lib/edge-detect/shadow.json").read_text())["candidate"]["sha256"]
    while "stays" not in (said := heard.well("tick", "--health", "0.5")):
        assert not said and time.monotonic() < deadline
        time.sleep(0.1)
    assert "scored sound" in said
    assert heard.model() == "new" and sha256[:8] in heard.variable("EDGE_DETECT_MODEL")

    heard.well("install", "--without-trial", bundle(exported("shared"), keys, tmp_path / "worse", "--name", "worse"))
    assert heard.model() == "worse"
    os.kill(heard.manager.process, signal.SIGKILL)
    while lives(heard.manager.process):
        time.sleep(0.02)
    assert "taken back" in heard.well("tick")
    assert heard.model() == "new" and lives(heard.manager.process)
