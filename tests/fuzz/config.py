"""Configuration: what a TOML file, provision.toml, a variable, the command line or a model's manifest says."""

from __future__ import annotations

import importlib.util
import json
import sys
import tomllib
from pathlib import Path
from types import ModuleType

from edge_runtime.app.arguments import parser
from edge_runtime.errors import UsageError
from edge_runtime.settings import config, document
from edge_runtime.settings.option import flag, option_of, variable
from edge_runtime.settings.schema import FIELDS
from tests.fuzz.harness import Target

_IMAGE = Path(__file__).resolve().parents[2] / "deploy/image/files/usr/lib/edge-detect-image"
_LONGEST_LINE = 400
_PROVISION = b"""hostname = "hall"
timezone = "UTC"
ssh_keys = ["ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJ you@there"]
[wifi]
country = "DE"
ssid = "a"
passphrase = "ThisIsAPassword"
hidden = true
[settings]
device = "hw:1"
hop = 1
file = ["a", 'b']
clip_before = 2.5e0
"""
_VALUES = b"hop\x000.5\0channel\0mix\0rate\x0016000\0threshold\0-1e3\0"


def _module(name: str) -> ModuleType:
    """A module of the image's programs, which are not installed here."""
    spec = importlib.util.spec_from_file_location(name, _IMAGE / f"{name}.py")
    assert spec is not None and spec.loader is not None
    module = sys.modules[name] = importlib.util.module_from_spec(spec)
    written, sys.dont_write_bytecode = sys.dont_write_bytecode, True  # nothing new shall lie in the image's files
    try:
        spec.loader.exec_module(module)
    finally:
        sys.dont_write_bytecode = written
    return module


provisioning, modelstate, modelbundle = _module("provisioning"), _module("modelstate"), _module("modelbundle")


def _seeds(folder: Path) -> list[bytes]:
    whole = document.as_toml()
    examples = "\n".join(
        line.removeprefix("#") for line in whole.splitlines() if line[:1] == "#" and line[1:2].isalpha()
    )
    hard = [b'x = """a\\\n"""""', b"x = '''a'''''", b'"a"."b" = {c = [1, 0x2, 1979-05-27T07:32:00Z]}', b"hop = 0xfff"]
    model = {"name": "new", "sha256": "0" * 64, "created": "2026", "sequence": 1}
    manifest = json.dumps({"type": "edge-detect-model", **model}).encode()
    ours = {**model, "file": "/data/x.onnx"}
    state = {"phase": "trial", "candidate": ours, "written": {"x.onnx": "0" * 64}, "since": 1.5}
    hard += [manifest, json.dumps(state).encode()]
    return [whole.encode(), examples.encode(), b'device = "hw:1"\nhop = "auto"\n', _PROVISION, _VALUES, *hard]


def _run(sample: bytes, folder: Path) -> None:
    _as_provisioning(sample)
    _as_update(sample, folder)
    _as_values(sample)
    path = folder / "edge-detect.toml"
    path.write_bytes(sample)
    for line in config.problems(str(path)):
        assert line.isprintable() and len(line) < _LONGEST_LINE + len(str(path)), line[:1000]
    found = config.effective({"config": str(path)}, {})
    shown = folder / "shown.toml"
    shown.write_text(document.as_shown(found))
    again = config.effective({"config": str(shown)}, {}).values
    for name, value in found.values.items():
        assert name == "config" or again.get(name) == value, f"what `config show` prints of {name} says something else"
    config.load({"config": str(path), "device": "hw:1"}, {})


def _as_provisioning(sample: bytes) -> None:
    """A box's settings are what provision.toml said, and nothing in it becomes a line of its own."""
    try:
        wanted = provisioning.read(sample)
        if "wifi" in wanted:
            assert provisioning.wireless(wanted["wifi"]).count("\n") <= 9
        written = tomllib.loads(provisioning.as_toml(wanted.get("settings", {})))
        assert written == {**provisioning.DEFAULTS, **wanted.get("settings", {})}
        for key in wanted.get("ssh_keys", []):
            assert len(key.strip().splitlines()) == 1
        assert set(wanted.get("hostname", "")) <= set("abcdefghijklmnopqrstuvwxyz0123456789-")
    except provisioning.Wrong as reason:
        assert provisioning.line(str(reason)).isprintable()


def _as_update(sample: bytes, folder: Path) -> None:
    """What a signed bundle says of its model, and the state of the updates: names of files lead nowhere else."""
    model = modelbundle._manifest(sample)
    assert model is None or (model["name"] and not set("/\\\n\0") & set(model["name"]) and model["name"][0] != ".")
    models = folder / "models"
    models.mkdir(exist_ok=True)
    (models / "environment").write_bytes(b"# " + sample.partition(b"\n")[0] + b"\n")
    (folder / "own.onnx").touch()
    try:
        store = modelstate.Store(models, folder / "report", folder / "none")
        store.prune()
        store.save()
    except modelstate.Wrong as reason:
        assert str(reason).isprintable()
    assert (folder / "own.onnx").exists()


def _as_values(sample: bytes) -> None:
    """Names and values with nulls between them, as variables and on the command line: both say the same."""
    parts = sample.decode("utf-8", "surrogateescape").split("\0")
    names = list(FIELDS)
    for place, (name, text) in enumerate(zip(parts[::2], parts[1::2], strict=False)):
        if place == 20:
            break
        name = name if name in FIELDS else names[sum(name.encode("utf-8", "surrogateescape")) % len(names)]
        declared = option_of(FIELDS[name])
        if not declared.stored or declared.many or declared.kind is bool or not text or text.startswith("-"):
            continue
        given, said = _from_variable(name, text)
        typed, answer = _from_command_line(name, text)
        assert len(said) < _LONGEST_LINE and len(answer) < _LONGEST_LINE, (name, said[:500], answer[:500])
        assert said or given == typed, (name, text, given, typed)


def _from_variable(name: str, text: str) -> tuple[object, str]:
    """The value, or why there is none."""
    try:
        return config.effective({}, {variable(name): text}).values.get(name), ""
    except UsageError as reason:
        return None, str(reason)


def _from_command_line(name: str, text: str) -> tuple[object, str]:
    """Likewise."""
    try:
        return getattr(parser().parse_args([flag(name), text]), name), ""
    except UsageError as reason:
        return None, str(reason)


TARGET = Target(
    seeds=_seeds,
    run=_run,
    tokens=(
        *(name.encode() for name in FIELDS),
        *(b"[" * 2000, b"{a=" * 1000, b".a" * 3000, b"0x" + b"f" * 5000, b"9" * 5000, b"1_0" * 2000, b"1e400", b"nan"),
        *(
            b'"""',
            b"'''",
            b'"',
            b"'",
            b"\\",
            b"\\u0000",
            b"\\u001b",
            b"#",
            b"\r\n",
            b"\xef\xbb\xbf",
            b"\xff\xfe",
            b"\0",
        ),
        *("٣".encode(), "\u2028".encode(), b" = ", b"[settings]\n", b"[wifi]\n", b"true", b"1979-05-27"),
    ),
)
