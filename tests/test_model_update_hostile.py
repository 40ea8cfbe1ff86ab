"""What edge-detect-model makes of bundles, states and reports that nobody made in good faith, and of others' files."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.rigs.modelbox import Box, bundle, run, signing_keys

Exported = Callable[[str], Path]


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("keys")
    assert signing_keys(folder).returncode == 0
    return folder


@pytest.fixture
def box(tmp_path: Path, keys: Path) -> Box:
    """Its service manager does nothing."""
    made = Box(tmp_path / "root", keys)
    made.control = "true"
    return made


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
