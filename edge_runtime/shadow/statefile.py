"""The file that tells how a trial stands: JSON, written whole or not at all, read by whoever decides on the model."""

from __future__ import annotations

import hashlib
import json
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from edge_runtime.atomic import replace_file
from edge_runtime.shadow.trial import FAILED, PASSED, TRYING, Judgement, TrialCounts

SCHEMA = 1
_LARGEST_BYTES = 1 << 20
_MODE = 0o644


@dataclass(frozen=True)
class Models:
    """Which model is tried beside which; the name is the one in its metadata, as far as it could be read."""

    candidate: str
    candidate_sha256: str
    running: str
    running_sha256: str


@dataclass
class TrialRecord:
    """One trial."""

    models: Models
    windows: int
    judgement: Judgement = field(default_factory=lambda: Judgement(TRYING))
    tally: TrialCounts = field(default_factory=TrialCounts)
    started: float = field(default_factory=time.time)

    def to_dict(self) -> dict[str, Any]:
        """As the file has it; docs/model-updates.md tells what the keys mean."""
        tally = self.tally
        return {
            "schema": SCHEMA,
            "state": self.judgement.state,
            "reason": self.judgement.reason,
            "candidate": {"name": self.models.candidate, "sha256": self.models.candidate_sha256},
            "running": {"name": self.models.running, "sha256": self.models.running_sha256},
            "started": round(self.started),
            "updated": round(time.time()),
            "windows": self.windows,
            "agree_percent": _percent(tally.agree, tally.both),
            "bonafide_called_spoof_percent": _percent(tally.bonafide_spoof, tally.bonafide),
            "spoof_called_bonafide_percent": _percent(tally.spoof_bonafide, tally.spoof),
            "score_time_hops": {name: _rounded(tally.load(share)) for name, share in (("p50", 0.5), ("p95", 0.95))},
            "tally": tally.to_dict(),
        }


def read(path: str) -> TrialRecord | None:
    """The trial in a file; None where there is none that can be read."""
    try:
        with open(path, "rb") as file:
            told = json.loads(file.read(_LARGEST_BYTES))
        if told["schema"] != SCHEMA or told["state"] not in (TRYING, PASSED, FAILED):
            return None
        return TrialRecord(
            Models(
                str(told["candidate"]["name"]),
                str(told["candidate"]["sha256"]),
                str(told["running"]["name"]),
                str(told["running"]["sha256"]),
            ),
            int(told["windows"]),
            Judgement(told["state"], str(told["reason"])),
            TrialCounts.from_dict(told["tally"]),
            float(told["started"]),
        )
    except (OSError, ValueError, KeyError, TypeError):
        return None


def resumed(path: str, models: Models) -> TrialRecord | None:
    """The trial in a file, where it is one of the same two models."""
    record = read(path)
    if record is None:
        return None
    same = record.models.candidate_sha256 == models.candidate_sha256
    return record if same and record.models.running_sha256 == models.running_sha256 else None


def write(path: str, record: TrialRecord) -> None:
    """All of it, also after a power cut, or nothing; nowhere where no path is given.

    Raises OSError, or OutputError for a device.
    """
    if not path:
        return
    target = Path(path)
    target.with_name(f".{target.name}.part").unlink(missing_ok=True)  # what older releases left at a power cut
    text = json.dumps(record.to_dict(), indent=1, allow_nan=False) + "\n"
    replace_file(target, text.encode(), _MODE)


def sha256_of(path: str) -> str:
    """SHA-256 of a model file; empty where it cannot be read."""
    try:
        with open(path, "rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError:
        return ""


def fail(path: str, models: Models, windows: int, reason: str) -> None:
    """Marks the trial as failed, with what it had counted. Raises OSError or OutputError, as `write` does."""
    record = resumed(path, models) or TrialRecord(models, windows)
    record.judgement = Judgement(FAILED, reason)
    write(path, record)


def _percent(part: int, whole: int) -> float | None:
    return round(100 * part / whole, 2) if whole else None


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 4)
