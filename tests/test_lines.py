"""What programs rely on: every line fits its schema, every field is in the page, and every page is up to date."""

from __future__ import annotations

import json
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import soundfile

from edge_runtime.report.lines import LINES, as_markdown, schema
from edge_runtime.settings import document
from edge_runtime.settings.schema import FIELDS

ROOT = Path(__file__).resolve().parents[1]
ALARMS = ("--alarm-on", "1e5", "--alarm-off", "1e5", "--smoothing", "0", "--alarm-duration", "0", "--alarm-hold", "1")


def lines(*arguments: str, given: bytes | None = None) -> list[dict[str, Any]]:
    words = [sys.executable, "-m", "edge_runtime", *arguments]
    done = subprocess.run(words, capture_output=True, cwd=ROOT, input=given, timeout=120)
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_every_line_of_real_runs_fits_the_schema(tmp_path: Path) -> None:
    samples, _ = soundfile.read(ROOT / "examples/synthetic.flac", dtype="int16")
    (tmp_path / "cut.flac").write_bytes((ROOT / "examples/human.flac").read_bytes()[:60_000])
    files = [str(ROOT / "examples/human.flac"), str(tmp_path / "cut.flac")]
    found = [
        *lines("score", "--json", *files),
        *lines("listen", "--file", "-", "--raw", "s16le", "--duration", "7", *ALARMS, given=samples.tobytes() * 3),
    ]
    assert {line["type"] for line in found} >= {"window", "event", "alarm", "summary"}
    validator = jsonschema.Draft202012Validator(schema())
    for line in found:
        validator.validate(line)
        assert set(line) <= {"type", "time", "file", "file_hex", *(field.name for field in LINES[line["type"]])}, line
    assert any("error" in line for line in found) and any("time" in line for line in found)


@pytest.mark.parametrize("wrong", [{"type": "window"}, {"type": "other"}, {"type": "alarm", "alarm": "maybe"}])
def test_a_line_that_is_none_does_not_fit(wrong: dict[str, Any]) -> None:
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.Draft202012Validator(schema()).validate(wrong)


def test_the_pages_are_what_the_program_prints() -> None:
    assert (ROOT / "docs/output.md").read_text() == as_markdown()
    done = subprocess.run(
        [sys.executable, "-m", "edge_runtime", "config", "schema", "--lines"], capture_output=True, text=True, cwd=ROOT
    )
    assert json.loads(done.stdout) == schema()


def test_the_whole_configuration_fits_its_schema_and_a_wrong_one_does_not() -> None:
    validator = jsonschema.Draft202012Validator(document.schema())
    written = document.as_toml()
    validator.validate(tomllib.loads(written))
    uncommented = "\n".join(
        line.removeprefix("#") if line.startswith("#") and " = " in line and line[1:2].isalpha() else line
        for line in written.splitlines()
    )
    every = tomllib.loads(uncommented)
    validator.validate(every)
    assert set(every) == {name for name in FIELDS if name in document.schema()["properties"]}
    for wrong in ({"hop": "often"}, {"devise": "hw:1"}, {"rate": 3}, {"gate": "yes"}):
        with pytest.raises(jsonschema.ValidationError):
            validator.validate(wrong)
