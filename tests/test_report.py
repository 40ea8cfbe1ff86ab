"""The page: nothing is lost through JSON, tables are whole, names cannot break it, gates and changes are right."""

from __future__ import annotations

import dataclasses
import html.parser
import itertools
import json
import re
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.report.changes import changes
from benchmarks.report.changes import markdown as changes_markdown
from benchmarks.report.html import html as html_page
from benchmarks.report.markdown import markdown
from benchmarks.report.measures import ACCURACY, LOST, MEASURES, failures, measured
from benchmarks.report.page import Against, ConditionErrors, Group, Interval, Model, Page, Rates, Timing, read
from benchmarks.report.plots import decimated, plots
from benchmarks.report.words import correlation
from edge_runtime.errors import InputError, UsageError
from edge_runtime.system.markdown import table
from evaluation.comparison import compare_scores
from evaluation.gate import UNMATCHED, measures, parse_all
from evaluation.metrics import det_curve

NASTY = '<script>alert("x")</script> | `pipe`'


def rates(shift: float = 0.0) -> Rates:
    """Of two normal distributions, the human one higher."""
    rng = np.random.default_rng(1)
    misses, alarms, _ = det_curve(rng.normal(1 - shift, 1, 200), rng.normal(-1, 1, 300))
    eer = Interval(0.16 + shift / 5, 0.12 + shift / 5, 0.2 + shift / 5)
    return Rates(
        bonafide=200,
        spoof=300,
        eer=eer,
        eer_over="sources",
        eer_within=eer,
        eer_macro=0.15,
        min_dcf=0.4,
        act_dcf=0.5,
        cllr_bits=0.6,
        min_cllr_bits=0.5,
        min_tdcf={"legacy": 0.03, "revised": 0.09},
        human_called_spoof=0.02,
        human_unsure=0.1,
        spoof_found=0.7,
        spoof_unsure=0.2,
        sources=[Group("a", 20, 30, eer), Group(NASTY, 1, 0, None)],
        systems=[Group(f"system {n}", 200, 40 - n, eer if n < 30 else None) for n in range(40)],
        det=decimated(alarms, misses),
        unscored=["lost.wav: silent"],
        by_condition=[Group("codec C1", 100, 150, eer), Group("codec C2", 100, 150, None)],
    )


def timing(p50: float = 10.0) -> Timing:
    samples = np.random.default_rng(2).gamma(50, p50 / 50, 200).tolist()
    return Timing(
        threads=1,
        count=200,
        processes=3,
        p50_ms=p50,
        p90_ms=1.2 * p50,
        p95_ms=1.3 * p50,
        p99_ms=None,
        between_processes_ms=(0.9 * p50, 1.1 * p50),
        speedup=Interval(10 / p50, 9 / p50, 11 / p50),
        cpu_ms_per_second=2 * p50,
        energy_mj=12.5,
        peak_mb=90.0,
        steady_mb=88.0,
        ready_s=0.2,
        first_window_s=0.25,
        stages_ms={"filter bank": 2.0, "blocks": p50 - 2},
        sweep_p50_ms={"1": p50, "2": p50 / 1.6},
        samples_ms=samples,
    )


def against() -> Against:
    return Against(499, 2, 0.999, 0.2, 0.1, 0.01, 0.0, 0.4, -0.1, 0.8, 0.7, 0.5, False, 5, 3, 0.7)


PAGE = Page(
    made="2026-11-25T00:00:00Z",
    command="python -m benchmarks report float.onnx small.onnx --data DEV",
    data="DEV",
    hop_seconds=0.5,
    machine={"processor": "A processor", "load": 0.1},
    machine_lines=["A processor, 2 cores."],
    warnings=["the machine was busy"],
    models=[
        Model("float", "fp32", "portable", "00", 4_000_000, 1.0, rates(), None, timing(20.0)),
        Model("small", "int8", "portable", "01", 1_000_000, 4.0, rates(0.1), against(), timing(10.0), [NASTY]),
        Model("for a Pi", "int8", "arm64", "02", 1_000_000, 4.0, rates(0.1), against(), None),
    ],
    conditions=[ConditionErrors("SNR", "10 dB", {"float": Interval(0.3, 0.2, 0.4), "small": None}, {"small": None})],
    missing=["absent.wav"],
)


class Balanced(html.parser.HTMLParser):
    """Whether every tag is closed by its own, and the texts of cells."""

    VOID = frozenset({"meta", "br", "img", "input", "link", "path", "use", "rect", "image", "line"})

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.scripts = 0

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.scripts += tag == "script"
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag not in self.VOID:
            assert self.open.pop() == tag


def test_a_page_comes_back_from_its_json_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / "page.json"
    path.write_text(PAGE.as_json(), encoding="utf-8")
    again = read(path)
    assert again.as_json() == PAGE.as_json()
    assert again.models[1].against == PAGE.models[1].against and isinstance(again.models[0].rates, Rates)
    assert again.models[2].timing is None and again.models[1].rates and again.models[1].rates.det[0] == (1.0, 0.0)


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"kind": "edge-detect benchmark", "schema": 9}', "\x00", "[" * 9999,
                                  '{"kind": "edge-detect benchmark", "schema": 1, "models": []}'])  # fmt: skip
def test_what_is_no_page_is_refused_in_one_line(text: str, tmp_path: Path) -> None:
    path = tmp_path / "page.json"
    path.write_text(text)
    with pytest.raises(InputError) as error:
        read(path)
    assert len(str(error.value).splitlines()) == 1
    with pytest.raises(InputError, match="cannot read"):
        read(tmp_path / "absent.json")


def test_markdown_has_whole_tables_and_every_model() -> None:
    text = markdown(PAGE, "A title")
    blocks = re.findall(r"(?:^\|.*\n)+", text, re.MULTILINE)
    assert len(blocks) >= 8
    for block in blocks:
        bars = {len(re.findall(r"(?<!\\)\|", line)) for line in block.splitlines()}
        assert len(bars) == 1, block
    assert "nan" not in text and "None" not in text
    for words in ("the machine was busy", "absent.wav", "lost.wav", "min t-DCF, legacy", "0.0900", "for a Pi", "DEV"):
        assert words in text, words
    assert "## Per condition of the list" in text and "| codec C2 | 100 | 150 |" in text


def test_html_stands_alone_is_whole_and_escapes_names() -> None:
    text = html_page(PAGE, NASTY)
    parser = Balanced()
    parser.feed(text)
    assert parser.open == [] and parser.scripts == 0
    assert text.count("<svg") == 3 and "nan" not in re.sub(r"<svg.*?</svg>", "", text, flags=re.DOTALL)
    assert not re.search(r"""(?:src|href)=["'](?!#)""", re.sub(r"xmlns:\w+=\S+|xlink:href=\"#[^\"]*\"", "", text))


def test_html_of_a_page_without_data_or_without_timing() -> None:
    for change in ({"rates": None, "against": None}, {"timing": None}):
        models = [dataclasses.replace(model, **change) for model in PAGE.models]  # type: ignore[arg-type]
        page = dataclasses.replace(PAGE, models=models, conditions=[])
        parser = Balanced()
        parser.feed(html_page(page, "t"))
        assert parser.open == [] and "None" not in markdown(page, "t")


def whole() -> Page:
    """A page on which every clip is there and has a score from both models."""
    models = [
        dataclasses.replace(model, rates=dataclasses.replace(model.rates, unscored=[])) if model.rates else model
        for model in PAGE.models[:2]
    ]
    models[1] = dataclasses.replace(models[1], against=dataclasses.replace(against(), clips=500, unmatched=0))
    return dataclasses.replace(PAGE, models=models, missing=[])


def test_requirements_are_judged_for_every_quantized_model() -> None:
    assert failures(PAGE, parse_all(["latency_p90_ms<=12, eer_delta<=0.5"], MEASURES)) == [
        "clips of the list that are missing: 1 (missing<=N would allow that)",
        "small: clips without a score by it or by the float model: 2 (unscored<=N would allow that)",
        "for a Pi: clips without a score by it or by the float model: 2 (unscored<=N would allow that)",
        "for a Pi: latency_p90_ms could not be measured, required is latency_p90_ms <= 12: it needs the timing, "
        "on a processor that the file is for, and enough samples for the percentile",
    ]
    page = whole()
    assert failures(page, parse_all(["eer<=20,speedup>=0.9", "size_ratio>=4"], MEASURES)) == []
    (late,) = failures(page, parse_all(["latency_p99_ms<=1000"], MEASURES))
    assert "could not be measured" in late, "a percentile that the count cannot carry opens no gate"
    with pytest.raises(UsageError, match="not measured"):
        parse_all(["speed>=2"], MEASURES)


LAX = {"<=": "1e9", ">=": "-1e9"}


@given(measure=st.sampled_from(sorted(MEASURES)), sign=st.sampled_from(sorted(LAX)), lost=st.integers(1, 200))
def test_a_figure_of_accuracy_opens_no_gate_while_clips_are_left_out(measure: str, sign: str, lost: int) -> None:
    """However lax the requirement: what a model is judged on is the whole list, or what the user says."""
    page = whole()
    text = f"{measure}{sign}{LAX[sign]}"
    if measure != "latency_p99_ms":
        assert failures(page, parse_all([text], MEASURES)) == []
    small = page.models[1]
    assert small.against and page.models[0].rates
    fewer = dataclasses.replace(small.against, clips=500 - lost, unmatched=lost)
    unscored = dataclasses.replace(page, models=[page.models[0], dataclasses.replace(small, against=fewer)])
    missing = dataclasses.replace(page, missing=[f"{n}.wav" for n in range(lost)])
    for short, name in ((unscored, "unscored"), (missing, "missing")):
        told = [line for line in failures(short, parse_all([text], MEASURES)) if f": {lost} (" in line]
        assert len(told) == (measure in ACCURACY), "size and speed do not depend on clips"
        allowed, refused = (parse_all([f"{text},{name}<={n}"], MEASURES) for n in (lost, lost - 1))
        assert not [line for line in failures(short, allowed) if "clips" in line or name in line]
        assert any(f"{name} is {lost}, required" in line for line in failures(short, refused))


def test_a_model_whose_clips_could_not_be_compared_opens_no_gate() -> None:
    page = whole()
    bare = dataclasses.replace(page.models[1], rates=None, against=None)
    page = dataclasses.replace(page, models=[page.models[0], bare])
    for name in (*ACCURACY, "unscored"):
        (line,) = failures(page, parse_all([f"{name}<=1e9"], MEASURES))
        assert "could not be measured" in line
    timed = dataclasses.replace(page, models=[dataclasses.replace(model, rates=None) for model in page.models])
    for name in LOST:
        assert "could not be measured" in failures(timed, parse_all([f"{name}<=1e9"], MEASURES))[0]


def test_every_measure_has_a_value_when_all_was_measured() -> None:
    known = measured(PAGE.models[1], PAGE)
    assert known.keys() == MEASURES.keys()
    assert {name for name in MEASURES if known[name] is None} == {"latency_p99_ms"}


def test_changes_say_what_is_certain_and_what_else_differs() -> None:
    faster = dataclasses.replace(PAGE.models[1], timing=timing(5.0), sha256="99")
    other = dataclasses.replace(PAGE, models=[PAGE.models[0], faster], machine={"processor": "Another", "load": 0.2})
    found = changes(PAGE, other)
    by_name = {(row.model, row.measure): row for row in found.rows}
    assert by_name["small", "latency_p50_ms"].ratio == 0.5 and by_name["small", "latency_p50_ms"].certain
    assert by_name["float", "eer"].certain is False and by_name["float", "size_mb"].certain is None
    assert found.only_before == ["for a Pi"] and found.only_after == []
    assert any("A processor -> Another" in line for line in found.differences)
    assert any("small" in line for line in found.differences)
    text = changes_markdown(found, "a.json", "b.json")
    assert len({line.count("|") for line in text.splitlines() if line.startswith("|")}) == 1


@pytest.mark.parametrize(
    ("old", "new", "line"),
    [
        ({"governor": None}, {"governor": "performance"}, "governor: not known -> performance"),
        ({"board": "A board"}, {}, "board: A board -> not known"),
        ({"rounds": 230}, {"rounds": None}, "rounds: 230 -> not known"),
        ({"clock": 1.5}, {"clock": 1.8}, "clock: 1.5 -> 1.8"),
        ({"cache": {"L2": 1}}, {"cache": {"L2": 2, "L3": None}}, "cache.L2: 1 -> 2"),
    ],
)
def test_changes_name_whatever_differs_between_machines(
    old: dict[str, object], new: dict[str, object], line: str
) -> None:
    moment = [{"load": n, "waited": n / 9, "before": {"highest_mhz": n}, "after": None} for n in (0.1, 0.2)]
    pages = [
        dataclasses.replace(PAGE, warnings=[], machine={"processor": "A", **side, **state})
        for side, state in zip((old, new), moment, strict=True)
    ]
    assert changes(*pages).differences == [line]
    assert changes(pages[0], pages[0]).differences == []


@given(value=st.floats(-1, 1))
def test_what_is_short_of_1_does_not_read_as_1(value: float) -> None:
    assert (float(correlation(value)) == 1) == (value == 1)
    assert abs(float(correlation(value)) - value) < 1.1e-5
    assert correlation(None) == "-"


def test_json_keeps_what_tells_a_correlation_from_1() -> None:
    close = dataclasses.replace(PAGE.models[1], against=dataclasses.replace(against(), correlation=0.99999999))
    page = dataclasses.replace(PAGE, models=[PAGE.models[0], close])
    assert json.loads(page.as_json())["models"][1]["against"]["correlation"] == 0.99999999


def test_an_interval_that_excludes_its_value_is_drawn_all_the_same() -> None:
    """As a bootstrap over few sources may give it."""
    for low, high in itertools.permutations((0.1, 0.3, 0.5), 2):
        odd = dataclasses.replace(rates(), eer=Interval(0.3, low, high))
        page = dataclasses.replace(PAGE, models=[dataclasses.replace(PAGE.models[0], rates=odd)])
        assert len(plots(page)) == 3


@given(st.lists(st.lists(st.text(max_size=12), min_size=3, max_size=3), max_size=4))
def test_no_name_breaks_a_table(rows: list[list[str]]) -> None:
    lines = table(["a", "b", "c"], rows)
    assert len(lines) == len(rows) + 2
    for line in lines:
        assert len(re.findall(r"(?<!\\)\|", line)) == 4 and len(line.splitlines()) == 1


def test_the_gate_of_two_models_counts_what_only_one_scored() -> None:
    compared = compare_scores([1.0, -1.0], [1.0, -1.0], [True, False], unmatched=3)
    assert measures(compared, 2, 1)[UNMATCHED] == 3


@given(count=st.integers(1, 3000), most=st.integers(1, 500))
def test_a_decimated_curve_keeps_its_ends(count: int, most: int) -> None:
    alarms, misses = np.linspace(1, 0, count), np.linspace(0, 1, count)
    points = decimated(alarms, misses, most)
    assert points[0] == (1.0, 0.0) and points[-1] == (alarms[-1], misses[-1])
    assert len(points) <= most + 12 and points == sorted(points, key=lambda point: -point[0])
