"""Configurations that nobody wrote in good faith: one line, exit code 2, and bounded time and memory."""

from __future__ import annotations

import os
import resource
import signal
import tomllib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_runtime.app.arguments import parser
from edge_runtime.errors import UsageError
from edge_runtime.run.stop import Stop
from edge_runtime.settings import config, document, tomlfile
from tests.program import one_line, run

HOSTILE = {
    "a decimal number of 5,000 digits": "hop = " + "9" * 5000,
    "the same with underscores": "hop = 1" + "_0" * 5000,
    "a hexadecimal one": "hop = 0x" + "f" * 5000,
    "a hexadecimal one in a list": f"file = [0x{'f' * 5000}]",
    "a hexadecimal one as text": f"device = 0x{'f' * 5000}",
    "an octal one of 250,000 digits": "channel = 0o" + "7" * 250_000,
    "100,000 brackets": "x = " + "[" * 100_000,
    "50,000 inline tables": "x = " + "{a=" * 50_000,
    "80,000 keys": "".join(f"k{number}=1\n" for number in range(80_000)),
    "30,000 keys": "".join(f"k{number}=1\n" for number in range(30_000)),
    "a key of 100,000 parts": "a" + ".a" * 100_000 + " = 1",
    "a quoted key of as many": '"a"' + '."a"' * 50_000 + " = 1",
    "thousands of keys of some parts": "".join(f"k{number}{'.a' * 8}=1\n" for number in range(10_000)),
    "40,000 tables of one name": "[[a]]\n" * 40_000,
    "quotes without end": 'device = "' + '\\"' * 120_000,
    "a text over many lines without end": 'device = """' + '\\"""' * 60_000 + "\\",
    "a key of 200,000 letters": '"' + "n" * 200_000 + '" = 1',
    "a key with an escape and a new line": '"a\\n\\u001b[31m" = 1',
    "a text of 200,000 letters": 'gate = "' + "a" * 200_000 + '"',
    "a null": "hop = \0",
    "a date": "hop = 2024-01-01",
}


@pytest.mark.parametrize("what", HOSTILE)
def test_every_line_about_a_hostile_file_is_short_and_there_are_few(tmp_path: Path, what: str) -> None:
    path = tmp_path / "hostile.toml"
    path.write_text(HOSTILE[what])
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    wrong = config.problems(str(path))
    assert 1 <= len(wrong) <= config.MOST_FAULTS + 1
    for line in wrong:
        assert str(path) in line and len(line) < 400 + len(str(path)), line[:1000]
        assert line.isprintable(), line
    with pytest.raises(UsageError):
        config.load({"config": str(path), "device": "hw:1"}, {})
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 150_000  # kB


def test_faults_beyond_the_first_are_counted(tmp_path: Path) -> None:
    path = tmp_path / "many.toml"
    path.write_text("hopp = 1\n" + "".join(f"k{number}=1\n" for number in range(30)) + "stall = 'x'\n")
    wrong = config.problems(str(path))
    assert "did you mean hop?" in wrong[0] and f"{32 - config.MOST_FAULTS} more" in wrong[-1]
    with pytest.raises(UsageError, match=r"and 31 more"):
        config.load({"config": str(path), "device": "hw:1"}, {})


def test_a_byte_order_mark_is_taken_and_other_encodings_are_named(tmp_path: Path) -> None:
    path = tmp_path / "windows.toml"
    path.write_bytes(b"\xef\xbb\xbfstall = 3\r\nhop = 1\r\n")
    assert config.problems(str(path)) == []
    assert config.effective({"config": str(path)}, {}).values == {"config": str(path), "stall": 3.0, "hop": 1.0}
    path.write_bytes("stall = 3\n".encode("utf-16"))
    assert "UTF-16" in config.problems(str(path))[0] and "save it as UTF-8" in config.problems(str(path))[0]
    path.write_bytes(b"stall = 3\n# caf\xe9\n")
    assert "line 2 is no UTF-8" in config.problems(str(path))[0]


def test_what_is_no_file_is_named_at_once(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe.toml"
    os.mkfifo(pipe)
    (tmp_path / "link.toml").symlink_to(pipe)
    for path, kind in ((pipe, "named pipe"), (tmp_path / "link.toml", "named pipe"), (tmp_path, "directory")):
        assert kind in config.problems(str(path))[0]
    for device in ("/dev/zero", "/dev/null"):
        assert "device" in config.problems(device)[0]
    with (tmp_path / "huge.toml").open("wb") as file:
        file.truncate(3 << 30)
    assert "256 KB" in config.problems(str(tmp_path / "huge.toml"))[0]


@pytest.mark.parametrize("command", [[], ["config", "check"], ["config", "show"], ["coverage"], ["commission"]])
def test_every_command_with_a_configuration_ends_with_2(tmp_path: Path, command: list[str]) -> None:
    path = tmp_path / "hostile.toml"
    path.write_text("hop = 0x" + "f" * 5000)
    (tmp_path / "pyaudio.py").write_text("raise ImportError('there is no sound system to ask')\n")  # it takes long
    places = os.pathsep.join([str(tmp_path), os.getcwd()])
    done = run(*command, "--config", path, env={**os.environ, "PYTHONPATH": places})
    assert done.returncode == 2, done.stderr
    assert "a number that large" in (done.stdout if command == ["commission"] else one_line(done.stderr))
    assert "Traceback" not in done.stdout + done.stderr


def test_a_new_configuration_that_is_hostile_leaves_the_old_one(tmp_path: Path) -> None:
    path = tmp_path / "edge-detect.toml"
    path.write_text("stall = 3\n")
    stop = Stop()
    stop.reloads = True
    reload = config.Reload(stop.reload_wanted, {"config": str(path), "device": "hw:1"})
    with stop.heeded():
        for text in HOSTILE.values():
            path.write_text(text)
            os.kill(os.getpid(), signal.SIGHUP)
            with pytest.raises(UsageError):
                reload()


@pytest.mark.parametrize(
    "text",
    ["1_000", "٣", "0x10", "1e400", "nan", "9" * 5000, "9" * 100_000 + "x", "1" + "0" * 400, "1,5", "", "+", "1e"],
)
@pytest.mark.parametrize("option", ["hop", "rate", "channel"])
def test_numbers_are_plain_digits_on_the_command_line_and_in_variables(option: str, text: str) -> None:
    variable = f"EDGE_DETECT_{option.upper()}"
    if text:  # an empty variable counts as not set
        with pytest.raises(UsageError, match=variable) as caught:
            config.load({"device": "hw:1"}, {variable: text})
        assert len(str(caught.value)) < 250
    with pytest.raises(UsageError, match=f"--{option}") as caught:
        from_the_command_line(f"--{option}", text)
    assert len(str(caught.value)) < 250


def from_the_command_line(*words: str) -> None:
    given = {name: value for name, value in vars(parser().parse_args(words)).items() if value}
    config.load({"device": "hw:1", **given}, {})


def test_the_command_line_is_refused_in_one_line_too() -> None:
    for arguments in (
        ["--hop", "1_000"],
        ["--rate", "9" * 100_000],
        ["--x" + "y" * 100_000],
        ["commission", "--seconds", "1_0"],
    ):
        done = run(*arguments)
        assert done.returncode == 2 and len(one_line(done.stderr)) < 500


def some_keys() -> st.SearchStrategy[str]:
    """Keys and values with dots, quotes and comments between them, right and wrong ones."""
    part = st.sampled_from(
        ['"', "'", '"""', "'''", "\\", "#", "\n", ".", "a", " = ", "1", "[", "]", '""""', "''''", "\\\n"]
    )
    return st.lists(part, max_size=40).map("".join)


@given(some_keys())
def test_the_guard_against_long_keys_agrees_with_tomllib_on_what_is_quoted(text: str) -> None:
    """A dot counts where tomllib sees one outside of quotes, and the guard may stop no file for one inside."""
    dotted = "a" + ".a" * 20 + " = 1"
    try:
        tomllib.loads(text)
    except tomllib.TOMLDecodeError:
        return
    quoted = document._toml(dotted)
    for more, refused in ((f"\nzz = {quoted}", False), (f"\nzz{dotted}", True)):
        try:
            tomllib.loads(text + more)
        except tomllib.TOMLDecodeError:
            continue
        try:
            tomlfile._checked((text + more).encode(), "x")
        except UsageError:
            assert refused, text
        else:
            assert not refused, text
