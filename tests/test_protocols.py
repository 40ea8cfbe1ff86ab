"""Lists of clips: each public layout by its content, what is missing by its name, nothing passed over in silence."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_runtime.errors import InputError
from evaluation.protocols import LAYOUTS, Clip, read_clips, read_list, trial_name

# A line of a spoofed and of a bona fide trial, T1 and T2, as the corpora have them, and what is to be read of the
# first: system, speaker, source and condition.
PROTOCOLS: dict[str, tuple[str, str, tuple[str, ...]]] = {
    "2019 LA": ("S1 T1 - A11 spoof", "S2 T2 - - bonafide", ("A11", "S1", "S1", "-")),
    "2019 PA": ("S1 T1 aaa AB spoof", "S2 T2 bbc - bonafide", ("AB", "S1", "S1", "aaa")),
    "2021 LA": (
        "S1 T1 alaw ita_tx A07 spoof notrim eval",
        "S2 T2 none loc_tx bonafide bonafide notrim progress",
        ("A07", "S1", "S1", "alaw"),
    ),
    "2021 PA": (
        "S1 T1 R3 M3 d4 r1 m1 s4 c4 spoof notrim eval",
        "S2 T2 R1 M2 D2 - - - - bonafide notrim progress",
        ("unknown", "S1", "S1", "R3"),
    ),
    "2021 DF": (
        "S1 T1 low_mp3 vcc2020 Task1-team01 spoof notrim eval neural_vocoder_autoregressive Task1 team01 FF E",
        "S2 T2 nocodec asvspoof bonafide bonafide notrim progress bonafide - - - -",
        ("Task1-team01", "S1", "vcc2020", "low_mp3"),
    ),
    "5, baseline": ("S1 T1 F - AC1 spoof", "S2 T2 M - - bonafide", ("AC1", "S1", "S1", "-")),
    "5, release": ("S1 T1 F C05 3 17 AC3 A05 spoof -", "S2 T2 M - - - - - bonafide -", ("A05", "S1", "S1", "C05")),
}
NAMES = st.text("abcT_-0123456789.", min_size=1, max_size=12)


@pytest.mark.parametrize("name", PROTOCOLS)
def test_every_layout_is_known_by_its_content(name: str, tmp_path: Path) -> None:
    spoofed, human, expected = PROTOCOLS[name]
    key = tmp_path / "anything.dat"
    key.write_text(f"{spoofed}\n{human}\n\n")
    (tmp_path / "below").mkdir()
    for file in ("T1.flac", "T2.WAV", "T3.flac", "T1.txt"):
        (tmp_path / "below" / file).touch()
    first, second = read_clips(key, tmp_path)
    assert (first.label, first.system, first.speaker, first.source, first.condition) == ("spoof", *expected)
    assert (second.label, second.system, second.speaker) == ("bonafide", "-", "S2")
    assert (first.path, second.path) == (tmp_path / "below" / "T1.flac", tmp_path / "below" / "T2.WAV")
    assert (first.trial, second.trial) == ("T1", "T2")

    unheard = read_list(key, needs_audio=False)
    assert [(clip.trial, clip.label, clip.system) for clip in unheard.clips] == [
        (clip.trial, clip.label, clip.system) for clip in (first, second)
    ]
    assert unheard.missing == unheard.left_out == []
    with pytest.raises(InputError, match="--audio"):
        read_clips(key)


@pytest.mark.parametrize(
    ("text", "system", "speaker", "source", "condition"),
    [
        (
            "file,speaker,label\nT1.wav,Alec Guinness,spoof\nT2.wav,Alec Guinness,bona-fide\n",
            *["-"],
            *["Alec Guinness"] * 2,
            "-",
        ),
        ("filename\tcm-label\nT1\tspoof\nT2\tbonafide\n", "-", "unknown", "unknown", "-"),
        (
            "tar_spk_anon trial_anon cm-label codec attack_anon\nS1 T1 spoof C05 A28\nS1 T2 bonafide - bonafide\n",
            *("A28", "S1", "unknown", "C05"),
        ),
        (
            '\ufefflabel,file,system,source,codec\nspoof,T1.wav,"a, b",web,mp3\nbonafide,T2.wav,-,web,\n',
            "a, b",
            "unknown",
            "web",
            "mp3",
        ),
    ],
    ids=["In-the-Wild", "ASVspoof 5, short key", "ASVspoof 5, full key", "ours, with a byte-order mark"],
)
def test_tables_are_known_by_their_header(
    text: str, system: str, speaker: str, source: str, condition: str, tmp_path: Path
) -> None:
    (tmp_path / "meta.dat").write_text(text, encoding="utf-8")
    for trial in ("T1", "T2"):
        (tmp_path / f"{trial}.wav").touch()
    first, second = read_clips(tmp_path / "meta.dat", tmp_path)
    assert (first.system, first.speaker, first.source, first.condition) == (system, speaker, source, condition)
    assert [clip.label for clip in (first, second)] == ["spoof", "bonafide"]
    assert [clip.path for clip in (first, second)] == [tmp_path / "T1.wav", tmp_path / "T2.wav"]


@given(st.lists(st.tuples(st.booleans(), st.booleans()), min_size=1, max_size=12), st.sampled_from([*PROTOCOLS, "csv"]))
def test_what_is_missing_is_counted_and_named_and_the_rest_is_read(
    tmp_path_factory: pytest.TempPathFactory, trials: list[tuple[bool, bool]], layout: str
) -> None:
    folder = tmp_path_factory.mktemp("list")
    lines = ["file,label"] if layout == "csv" else []
    for number, (human, there) in enumerate(trials):
        name = f"trial{number:03d}"
        if layout == "csv":
            lines.append(f"{name}.flac,{'bonafide' if human else 'spoof'}")
        else:
            spoofed, bonafide, _ = PROTOCOLS[layout]
            lines.append(re.sub(r"\bT[12]\b", name, bonafide if human else spoofed))
        if there:
            (folder / f"{name}.flac").touch()
    key = folder / "list.txt"
    key.write_text("\n".join(lines) + "\n")
    found = read_list(key, folder)
    absent = [f"trial{number:03d}" for number, (_, there) in enumerate(trials) if not there]
    assert [trial_name(name) for name in found.missing] == absent
    assert [clip.is_bonafide for clip in found.clips] == [human for human, there in trials if there]
    if absent:
        with pytest.raises(InputError, match=f"{len(absent)} of {len(trials)} clips .*{absent[0]}"):
            read_clips(key, folder)
    else:
        assert read_clips(key, folder) == found.clips


@given(NAMES, st.sampled_from(["", ".flac", ".WAV", ".mp3"]), st.sampled_from(["", "eval/", "a/b/"]))
def test_a_trial_has_one_name_whatever_its_file_is_called(name: str, suffix: str, folder: str) -> None:
    plain = trial_name(name)
    assert trial_name(f"{folder}{plain}{suffix}") == trial_name(plain)
    assert trial_name("T.1.flac") == "T.1" == trial_name("T.1")


def test_a_subset_takes_its_part_and_tells_the_rest(tmp_path: Path) -> None:
    for name in ("2021 LA", "2021 PA", "2021 DF"):
        (tmp_path / "key").write_text("\n".join(PROTOCOLS[name][:2]))
        found = read_list(tmp_path / "key", subset="eval", needs_audio=False)
        assert [clip.trial for clip in found.clips] == ["T1"] and found.left_out == ["T2"]
        assert len(read_list(tmp_path / "key", needs_audio=False).clips) == 2
        with pytest.raises(InputError, match="no subset hidden: it has eval, progress"):
            read_list(tmp_path / "key", subset="hidden", needs_audio=False)
    (tmp_path / "key").write_text(PROTOCOLS["2019 LA"][0])
    with pytest.raises(InputError, match="no subset eval: it has none"):
        read_list(tmp_path / "key", subset="eval", needs_audio=False)
    with pytest.raises(InputError, match="has no subsets"):
        read_list(tmp_path, subset="eval")


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("S1 T1 - A1 spoof\nS1 T2 - A1", "line 2: no field says bonafide or spoof"),
        ("S1 T1 - A1 spoof\nS1 T2 spoof", "line 2: 3 columns, after 5 before: is it cut off?"),
        ("T1 spoof", "columns as in no protocol that is known"),
        ("S1 T1 spoof A1 -", "columns as in no protocol that is known"),
        ("", "no field|lists no clip"),
        ("file,label\n", "lists no clip"),
        ("file,label\na.wav,fake\n", "line 2: needs the columns file and label"),
        ("file,label\n" + '"' + "x" * 200_000 + '",spoof\n', "cannot read"),
    ],
)
def test_a_list_that_cannot_be_read_gets_one_line_that_says_where(tmp_path: Path, text: str, says: str) -> None:
    (tmp_path / "list.txt").write_text(text)
    with pytest.raises(InputError, match=says) as refusal:
        read_list(tmp_path / "list.txt", tmp_path)
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize("content", [b"\xff\xfe\x00\x01", b"fLaC\x00\x00\xdd"])
def test_what_is_no_text_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "list").write_bytes(content)
    with pytest.raises(InputError, match="cannot read"):
        read_list(tmp_path / "list", tmp_path)


def test_a_trial_that_two_files_fit_is_refused_and_so_is_a_folder_that_is_not_there(tmp_path: Path) -> None:
    (tmp_path / "key").write_text(PROTOCOLS["2019 LA"][0])
    with pytest.raises(InputError, match="no such folder"):
        read_list(tmp_path / "key", tmp_path / "absent")
    for file in ("T1.flac", "T1.wav"):
        (tmp_path / file).touch()
    with pytest.raises(InputError, match=r"T1 of .* is there twice"):
        read_list(tmp_path / "key", tmp_path)


def test_layouts_are_those_of_the_examples() -> None:
    assert {len(spoofed.split()) for spoofed, _, _ in PROTOCOLS.values()} == LAYOUTS.keys()


def test_folders_hold_their_clips_with_the_group_as_source(tmp_path: Path) -> None:
    for folder in ("bonafide/radio", "spoof/VITS"):
        (tmp_path / folder).mkdir(parents=True)
    for file in ("bonafide/a.flac", "bonafide/radio/b.flac", "spoof/VITS/c.flac", "spoof/VITS/notes.txt"):
        (tmp_path / file).touch()
    found = {clip.trial: clip for clip in read_clips(tmp_path)}
    assert found.keys() == {"a", "b", "c"}
    assert (found["b"].source, found["b"].system) == ("radio", "-")
    assert found["c"] == Clip(tmp_path / "spoof/VITS/c.flac", "spoof", "VITS", source="VITS")
