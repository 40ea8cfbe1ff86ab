"""`benchmarks folds score`: the page, its refusals, and the ledger of dev2."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks.__main__ import main
from benchmarks.report.ledger import BEGINNING, LEDGER
from tests.test_folds_figures import written

Capture = pytest.CaptureFixture[str]


def _score(*arguments: str | Path) -> int:
    return main(["folds", "score", *map(str, arguments), "--rounds", "20"])


def test_the_page_has_each_slice_and_says_whose_mean_a_figure_is(tmp_path: Path, capsys: Capture) -> None:
    scores, figures = written(tmp_path / "s.csv", 1), tmp_path / "f.json"
    assert _score(scores, "--against", written(tmp_path / "o.csv", 2), "--figures", figures) == 0
    page = capsys.readouterr().out
    for said in ("mean over folds", "as one", "up to 2022", "2024 on", "never met in training", "## Against o.csv"):
        assert said in page
    data = json.loads(figures.read_text(encoding="utf-8"))
    assert data["figures"]["eer"]["folds"] == 3
    assert data["against"]["difference"]["figures"]["eer"]["value"] == pytest.approx(
        data["figures"]["eer"]["value"] - data["against"]["other"]["figures"]["eer"]["value"]
    )
    assert data["verdicts"]["human_called_spoof"]["value"] <= 0.02


def test_verdicts_of_the_table_and_a_threshold_are_counted(tmp_path: Path, capsys: Capture) -> None:
    lines = written(tmp_path / "s.csv", 1).read_text(encoding="utf-8").splitlines()
    said = [f"{row},{'spoof' if ',spoof,' in row else 'unsure'}" for row in lines[1:]]
    (tmp_path / "v.csv").write_text("\n".join([lines[0] + ",verdict", *said]) + "\n", encoding="utf-8")
    assert _score(tmp_path / "v.csv", "--json") == 0
    verdicts = json.loads(capsys.readouterr().out)["verdicts"]
    assert [verdicts[name]["value"] for name in ("human_called_spoof", "human_unsure", "spoof_found")] == [0, 1, 1]
    assert _score(tmp_path / "v.csv", "--json", "--threshold", "-99") == 0
    assert json.loads(capsys.readouterr().out)["verdicts"]["spoof_found"]["value"] == 0


def test_dev2_is_scored_once_for_each_model_file_and_compared_with_the_folds(tmp_path: Path, capsys: Capture) -> None:
    folds, ledger = tmp_path / "folds.json", tmp_path / "dev2.md"
    assert _score(written(tmp_path / "s.csv", 1, sources=12), "--json", "-o", folds) == 0
    model = tmp_path / "secret folder" / "m.onnx"
    model.parent.mkdir()
    model.write_bytes(b"a model")
    alike, worse = written(tmp_path / "alike.csv", 1, folds=1, sources=12), tmp_path / "worse.csv"
    written(worse, 1, folds=1, sources=12, shift=3)
    options = ("--dev2", "--model", model, "--folds-page", folds, "--ledger", ledger, "--order-only")
    assert _score(alike, *options) == 0
    page = capsys.readouterr().out
    assert "The two agree" in page and "scored by m.onnx" in page and "as one" not in page
    assert _score(worse, *options) == 2
    refused = capsys.readouterr()
    assert "--again" in refused.err and not refused.out
    assert ledger.read_text(encoding="utf-8").count("m.onnx |") == 1
    assert _score(worse, *options, "--again") == 0
    page = capsys.readouterr().out
    assert "THEY DO NOT AGREE" in page and "WORSE than on folds" in page
    model.write_bytes(b"another model")
    assert _score(alike, *options) == 0
    text = ledger.read_text(encoding="utf-8")
    assert text.startswith(BEGINNING) and len(text.removeprefix(BEGINNING).splitlines()) == 3
    assert "(again)" in text and "EER of 2024 on" in text and "secret folder" not in text


def test_the_projects_ledger_can_be_added_to() -> None:
    assert LEDGER.read_text(encoding="utf-8").startswith(BEGINNING)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (("page 0-0", "page 1-0"), "lie in several folds"),
        (("0/0/spoof0.wav", "0/0/spoof1.wav"), "more than once"),
        ((",2025,", ",25,"), "year must be four digits"),
        ((",bonafide,", ",spoof,"), "both bona fide and spoofed"),
        ((HEADER_END := ",score,duration", ",points,duration"), "lacks the column score"),
        ((HEADER_END, ",score,verdict"), "is no verdict"),
        ((",f0,", ",f0,nan"), "no finite number"),
    ],
)
def test_a_table_that_cannot_be_judged_gets_one_line(
    tmp_path: Path, capsys: Capture, change: tuple[str, str], says: str
) -> None:
    scores = written(tmp_path / "s.csv", 1)
    text = scores.read_text(encoding="utf-8")
    times = 7 if change[0] == "page 0-0" else 1 if change[0] == "0/0/spoof0.wav" else -1
    if "nan" in change[1]:
        text = "\n".join(
            row.rsplit(",", 2)[0] + ",nan,1" if i else row for i, row in enumerate(text.split("\n")) if row
        )
    else:
        text = text.replace(*change, times)
    scores.write_text(text, encoding="utf-8")
    assert _score(scores) == 3
    error = capsys.readouterr().err
    assert says in error and len(error.splitlines()) == 1


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (("--dev2",), 2, "--dev2 needs --model"),
        (("--model", "m.onnx"), 2, "--model needs --dev2"),
        (("--dev2", "--model", "absent.onnx"), 4, "absent.onnx"),
        (("--threshold", "nan"), 2, "finite"),
        (("--figures", "absent/f.json"), 5, "no such folder"),
    ],
)
def test_options_that_do_not_go_together_are_refused(
    tmp_path: Path, capsys: Capture, arguments: tuple[str, ...], code: int, says: str
) -> None:
    assert _score(written(tmp_path / "s.csv", 1), *arguments) == code
    assert says in capsys.readouterr().err


def test_names_with_commas_quotes_line_breaks_and_other_alphabets_are_read(tmp_path: Path, capsys: Capture) -> None:
    scores = written(tmp_path / "s.csv", 1)
    odd = '"pagé\u2028 ""0"", | 网\nnext"'
    scores.write_text(scores.read_text(encoding="utf-8").replace("page 0-0", odd), encoding="utf-8-sig")
    assert _score(scores) == 0
    assert '"0", \\| 网 next | 7 |' in capsys.readouterr().out


def test_scores_of_other_folds_or_fewer_clips_are_not_compared(tmp_path: Path, capsys: Capture) -> None:
    scores, other = written(tmp_path / "s.csv", 1), written(tmp_path / "o.csv", 1)
    text = other.read_text(encoding="utf-8")
    other.write_text(text.replace(",f0,", ",f9,"), encoding="utf-8")
    assert _score(scores, "--against", other) == 3
    assert "another fold" in capsys.readouterr().err
    other.write_text("\n".join(text.splitlines()[:-5]) + "\n", encoding="utf-8")
    assert _score(scores, "--against", other) == 3
    assert "lacks 5 of 168 clips" in capsys.readouterr().err
