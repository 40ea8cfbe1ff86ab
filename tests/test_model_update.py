"""A model on its way to a box: signed, checked, tried, taken back; systemd alone is played (rigs/manager)."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import numpy as np
import onnx
import pytest

from tests.rigs.manager import Manager, lives
from tests.rigs.pulse import PulseMicrophone

PROJECT = Path(__file__).resolve().parent.parent
BOX = PROJECT / "deploy/image/files/usr/sbin/edge-detect-model"
Exported = Callable[[str], Path]
Done = subprocess.CompletedProcess[str]


def run(*command: str | Path, environment: Mapping[str, str] = os.environ) -> Done:
    return subprocess.run(list(map(str, command)), capture_output=True, text=True, env={**environment})


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("keys")
    done = run(PROJECT / "deploy/keys", folder)
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.splitlines()) == 1 and "secret" in done.stdout
    return folder


def bundle(model: Path, keys: Path, made: Path, *options: str) -> Path:
    done = run(sys.executable, PROJECT / "deploy/bundle-model", model, "--keys", keys, "-o", made, *options)
    assert done.returncode == 0, done.stderr
    return made


class Box:
    """A tree like that of a box, with a certificate and nothing else."""

    def __init__(self, root: Path, keys: Path, environment: Mapping[str, str] = os.environ) -> None:
        for folder in ("etc/rauc", "etc/edge-detect", "data", "var/lib/edge-detect"):
            (root / folder).mkdir(parents=True)
        shutil.copy(keys / "cert.pem", root / "etc/rauc/keyring.pem")
        self.root = root
        self.manager = Manager(root)
        self.control = f"{sys.executable} -m tests.rigs.manager {root}"
        self._environment = {**environment, "PYTHONPATH": str(PROJECT), "OMP_NUM_THREADS": "1"}

    def __call__(self, *arguments: str | Path) -> Done:
        program = f"{sys.executable} -m edge_runtime"
        options = ("--root", self.root, "--control", self.control, "--program", program)
        return run(sys.executable, "-I", BOX, *options, *arguments, environment=self._environment)

    def well(self, *arguments: str | Path) -> str:
        """What it prints; it must not fail."""
        done = self(*arguments)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def refuses(self, *arguments: str | Path, code: int = 3) -> str:
        """Its one line; nothing may be changed."""
        before = self.everything()
        done = self(*arguments)
        assert done.returncode == code, done.stderr
        assert len(done.stderr.splitlines()) == 1 and not done.stdout
        assert self.everything() == before
        return done.stderr

    def everything(self) -> dict[str, bytes]:
        """Every file under /data/models but the lock."""
        files = [file for file in (self.root / "data").rglob("*") if file.is_file() and file.name != ".lock"]
        return {file.name: file.read_bytes() for file in files}

    def variable(self, name: str) -> str:
        """What the service would get."""
        path = self.root / "data/models/environment"
        lines = path.read_text().splitlines() if path.exists() else []
        return next((line.split('"')[1] for line in lines if line.startswith(f"{name}=")), "")

    def model(self) -> str:
        """Name of the model that the service would run; empty: its own."""
        path = self.variable("EDGE_DETECT_MODEL")
        assert not path or Path(path).is_file(), "there is no such model: the service could not start"
        return Path(path).name.rsplit("-", 1)[0]


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


def test_nothing_is_removed_but_what_it_wrote(box: Box, keys: Path, exported: Exported, tmp_path: Path) -> None:
    models = box.root / "data/models"
    models.mkdir()
    (tmp_path / "elsewhere.onnx").write_bytes(b"elsewhere")
    own = {"mine.onnx": b"mine", "next.onnx": b"of --shadow", "new-12345678.onnx": b"named like one of its own"}
    for name, content in own.items():
        (models / name).write_bytes(content)
    (models / "link.onnx").symlink_to(tmp_path / "elsewhere.onnx")
    (models / "folder.onnx").mkdir()
    for name in (".new-mine", ".new-12345678"):  # the second has a name that its own folders have
        (models / name).mkdir()
        (models / name / "notes").write_text("mine")

    def whole() -> bool:
        kept = all((models / name).read_bytes() == content for name, content in own.items())
        folders = all((models / name / "notes").exists() for name in (".new-mine", ".new-12345678"))
        return kept and folders and (models / "link.onnx").is_symlink() and (models / "folder.onnx").is_dir()

    new = bundle(exported("streaming"), keys, tmp_path / "new", "--name", "new")
    box.refuses("install", exported("streaming"))
    assert whole()
    box.well("install", "--without-trial", new)
    (written,) = [file for file in models.glob("new-*.onnx") if file.name not in own]
    box.well("rollback")
    assert whole() and not written.exists()
    # What it wrote and somebody replaced, or the configuration names, is not its own any more.
    box.well("install", "--without-trial", new)
    written.write_bytes(b"mine now")
    box.well("rollback")
    assert written.read_bytes() == b"mine now"
    assert "move it away" in box.refuses("install", new)
    written.unlink()
    (box.root / "etc/edge-detect/edge-detect.toml").write_text(f'model = "{written}"\n')
    box.well("install", "--without-trial", new)
    box.well("rollback")
    assert whole() and written.exists()


MANIFEST = {"type": "edge-detect-model", "name": "new", "sha256": "0" * 64, "created": "2026-01-01", "sequence": 1}


@pytest.mark.parametrize("what", ["nested", "list", "digits", "long", "no text", "wrong types", "nothing", "another"])
def test_what_is_signed_and_malformed_is_one_line(box: Box, keys: Path, tmp_path: Path, what: str) -> None:
    """Each content in turn, signed with the right key."""
    contents: dict[str, list[object]] = {
        "nested": [b"[" * 200_000, b'{"a":' * 100_000],
        "list": [b"[]", b'[["type"]]'],
        "digits": [json.dumps(MANIFEST).replace("1}", "9" * 5000 + "}").encode()],
        "long": [b'{"type": "' + b"x" * (2 << 20)],
        "no text": [b"\xff\xfe\0\n", b"\n\n"],
        "wrong types": [
            *({**MANIFEST, "name": name} for name in ("../../x", ".", "", "a/b", "x\n", "a" * 41)),
            {**MANIFEST, "name": {}},
            {**MANIFEST, "name": None},
            *({**MANIFEST, "sequence": number} for number in (float("inf"), -1, 1.5, True, "1", 1 << 64)),
            *({**MANIFEST, key: {"a": [[[]]]}} for key in ("type", "created", "sha256", "name")),
        ],
        "nothing": [b"", {}],
        "another": [MANIFEST],  # in order, and no model behind it
    }
    for content in contents[what]:
        text = content if isinstance(content, bytes) else json.dumps(content).encode()
        (tmp_path / "content").write_bytes(text + b"\nmodel")
        (tmp_path / "bundle").unlink(missing_ok=True)
        sign = ("openssl", "cms", "-sign", "-binary", "-nodetach", "-outform", "DER", "-in", tmp_path / "content")
        run(*sign, "-signer", keys / "cert.pem", "-inkey", keys / "key.pem", "-out", tmp_path / "bundle")
        told = box.refuses("install", tmp_path / "bundle")
        assert "holds no model" in told or "not the one that its manifest names" in told
        assert len(told) < 500


def test_what_is_no_bundle_at_all_is_one_line(box: Box, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "empty").touch()
    with (tmp_path / "huge").open("wb") as file:
        file.truncate(4 << 30)
    for path in (tmp_path / "pipe", tmp_path / "empty", tmp_path / "huge", tmp_path, Path("/dev/zero")):
        box.refuses("install", path)


@pytest.mark.parametrize(
    "text",
    [
        "# {" + '"a":[' * 100_000,
        '# {"phase": "trial"}',
        '# {"running": {"name": "x"}}',
        '# {"written": {"../x": "0"}}',
        '# {"since": 1e400}',
        '# {"sequence": ' + "9" * 5000 + "}",
        '# {"last": 5}',
        "\xff",
    ],
)
def test_a_state_that_it_never_wrote_is_one_line(box: Box, text: str) -> None:
    (box.root / "data/models").mkdir()
    (box.root / "data/models/environment").write_bytes(text.encode("latin-1") + b"\n")
    for command in ("status", "tick", "rollback"):
        assert "changed by somebody else" in box.refuses(command)


def test_a_report_of_a_trial_may_hold_anything(box: Box, keys: Path, exported: Exported, tmp_path: Path) -> None:
    box.control = "printf 'ActiveState=active\\nNRestarts=x\\n%s'"
    box.well("install", bundle(exported("streaming"), keys, tmp_path / "new", "--name", "new"))
    sha256 = json.loads((box.root / "data/models/environment").read_text().splitlines()[1][2:])["candidate"]["sha256"]
    path = box.root / "var/lib/edge-detect/shadow.json"
    good = {
        "state": "trying",
        "reason": "so\n\x1b[31m",
        "candidate": {"sha256": sha256},
        "tally": [],
        "agree_percent": {},
    }
    for content in (b"[" * 100_000, b"[]", b"\xff", b'{"state": 1', json.dumps(good).encode()):
        path.write_bytes(content)
        box.well("tick")
        assert "\x1b" not in box.well("status")
        assert box.variable("EDGE_DETECT_SHADOW")


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
