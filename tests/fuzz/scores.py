"""Score files, keys and lists of clips: read to the end, or refused in one line."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from evaluation.protocols import read_list
from evaluation.scorefiles import contradicted, match, read_scores
from evaluation.tdcf import read_asv
from tests.fuzz.harness import Target

_SCORES = (
    b"T0 0.5\nT1 -1.25\n",
    b"T0 - bonafide 0.5\nT1 A07 spoof -1.25\n",
    b"S1 T0 0.5 bonafide\nS2 T1 -1.25 spoof\n",
    b"filename\tcm-score\tcm-label\nT0\t0.5\tbonafide\nT1\t-1.25\tspoof\n",
)
_KEYS = (
    b"S1 T0 - - bonafide\nS2 T1 - A07 spoof\n",
    b"S1 T0 alaw ita_tx bonafide bonafide notrim eval\nS2 T1 none ita_tx A07 spoof notrim eval\n",
    b"file,label,system,source\nT0.wav,bonafide,-,a\nT1.wav,spoof,x,b\n",
)
_ASV = (b"bonafide target 1\nbonafide nontarget 0\nA07 spoof 0.5\n",)
_PARTS = b"\n===\n"


def _seeds(folder: Path) -> list[bytes]:
    return [_PARTS.join((scores, key, asv)) for scores in _SCORES for key in _KEYS for asv in _ASV]


def _run(sample: bytes, folder: Path) -> None:
    scores, key, asv = [*sample.split(_PARTS, 2), b"", b""][:3]
    for name, content in (("scores", scores), ("key", key), ("asv", asv)):
        (folder / name).write_bytes(content)
    read = read_scores(folder / "scores")
    assert read.scores and np.isfinite(list(read.scores.values())).all()
    listed = read_list(folder / "key", needs_audio=False)
    found = match(read.scores, listed.clips, listed.left_out)
    assert len(found.clips) == len(found.scores)
    contradicted(read.labels, found.clips)
    read_asv(folder / "asv", None, None).rates()


TARGET = Target(
    seeds=_seeds,
    run=_run,
    tokens=(b"1_000", b"nan", b"1e999", b"bonafide", b"spoof", b"cm-score", b"\xff", b"\x00", b"\xd9\xa1", b'"', b","),
)
