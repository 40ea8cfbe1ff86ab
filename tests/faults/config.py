"""Configuration, environment, provisioning and updates of models."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path

from tests.faults.case import Case

_PROJECT = Path(__file__).resolve().parents[2]
_IMAGE = _PROJECT / "deploy/image/files/usr"
_SCRIPT = "tests.faults.script"
_CLIP = _PROJECT / "examples/human.flac"
Words = Callable[[Path], Sequence[str | Path]]


def _checked(content: str | bytes, *command: str) -> Words:
    """`config check` (or another command) of a file with this content."""

    def arguments(folder: Path) -> Sequence[str]:
        (folder / "box.toml").write_bytes(content if isinstance(content, bytes) else content.encode())
        return [*(command or ("config", "check")), "--config", "box.toml"]

    return arguments


def _pipe(folder: Path) -> Sequence[str | Path]:
    os.mkfifo(folder / "box.toml")
    return ["--config", "box.toml", "--file", _CLIP]


def _large(folder: Path) -> Sequence[str]:
    with (folder / "box.toml").open("wb") as file:
        file.truncate(3 << 30)
    return ["config", "check", "box.toml"]


def _provisioned(settings: str) -> Words:
    """A start of a box whose provision.toml has these settings."""

    def arguments(folder: Path) -> Sequence[str | Path]:
        for name in ("boot/firmware", "data/ssh", "etc"):
            (folder / name).mkdir(parents=True)
        (folder / "data/hostname").write_text("hall")
        (folder / "boot/firmware/provision.toml").write_text(f"[settings]\n{settings}\n")
        return [_IMAGE / "lib/edge-detect-image/provision", "--root", folder]

    return arguments


def _installed(bundle: Callable[[Path], str | Path]) -> Words:
    """An installation of a bundle on a box with a certificate."""

    def arguments(folder: Path) -> Sequence[str | Path]:
        (folder / "data").mkdir()
        subprocess.run([_PROJECT / "deploy/keys", folder / "keys"], check=True, capture_output=True)
        options = ("--root", folder, "--keyring", folder / "keys/cert.pem")
        return [_IMAGE / "sbin/edge-detect-model", *options, "install", bundle(folder)]

    return arguments


def _nested(folder: Path) -> Path:
    (folder / "content").write_bytes(b'{"type": ' * 50_000 + b"\nmodel")
    sign = ("openssl", "cms", "-sign", "-binary", "-nodetach", "-outform", "DER", "-in", folder / "content")
    keys = ("-signer", folder / "keys/cert.pem", "-inkey", folder / "keys/key.pem", "-out", folder / "nested.model")
    subprocess.run([*sign, *keys], check=True, capture_output=True)
    return folder / "nested.model"


CASES = [
    Case("`hop` is a hexadecimal number of 5,000 digits", _checked("hop = 0x" + "f" * 5000), 2, "a number that large"),
    Case(
        "`hop` is a decimal number of 5,000 digits", _checked("hop = " + "9" * 5000), 2, "line 1 has a number of more"
    ),
    Case("100,000 brackets", _checked("x = " + "[" * 100_000), 2, "brackets without end"),
    Case("80,000 keys", _checked("".join(f"k{n}=1\n" for n in range(80_000))), 2, "longer than 256 KB"),
    Case("30,000 keys", _checked("".join(f"k{n}=1\n" for n in range(30_000))), 2, "more of its entries are wrong"),
    Case("a key of 100,000 parts", _checked("a" + ".a" * 100_000 + " = 1"), 2, "line 1 has more than 8 dots"),
    Case("a named pipe as the configuration", _pipe, 2, "it is a named pipe, not a file"),
    Case("a file of 3 GB as the configuration", _large, 2, "longer than 256 KB"),
    Case("a configuration in UTF-16", _checked("hop = 1".encode("utf-16")), 2, "save it as UTF-8"),
    Case("a configuration with a byte order mark", _checked(b"\xef\xbb\xbfhop = 1"), 0, "box.toml is in order"),
    Case(
        "EDGE_DETECT_HOP=1_000",
        lambda folder: ["--file", _CLIP],
        2,
        "the variable EDGE_DETECT_HOP must be a number",
        environment={"EDGE_DETECT_HOP": "1_000"},
    ),
    Case(
        "a provision.toml with a number of 5,000 digits (host key and name are set)",
        _provisioned("hop = 0x" + "f" * 5000),
        0,
        "nothing of it was taken over",
        program=_SCRIPT,
    ),
    Case(
        "a signed bundle whose metadata are 50,000 objects", _installed(_nested), 3, "holds no model", program=_SCRIPT
    ),
    Case("a device as a bundle", _installed(lambda folder: "/dev/zero"), 3, "there is no file", program=_SCRIPT),
]
