"""Settings from the file, the environment and the command line: which goes before which, and what a mistake is told."""

from __future__ import annotations

import dataclasses
import math
import os
import signal
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_runtime.app.arguments import parser
from edge_runtime.errors import EdgeDetectError, UsageError
from edge_runtime.run.stop import Stop
from edge_runtime.settings import config, document
from edge_runtime.settings.option import Option, flag, from_text, option_of, unfit, variable
from edge_runtime.settings.schema import FIELDS, Settings

PROJECT = Path(__file__).parent.parent
STORED = [name for name, field in FIELDS.items() if option_of(field).stored]


def written(folder: Path, text: str) -> str:
    path = folder / "edge-detect.toml"
    path.write_text(text)
    return str(path)


def run(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    clean = {name: value for name, value in os.environ.items() if not name.startswith("EDGE_DETECT_")}
    return subprocess.run(
        [sys.executable, "-m", "edge_runtime", *arguments],
        capture_output=True,
        encoding="utf-8",
        timeout=60,
        env={**clean, **environment},
        cwd=PROJECT,
    )


def test_the_command_line_goes_before_the_environment_and_that_before_the_file(tmp_path: Path) -> None:
    path = written(tmp_path, 'device = "hw:1"\nstall = 1\nsilent_after = 20\nexec_timeout = 3\n')
    environment = {"EDGE_DETECT_CONFIG": path, "EDGE_DETECT_STALL": "2", "EDGE_DETECT_SILENT_AFTER": "30"}
    found = config.effective({"stall": 3.0}, environment)
    settings = found.settings()
    assert (settings.stall, settings.silent_after, settings.exec_timeout, settings.clip_after) == (3, 30, 3, 5)
    assert found.origins["stall"] == config.COMMAND_LINE
    assert found.origins["silent_after"] == "EDGE_DETECT_SILENT_AFTER"
    assert found.origins["exec_timeout"] == path and "clip_after" not in found.origins


def test_a_source_on_the_command_line_puts_that_of_the_file_aside(tmp_path: Path) -> None:
    path = written(tmp_path, 'device = "hw:1"\nledger = "x"\nhop = "auto"\n')
    settings = config.load({"config": path, "file": ("a.wav",)}, {})
    assert (settings.device, settings.file, settings.hop, settings.gate) == (None, ("a.wav",), "auto", True)
    path = written(tmp_path, 'file = ["-"]\nraw = "s16le"\nrate = 8000\n')
    assert config.load({"config": path}, {}).rate == 8000
    settings = config.load({"config": path, "device": "hw:1"}, {})
    assert (settings.raw, settings.rate, settings.file, settings.gate) == (None, None, (), True)


def test_what_is_for_a_microphone_is_refused_for_a_file_only_where_it_was_said() -> None:
    with pytest.raises(UsageError, match="--ledger is for a live source"):
        config.load({"file": ("a.wav",), "ledger": "x"}, {})
    assert config.load({"file": ("a.wav",)}, {"EDGE_DETECT_LEDGER": "x"}).ledger == "x"


def test_times_that_may_last_for_ever_are_numbers_too() -> None:
    settings = Settings(device="hw:1", connect_timeout="forever", recover_timeout=5)
    assert (settings.connect_seconds, settings.recover_seconds) == (math.inf, 5)
    assert (Settings(device="hw:1").connect_seconds, Settings(device="hw:1").recover_seconds) == (0, math.inf)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("hop = 0", ("hop", "0.01 and 3600 seconds (or auto)", "not 0")),
        ("hop = true", ("hop", "a number", "not true")),
        ('hop = "soon"', ("hop", "0.01 and 3600", "'soon'")),
        ("hop = nan", ("hop", "0.01")),
        ("stall = 1e999", ("stall", "600", "inf")),
        ("channel = 1.5", ("channel", "a whole number", "1 and 64", "mix")),
        ("channel = " + "9" * 400, ("channel", "1 and 64")),
        ("device = 1", ("device", "text in quotes")),
        ('device = " "', ("device", "not empty")),
        ('file = "a.wav"', ("file", "a list")),
        ('gate = "yes"', ("gate", "true or false")),
        ('log_level = "loud"', ("log_level", "error, warning, info, debug")),
        ("conect_timeout = 3", ("conect_timeout", "did you mean connect_timeout?")),
        ("connect-timeout = 3", ("connect-timeout", "did you mean connect_timeout?")),
        ("zzz = 3", ("zzz", "config document")),
        ("[alarm]\non = 3", ("alarm", "table")),
        ("list_devices = true", ("list_devices", "--list-devices")),
        ("hop = \n", ("no TOML", "line 1")),
        ("hop = " + "[" * 100_000, ("no TOML",)),
        ("alarm_on = 2\nalarm_off = 1", ("alarm_off (1)", "alarm_on (2)")),
        ('file = ["-", "-"]', ("standard input", "once")),
        ("#" * (config.LARGEST_FILE + 1), ("longer",)),
    ],
)
def test_a_mistake_in_the_file_is_told_with_the_file_the_key_and_the_range(
    tmp_path: Path, text: str, words: tuple[str, ...]
) -> None:
    path = written(tmp_path, text)
    wrong = config.problems(path)
    assert len(wrong) == 1 and all(word in wrong[0] for word in (path, *words)), wrong
    with pytest.raises(UsageError):  # the program itself refuses it too
        config.load({"config": path, **({} if "file" in text else {"device": "hw:1"})}, {})


@pytest.mark.parametrize("content", [b"\xff\xfe", b"\x00", b"hop = '\x01'"])
def test_a_file_of_other_bytes_is_told(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "x.toml"
    path.write_bytes(content)
    assert "no TOML" in config.problems(str(path))[0]


def test_a_file_that_cannot_be_read_is_told(tmp_path: Path) -> None:
    assert "No such file" in config.problems(str(tmp_path / "none"))[0]
    assert "directory" in config.problems(str(tmp_path))[0]


@given(st.binary(max_size=200) | st.text(max_size=200).map(str.encode))
def test_no_file_whatever_it_holds_gives_anything_but_a_line(tmp_path_factory: Any, content: bytes) -> None:
    path = tmp_path_factory.getbasetemp() / "any.toml"
    path.write_bytes(content)
    try:
        config.load({"config": str(path), "device": "hw:1"}, {})
    except EdgeDetectError as error:
        assert error.exit_code == 2


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("EDGE_DETECT_HOP", "soon", ("EDGE_DETECT_HOP", "0.01 and 3600")),
        ("EDGE_DETECT_STALL", "0", ("EDGE_DETECT_STALL", "0.5 and 600")),
        ("EDGE_DETECT_GATE", "perhaps", ("EDGE_DETECT_GATE", "must be 1, true, yes, on, 0, false, no or off")),
        ("EDGE_DETECT_CHANNEL", "1.5", ("EDGE_DETECT_CHANNEL", "whole number")),
        ("EDGE_DETECT_CONECT_TIMEOUT", "3", ("EDGE_DETECT_CONNECT_TIMEOUT",)),
    ],
)
def test_a_mistake_in_the_environment_is_told_with_the_variable(name: str, text: str, words: tuple[str, ...]) -> None:
    with pytest.raises(UsageError) as caught:
        config.load({"device": "hw:1"}, {name: text})
    assert all(word in str(caught.value) for word in words), caught.value


def test_variables_that_are_none_of_ours_and_empty_ones_are_passed_over() -> None:
    environment = {"EDGE_DETECT_EVENT": "{}", "EDGE_DETECT_AARCH64": "x", "EDGE_DETECT_HOP": "", "HOP": "x"}
    assert config.load({"device": "hw:1"}, environment) == Settings(device="hw:1")


@pytest.mark.parametrize(("text", "value"), [("1", True), ("Yes", True), ("on", True), ("0", False), ("false", False)])
def test_switches_in_the_environment(text: str, value: bool) -> None:
    assert config.load({"device": "hw:1"}, {"EDGE_DETECT_GATE": text}).gate is value


def some_value(declared: Option) -> st.SearchStrategy[Any]:
    """Values that an option takes."""
    if declared.kind is bool:
        return st.booleans()
    if declared.choices:
        return st.sampled_from(declared.choices)
    if declared.many:
        return st.lists(st.text("abc./ü-", min_size=1).filter(str.strip), min_size=1, max_size=3).map(tuple)
    if declared.kind is str:
        return st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1, max_size=20).filter(str.strip)
    numbers: st.SearchStrategy[Any]
    if declared.kind is int:
        numbers = st.integers(int(declared.low), int(declared.high))
    else:
        numbers = st.floats(declared.low, declared.high)
    return numbers | st.sampled_from(declared.words) if declared.words else numbers


@given(st.data())
def test_every_option_is_the_same_in_the_file_the_environment_and_on_the_command_line(
    tmp_path_factory: Any, data: st.DataObject
) -> None:
    name = data.draw(st.sampled_from(STORED))
    declared = option_of(FIELDS[name])
    value = data.draw(some_value(declared))
    path = tmp_path_factory.getbasetemp() / "one.toml"
    path.write_text(f"{name} = {document._toml(value)}\n")
    assert config.effective({"config": str(path)}, {}).values[name] == value
    if declared.kind is bool:
        return
    texts = [str(one) for one in value] if declared.many else [str(value)]
    if not any("\0" in text or ":" in text for text in texts):
        assert config.effective({}, {variable(name): ":".join(texts)}).values[name] == value
    if not any(text.startswith("-") for text in texts):
        read = getattr(parser().parse_args([flag(name), *texts]), name)
        assert (tuple(read) if declared.many else read) == value


def test_every_declaration_is_whole_and_its_default_and_example_are_allowed() -> None:
    for name, field in FIELDS.items():
        declared = option_of(field)
        assert unfit(declared, field.default) is None, name
        assert unfit(declared, declared.example) is None, name
        assert declared.help and not declared.help.endswith("."), name
        if declared.kind in (int, float):
            assert math.isfinite(declared.low) and math.isfinite(declared.high), name
        if declared.kind is not bool and declared.example is not None and not declared.many:
            assert from_text(declared, str(declared.example)) == declared.example


def test_the_document_is_a_configuration_of_defaults(tmp_path: Path) -> None:
    text = document.as_toml()
    path = written(tmp_path, text)
    assert config.problems(path) == []
    settings = config.load({"config": path, "device": "hw:1"}, {})
    assert dataclasses.replace(settings, config=None) == Settings(device="hw:1")
    lines = text.splitlines()
    for name in STORED:
        assert sum(line.startswith((f"{name} = ", f"#{name} = ")) for line in lines) == 1, name
    examples = "\n".join(line.removeprefix("#") for line in lines if line[:1] == "#" and line[1:2].isalpha())
    for name, value in tomllib.loads(examples).items():
        assert config.problems(written(tmp_path, f"{name} = {document._toml(value)}")) == [] or name in config.RAW, name


def test_the_page_of_settings_is_up_to_date() -> None:
    printed = run("config", "document", "--markdown").stdout
    stands = (PROJECT / "docs" / "settings.md").read_text()
    assert stands == printed, "run: python -m edge_runtime config document --markdown > docs/settings.md"


def test_check_tells_all_that_is_wrong_and_ends_with_2(tmp_path: Path) -> None:
    path = written(tmp_path, 'hops = 1\nstall = 0\ndevice = "hw:1"\n')
    done = run("config", "check", path)
    assert (done.returncode, done.stdout) == (2, "")
    assert len(done.stderr.splitlines()) == 2 and all(
        line.startswith("edge-detect: ") for line in done.stderr.splitlines()
    )
    started = run("--config", path)
    assert started.returncode == 2 and "1 more" in started.stderr and started.stderr.count("\n") == 1
    path = written(tmp_path, 'device = "hw:1"\n')
    done = run("config", "check", EDGE_DETECT_CONFIG=path)
    assert (done.returncode, done.stderr) == (0, "") and "in order" in done.stdout
    done = run("config", "check")
    assert done.returncode == 2 and "FILE" in done.stderr and done.stderr.count("\n") == 1


def test_a_wrong_type_hides_no_other_mistake_and_makes_none(tmp_path: Path) -> None:
    path = written(tmp_path, 'stall = "x"\nalarm_on = 2\nalarm_off = 1\nfile = ["-", "-"]\ndevice = "hw:1"\n')
    wrong = config.problems(path)
    for words in (("stall must be a number",), ("alarm_off (1)",), ("exclude",), ("once",)):
        assert sum(all(word in line for word in words) for line in wrong) == 1, wrong
    assert len(wrong) == 4
    assert len(config.problems(written(tmp_path, "raw = 5\nrate = 8000\n"))) == 1
    assert len(config.problems(written(tmp_path, 'file = "-"\nraw = "s16le"\n'))) == 1


def test_the_start_is_rehearsed_with_what_is_right(tmp_path: Path) -> None:
    tried: list[Settings] = []

    def rehearse(settings: Settings) -> list[str]:
        tried.append(settings)
        return ["the --hop is longer than the --window"]

    path = written(tmp_path, 'device = "hw:1"\nhop = 3\nwindow = 2\n')
    assert config.problems(path, rehearse) == [f"{path}: the hop is longer than the window"]
    assert (tried[0].hop, tried[0].window) == (3, 2)
    config.problems(written(tmp_path, 'device = "hw:1"\nhop = 3\nwindw = 8\nclip_after = 7\n'), rehearse)
    assert (tried[1].hop, tried[1].clip_after) == (None, 7), "what window there will be is not known"
    config.problems(written(tmp_path, 'device = "hw:1"\nalarm_on = 2\nalarm_off = 1\nrate = 8000\n'), rehearse)
    assert (tried[2].alarm_on, tried[2].alarm_off, tried[2].rate) == (None, None, None)
    assert config.problems(written(tmp_path, 'file = ["-"]\n'), rehearse) == [] and len(tried) == 3


def test_check_finds_what_shows_only_at_the_start(tmp_path: Path) -> None:
    path = written(tmp_path, 'device = "hw:1"\nhop = 30\nalarm_on = 900\nexec = "no-such-command-anywhere --now"\n')
    done = run("config", "check", "--config", path)
    lines = done.stderr.splitlines()
    assert (done.returncode, done.stdout, len(lines)) == (2, "", 3), lines
    for word in ("hop", "alarm", "no-such-command-anywhere"):
        assert any(word in line and path in line for line in lines), lines
    done = run("config", "check", written(tmp_path, f'device = "hw:1"\nmodel = "{tmp_path}/none.onnx"\n'))
    assert done.returncode == 2 and "none.onnx" in done.stderr and done.stderr.count("\n") == 1
    done = run("config", "check", "--config", path, path)
    assert done.returncode == 2 and "one file" in done.stderr and done.stderr.count("\n") == 1


def test_show_tells_where_each_value_comes_from(tmp_path: Path) -> None:
    path = written(tmp_path, 'device = "hw:1"\nstall = 3.5\n')
    done = run("config", "show", "--config", path, "--clip-after", "7", EDGE_DETECT_LEDGER="/x y")
    assert (done.returncode, done.stderr) == (0, "")
    rows = dict(line.split("  # ") for line in done.stdout.splitlines())
    shown = {row.split(" ")[0]: (row.strip(), origin) for row, origin in rows.items()}
    assert shown["stall"] == ("stall = 3.5", path)
    assert shown["clip_after"] == ("clip_after = 7", "command line")
    assert shown["ledger"] == ('ledger = "/x y"', "EDGE_DETECT_LEDGER")
    assert shown["smoothing"][1] == "default"
    assert config.problems(written(tmp_path, done.stdout)) == []


@pytest.mark.parametrize("arguments", [["config"], ["config", "eat"], ["coverage"], ["coverage", "--per", "year"]])
def test_wrong_commands_are_told_in_one_line(arguments: list[str]) -> None:
    done = run(*arguments)
    assert done.returncode == 2 and done.stderr.count("\n") == 1, done.stderr
    if arguments == ["config"]:
        assert done.stderr == "edge-detect: say check, show, document or schema\n"


def test_sighup_asks_for_the_file_which_may_be_wrong_then(tmp_path: Path) -> None:
    path = written(tmp_path, 'device = "hw:1"\nstall = 3\n')
    stop = Stop()
    stop.reloads = True
    reload = config.Reload(stop.reload_wanted, {"config": path, "hop": 2.0})
    with stop.heeded():
        assert reload() is None
        written(tmp_path, 'device = "hw:1"\nstall = 5\nhop = 1\n')
        os.kill(os.getpid(), signal.SIGHUP)
        os.kill(os.getpid(), signal.SIGHUP)
        settings = reload()
        assert settings is not None and (settings.stall, settings.hop) == (5, 2)
        assert reload() is None and not stop()
        written(tmp_path, "stall = no")
        os.kill(os.getpid(), signal.SIGHUP)
        with pytest.raises(UsageError, match=r"edge-detect\.toml"):
            reload()
        assert reload() is None
        stop.reloads = False  # as without a file: a closed terminal ends the program
        os.kill(os.getpid(), signal.SIGHUP)
        assert stop()


def test_a_program_under_nohup_outlives_its_terminal() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        stop = Stop()
        with stop.heeded():
            os.kill(os.getpid(), signal.SIGHUP)
        assert not stop()
    finally:
        signal.signal(signal.SIGHUP, before)
