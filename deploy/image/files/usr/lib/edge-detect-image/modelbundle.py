"""A bundle of `deploy/bundle-model` on a box: the signature is checked before anything in it is read."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

from modelstate import (
    CONTENT,
    CREATED,
    HIGHEST_SEQUENCE,
    LARGEST_JSON,
    MODEL,
    NAME,
    SHA256,
    UNWRITTEN,
    Model,
    Wrong,
)

LARGEST_BUNDLE = 256 << 20
"""Bytes, since openssl holds all of it in memory; the largest public RawNet2 has 102 MB."""

Run = Callable[..., subprocess.CompletedProcess[bytes]]


def unpack(bundle: Path, keyring: Path, work: Path, run: Run) -> tuple[Model, Path]:
    """What the bundle says of its model, and the model, unpacked in the folder `work`.

    Raises Wrong for a bundle that is none, was not signed by the key that `keyring` trusts, or does not fit the disk.
    """
    if not bundle.is_file():
        raise Wrong(f"there is no file {bundle}")
    if not keyring.is_file():
        raise Wrong(f"there is no {keyring}: this box has no certificate to check updates with")
    size = bundle.stat().st_size
    if size > LARGEST_BUNDLE:
        raise Wrong(f"{bundle} has more than {LARGEST_BUNDLE >> 20} MB: that is no bundle of a model")
    if shutil.disk_usage(work).free < 2 * size + (16 << 20):
        raise Wrong(f"there is no room in {work.parent} for two copies of {bundle}", UNWRITTEN)
    content = work / CONTENT
    # Without the last two whatever the system trusts would do as well.
    options = ("-binary", "-inform", "DER", "-CAfile", str(keyring), "-no-CApath", "-no-CAstore")
    done = run("openssl", "cms", "-verify", *options, "-in", str(bundle), "-out", str(content))
    if done.returncode:
        said = done.stderr.decode(errors="replace")
        found = re.search(r"Verify error: ?(.*)", said) or re.search(r"error:[^:]*:[^:]*:[^:]*:([^:]*)", said)
        why = f" ({found[1].strip()})" if found else ""
        raise Wrong(f"{bundle} is not signed by the key that {keyring} trusts, or was changed since{why}")
    with content.open("rb") as file:
        model = _manifest(file.readline(LARGEST_JSON))
        if model is None:
            raise Wrong(f"{bundle} is signed, but holds no model: make it with deploy/bundle-model")
        return model, _copied(file, model, work / MODEL)


def _manifest(text: bytes) -> Model | None:
    """What it says of the model, or None where it says something else, whatever that is."""
    try:
        told = json.loads(text)
    except (ValueError, RecursionError):
        return None
    if not isinstance(told, dict) or told.get("type") != "edge-detect-model":
        return None
    for key, pattern in (("name", NAME), ("sha256", SHA256), ("created", CREATED)):
        if not isinstance(told.get(key), str) or not pattern.fullmatch(told[key]):
            return None
    if type(told.get("sequence")) is not int or not 0 <= told["sequence"] <= HIGHEST_SEQUENCE:
        return None
    return {key: told[key] for key in ("name", "sha256", "created", "sequence")}


def _copied(file: BinaryIO, model: Model, half: Path) -> Path:
    digest = hashlib.sha256()
    with half.open("wb") as out:
        os.fchmod(out.fileno(), 0o644)
        while part := file.read(1 << 20):
            digest.update(part)
            out.write(part)
        out.flush()
        os.fsync(out.fileno())
    if digest.hexdigest() != model["sha256"]:
        raise Wrong(f"{model['name']}: the model is not the one that its manifest names")
    return half
