"""Latency in detail: which percentiles may be told, energy from copies of sensors, and the command on tiny models.

No time is asserted: only what holds on any machine.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import math
import os
import time
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.machine.energy import Counters, Sensors, find_meter
from benchmarks.tasks import latency as task
from benchmarks.timing.latency import LatencyRun, latency
from benchmarks.timing.latency_table import latency_table
from benchmarks.timing.latency_worker import Timed, rounds_of, run_worker
from edge_runtime.errors import EdgeDetectError, ModelError, UsageError
from evaluation.percentiles import CONFIDENCE, TAILS, Percentiles, needed

ROUNDS, PROCESSES = 4, 2


def test_percentiles_need_what_mlperf_asks_for() -> None:
    assert [needed(percent) for percent in TAILS] == [64, 130, 662]
    for percent in range(51, 100):
        # If a share of 1 - p is slow, one slow sample at most among n must be unlikely: the binomial distribution.
        p, n = percent / 100, needed(percent)
        unlikely = [sum(math.comb(m, k) * (1 - p) ** k * p ** (m - k) for k in (0, 1)) for m in (n - 1, n)]
        assert unlikely[0] > 1 - CONFIDENCE >= unlikely[1], percent
    for percent in (49, 100):
        with pytest.raises(ValueError, match="between 50 and 99"):
            needed(percent)


@given(st.integers(1, 800), st.integers(0, 2**32 - 1))
def test_a_percentile_is_a_time_that_was_measured_or_is_refused(samples: int, seed: int) -> None:
    times_ms = np.random.default_rng(seed).gamma(2, 5, samples)
    found = Percentiles.of(times_ms)
    tails = (found.p90_ms, found.p95_ms, found.p99_ms)
    for percent, value, cell in zip(TAILS, tails, found.cells()[1:], strict=True):
        assert (value is None) == (samples < needed(percent)) == (cell == f"needs {needed(percent)} samples")
        if value is not None:
            assert value in times_ms and np.mean(times_ms <= value) >= percent / 100 > np.mean(times_ms < value) - 1e-9
    known = [found.p50_ms, *[value for value in tails if value is not None]]
    assert all(low <= high for low, high in pairwise(known))
    assert Percentiles.of(times_ms[::-1].copy()) == found


def write(folder: Path, **files: object) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, value in files.items():
        (folder / name).write_text(f"{value}\n")


def rapl(root: Path, energy_uj: int) -> None:
    for name, label in (("intel-rapl:0", "package-0"), ("intel-rapl:1", "package-1"), ("intel-rapl:2", "psys")):
        folder = root / "sys/class/powercap" / name
        write(folder, name=label, energy_uj=energy_uj, max_energy_range_uj=1_000_000)
    write(root / "sys/class/powercap/intel-rapl:0:0", name="core", energy_uj=energy_uj, max_energy_range_uj=1_000_000)


@given(st.integers(0, 999_999), st.integers(1, 999_999))
def test_rapl_counts_packages_once_and_over_its_end(
    tmp_path_factory: pytest.TempPathFactory, before: int, taken: int
) -> None:
    root = tmp_path_factory.mktemp("rapl")
    rapl(root, before)
    meter = find_meter(root)
    assert isinstance(meter, Counters)
    energy = meter.measure(lambda: rapl(root, (before + taken) % 1_000_000))
    assert energy.joules == pytest.approx(2 * taken / 1e6) and energy.watts == energy.joules / energy.seconds


def test_counters_that_this_user_may_not_read_are_no_meter(tmp_path: Path) -> None:
    rapl(tmp_path, 5)
    for file in tmp_path.rglob("energy_uj"):
        file.unlink()
    assert find_meter(tmp_path) is None
    assert find_meter(tmp_path / "absent") is None


def test_sensors_of_a_jetson_are_summed_up_over_time(tmp_path: Path) -> None:
    board = tmp_path / "sys/class/hwmon/hwmon3"
    write(tmp_path / "sys/class/hwmon/hwmon0", name="pwmfan", power1_input=99_000_000)
    write(board, name="ina3221", in1_label="VDD_IN", in1_input=5000, curr1_input=600)  # 3 W, it feeds the next
    write(board, in2_label="VDD_CPU_GPU_CV", in2_input=5000, curr2_input=200)
    meter = find_meter(tmp_path)
    assert isinstance(meter, Sensors) and meter.source == "INA (VDD_IN)"
    energy = meter.measure(lambda: time.sleep(0.1))
    assert energy.watts == pytest.approx(3.0) and energy.seconds >= 0.1

    # Without the feed's sensor, all channels together.
    write(board, in1_label="VDD_SOC")
    meter = find_meter(tmp_path)
    assert meter and meter.measure(lambda: None).watts == pytest.approx(4.0)


def test_a_sensor_that_multiplies_itself_is_not_counted_twice(tmp_path: Path) -> None:
    folder = tmp_path / "sys/class/hwmon/hwmon1"
    write(folder, name="ina226", power1_input=2_500_000, in1_input=5000, curr1_input=500)
    meter = find_meter(tmp_path)
    assert meter and meter.measure(lambda: time.sleep(0.05)).watts == pytest.approx(2.5)

    def vanish() -> None:
        (folder / "power1_input").unlink()
        time.sleep(0.1)

    with pytest.raises(OSError, match="power1_input"):
        meter.measure(vanish)


@pytest.fixture(scope="module")
def measured(exported: Callable[[str], Path]) -> LatencyRun:
    """Two tiny models, few rounds, two processes, one more for a sweep."""
    return latency([exported("waveform"), exported("streaming")], 0.25, 1, ROUNDS, PROCESSES, [1])


def test_a_run_has_all_samples_of_all_processes(measured: LatencyRun, exported: Callable[[str], Path]) -> None:
    first, second = measured.rows
    for row, form in ((first, "waveform"), (second, "streaming")):
        content = exported(form).read_bytes()
        assert (row.name, row.form, row.level, row.target) == (form, form, "fp32", "portable")
        assert (row.size_bytes, row.sha256) == (len(content), hashlib.sha256(content).hexdigest())
        assert len(row.samples_ms) == row.hop.samples == ROUNDS * PROCESSES
        assert len(row.process_medians_ms) == PROCESSES and row.between_processes >= 0
        assert min(row.samples_ms) <= row.mean_ms <= max(row.samples_ms)
        assert row.cpu_ms_per_audio_second > 0 and 0 < row.ready_s <= row.first_window_s
        assert [point.threads for point in row.sweep] == [1] and row.sweep[0].speedup == 1
        assert row.sweep[0].hop == row.hop, "the run with so many threads is there already"
    for ratio in (first.ratio, first.cpu_ratio):
        assert ratio.low == ratio.median == ratio.high == 1
    assert 0 < second.ratio.low <= second.ratio.median <= second.ratio.high
    assert first.stages == [], "a waveform file has no stages of the runtime"
    assert {stage.name for stage in second.stages} == {"resample", "filter bank", "blocks", "GRU and head"}
    assert {stage.wall.samples for stage in second.stages} == {ROUNDS * PROCESSES}


def test_json_has_null_where_samples_are_too_few_and_the_table_says_so(measured: LatencyRun) -> None:
    told = json.loads(json.dumps(measured.as_json(), allow_nan=False))
    assert 0 <= told["record"]["waited"] < 1
    row = told["rows"][1]
    assert row["hop"]["p50_ms"] > 0 and row["hop"]["p90_ms"] is row["hop"]["p99_ms"] is None
    assert told["record"]["after"] is not None and "warning" in told["record"]
    table = latency_table(measured)
    assert "needs 64 samples" in table and "needs 662 samples" in table
    assert "None" not in table and "nan" not in table and "baseline pipeline" in table
    assert "one thread" not in table
    two = replace(measured, record=replace(measured.record, threads=2))
    assert "`edge-detect`, which has one thread, and not of 2" in latency_table(two)
    grids = [block.splitlines() for block in table.split("\n\n") if block.startswith("|")]
    assert len(grids) == 4 and all(len({line.count("|") for line in grid}) == 1 for grid in grids), table


def test_progress_goes_to_the_end(exported: Callable[[str], Path]) -> None:
    found: list[Timed] = []
    done = sum(run_worker([exported("streaming")], 0.25, 1, ROUNDS, True, found))
    assert done == rounds_of(1, ROUNDS, True)
    assert found[0].wall_ms.shape == found[0].cpu_ms.shape == (ROUNDS, 1)


def test_a_worker_that_ends_early_is_told_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(ModelError) as error:
        list(run_worker([tmp_path / "absent.onnx"], 0.25, 1, 2, False, []))
    assert "absent.onnx" in str(error.value) and "\n" not in str(error.value)


def test_refusals_come_before_any_timing(exported: Callable[[str], Path], tmp_path: Path) -> None:
    model, broken = str(exported("streaming")), tmp_path / "broken.onnx"
    broken.write_bytes(b"no model")
    cores = len(os.sched_getaffinity(0))
    cases: list[tuple[type[EdgeDetectError], list[str]]] = [
        (UsageError, [model, "--rounds", "0"]),
        (UsageError, [model, "--processes", "0"]),
        (UsageError, [model, "--sweep", "1,many"]),
        (UsageError, [model, "--sweep", "0"]),
        (UsageError, [model, "--threads", str(cores + 1)]),
        (UsageError, [model, "--hop", "-1"]),
        (UsageError, [str(exported("waveform")), "--hop", "nan"]),
        (ModelError, [model, str(broken)]),
        (ModelError, [model, str(tmp_path / "absent.onnx")]),
    ]
    parser = argparse.ArgumentParser()
    task.declare(parser.add_subparsers())
    for kind, words in cases:
        arguments = parser.parse_args(["latency", *words])
        with pytest.raises(kind) as error:
            arguments.run(arguments)
        assert "\n" not in str(error.value), words
