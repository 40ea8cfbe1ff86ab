"""Addresses of streams: passwords are never shown, and what cannot be an address is refused without showing it."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_runtime.capture.address import shown, without_secrets
from edge_runtime.settings.schema import misfits
from tests.program import one_line, run


@pytest.mark.parametrize(
    ("url", "seen"),
    [
        ("rtsp://camera.example/stream1", "rtsp://camera.example/stream1"),
        ("rtsp://user:pass@camera.example:554/a/b", "rtsp://***@camera.example:554/a/b"),
        ("http://h:8000/live?user=admin&password=x", "http://h:8000/live?***"),
        ("http://token@h/live#part", "http://***@h/live?***"),
        ("rtsp://user:pa/ss@h/stream", "rtsp://***@h/stream"),
        ("rtsp://user:pa@ss@h/stream", "rtsp://***@h/stream"),
        ("rtsp://user:pa?ss@h/stream", "rtsp://***"),
        ("rtsp://user:pa#ss@h/stream", "rtsp://***"),
        ("nonsense", "***"),
    ],
)
def test_what_is_shown_of_an_address(url: str, seen: str) -> None:
    assert shown(url) == seen


@given(st.text(min_size=3, max_size=20), st.text(min_size=3, max_size=20))
def test_no_password_is_shown_however_it_is_written(user: str, password: str) -> None:
    for secret in (password, quote(password, safe="")):
        url = f"rtsp://user:{secret}@camera.example/one"
        assert shown(url) in ("rtsp://***@camera.example/one", "rtsp://***")
        said = without_secrets(f"[tcp] {url}: refused; {url}", url)
        assert "camera.example/one" not in said or f":{secret}@" not in said


@given(st.text(alphabet=st.characters(exclude_categories=["Cs"]), min_size=6, max_size=20))
def test_no_secret_is_left_in_what_another_program_says(password: str) -> None:
    url = f"http://user:{quote(password, safe='')}@h/live?key={quote(password, safe='')}"
    said = without_secrets(f"401 for {password} and {quote(password, safe='')} at {url}", url)
    assert password not in said or password in "401 for *** and *** at http://***@h/live?***"


@pytest.mark.parametrize(
    "url",
    [
        "camera.example/s3cret",
        "file:///etc/s3cret",
        "rtsp:///s3cret",
        "rtsp://h:s3cret/x",
        "concat:s3cret|b",
        "rtsp://h/s3c ret",
    ],
)
def test_what_is_no_address_is_refused_without_being_shown(url: str) -> None:
    (reason,) = misfits({"stream": url})
    assert reason.startswith("--stream must be a URL") and "s3c" not in reason


def test_the_program_refuses_it_in_one_line(tmp_path: Path) -> None:
    done = run("--stream", "rtsp://user:s3cret/x")
    assert done.returncode == 2 and "--stream must" in one_line(done.stderr) and "s3cret" not in done.stderr


def test_a_configuration_is_shown_without_its_password(tmp_path: Path) -> None:
    path = tmp_path / "camera.toml"
    path.write_text('stream = "rtsp://user:hunter2@camera.example/1"\n')
    done = run("config", "show", "--config", path)
    assert done.returncode == 0 and 'stream = "rtsp://***@camera.example/1"' in done.stdout
    path.write_text('stream = ["rtsp://user:hunter2@camera.example/1"]\n')
    done = run("config", "check", path)
    assert done.returncode == 2 and "hunter2" not in done.stderr + done.stdout
