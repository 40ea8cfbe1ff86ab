"""A box whose model is changed by the real edge-detect-model, and bundles for it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from tests.rigs.manager import Manager

PROJECT = Path(__file__).resolve().parents[2]
BOX = PROJECT / "deploy/image/files/usr/sbin/edge-detect-model"
Done = subprocess.CompletedProcess[str]


def run(*command: str | Path, environment: Mapping[str, str] = os.environ) -> Done:
    return subprocess.run(list(map(str, command)), capture_output=True, text=True, env={**environment})


def signing_keys(folder: Path) -> Done:
    """Makes them as a user does."""
    return run(PROJECT / "deploy/keys", folder)


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
