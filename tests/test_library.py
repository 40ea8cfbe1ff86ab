"""The runtime as a library: what a script gets is what the program says."""

from __future__ import annotations

import json
import logging
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile

import edge_runtime
from edge_runtime import Detector, InputError, UsageError, Verdict, resample, score_file
from tests.rigs.pulse import PulseMicrophone

ROOT = Path(__file__).resolve().parents[1]
SCRIPTS = re.findall(r"```python\n(.*?)```", (ROOT / "docs/python.md").read_text(), re.DOTALL)


def test_what_a_user_looks_for_is_there() -> None:
    assert set(edge_runtime.__all__) <= set(dir(edge_runtime))
    assert "edge-7" in repr(Detector()) and "windows of 4 s every 0.5 s" in repr(Detector())
    with pytest.raises(AttributeError):
        _ = edge_runtime.absent


def test_a_files_verdict_is_that_of_the_program(tmp_path: Path) -> None:
    detector = Detector(gate=True)
    for name in ("human.flac", "synthetic.flac"):
        path = ROOT / "examples" / name
        words = [sys.executable, "-m", "edge_runtime", "score", str(path), "--json"]
        said = json.loads(subprocess.run(words, capture_output=True, text=True, cwd=ROOT).stdout.splitlines()[-1])
        summary = score_file(path, detector)
        assert summary.score is not None and summary.verdict is not None
        assert (str(summary.verdict), round(summary.score, 4)) == (said["verdict"], said["score"])
        assert score_file(path) == summary
    with pytest.raises(InputError, match="absent"):
        score_file(tmp_path / "absent.wav")
    (tmp_path / "cut.flac").write_bytes((ROOT / "examples/human.flac").read_bytes()[:40000])
    with pytest.raises(InputError):
        score_file(tmp_path / "cut.flac")


def test_sound_at_another_rate_gets_the_same_verdict() -> None:
    samples, rate = soundfile.read(ROOT / "examples/human.flac", dtype="float32")
    high = resample(samples, rate, 48000)
    back = resample(high, 48000)
    assert back.dtype == np.float32 and abs(len(back) - len(samples)) <= 2
    detector = Detector()
    assert {window.verdict for window in detector.push(back)} == {Verdict.BONAFIDE}
    with pytest.raises(UsageError):
        detector.push(np.zeros((2, 16000), np.float32))


@pytest.mark.parametrize("script", SCRIPTS[:2], ids=["a file", "sound"])
def test_scripts_of_the_page_run(script: str) -> None:
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0 and re.search("bonafide|spoof", done.stdout), done.stderr


def test_the_script_with_a_microphone_runs() -> None:
    samples, _ = soundfile.read(ROOT / "examples/synthetic.flac", dtype="int16")
    with PulseMicrophone() as rig:
        rig.feed.play(np.tile(samples, 4).astype("<i2"))
        done = subprocess.run(
            [sys.executable, "-c", SCRIPTS[2]],
            capture_output=True,
            text=True,
            cwd=ROOT,
            timeout=120,
            env=rig.environment,
        )
    assert done.returncode == 0 and "spoof" in done.stdout, done.stderr


def test_modules_log_where_a_program_hooks(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG, "edge_runtime"):
        score_file(ROOT / "examples/human.flac")
    assert any("windows took" in record.getMessage() for record in caplog.records)
