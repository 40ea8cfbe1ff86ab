"""The list of clips of demo pages, and what counts as one sound."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.paged import PAGE, pages, row, spoken, write_list
from training.pages import listed
from training.pages.__main__ import main
from training.pages.alike import groups, print_of


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"label": "fake"}, "neither bonafide nor spoof"),
        ({"use": "dev"}, "neither train nor dev2"),
        ({"path": "page/x.wav"}, "OWNER+NAME/PATH"),
        ({"path": f"{PAGE}/../x.wav"}, "OWNER+NAME/PATH"),
        ({"ref": "--output=x"}, "a dash"),
        ({"year": "20x4"}, "the year"),
        ({"sha256": "12"}, "SHA-256"),
        ({"system": "a\nb"}, "characters"),
        ({"use": "dev2"}, "for training and for dev2"),
    ],
)
def test_a_list_with_a_fault_names_its_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], change: dict[str, str], word: str
) -> None:
    (tmp_path / "clones").mkdir()
    write_list(tmp_path / "list.csv", [row(PAGE, "x.wav", "spoof", b"x"), row(PAGE, "x.wav", "spoof", b"x") | change])
    assert main(pages(tmp_path)) == 3
    said = capsys.readouterr().err
    assert said.count("\n") == 1 and "line 3" in said and word in said


def test_the_list_in_the_tree_is_of_this_kind() -> None:
    rows = listed.read(listed.LIST)
    uses = {use: {row.source for row in rows if row.use == use} for use in listed.USES}
    assert len(rows) > 13_000 and len(uses["dev2"]) == 12 and not uses["dev2"] & uses["train"]
    assert len({row.file for row in rows}) == len(rows)
    assert {row.kind for row in rows if row.label == "bonafide"} == {"human"}
    assert all((row.system == "-") == (row.label == "bonafide") for row in rows)


def test_another_sentence_of_the_same_length_is_another_sound() -> None:
    waves = [spoken(number, 3) for number in range(12)]
    prints = [print_of(wave, 24_000) for wave in waves]
    assert groups(prints, [len(wave) for wave in waves], [("bonafide", "")] * 12) == list(range(12))
