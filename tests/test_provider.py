"""Execution providers on a build of ONNX Runtime for the CPU: `auto` is silent, what cannot be had is named."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest

from edge_runtime.app.cli import main
from edge_runtime.detector import Detector
from edge_runtime.errors import ModelError
from edge_runtime.model import provider
from edge_runtime.model.network import Network
from edge_runtime.model.session import open_session
from tests.conftest import voice

BUILT = onnxruntime.get_available_providers()
ABSENT = [name for name, (_, full) in provider._NAMES.items() if full not in BUILT]


def test_auto_is_the_cpu_and_says_nothing_where_there_is_nothing_else(exported: Callable[[str], Path]) -> None:
    path = exported("streaming")
    network, plain = provider.load(path, "auto"), Network.load(path)
    sound = voice(2.5)
    assert [w.score for w in Detector(network).push(sound)] == [w.score for w in Detector(plain).push(sound)]
    if len(ABSENT) == 2:
        assert network.notes == () and network.largest_batch == plain.largest_batch


@pytest.mark.parametrize("name", ABSENT)
def test_a_provider_that_was_asked_for_and_is_not_there_is_an_error(
    name: str, exported: Callable[[str], Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = exported("waveform")
    (tmp_path / "e.toml").write_text(f'provider = "{name}"\ndevice = "hw:1"\nmodel = "{model}"\n')
    code = main(["--file", "examples/human.flac", "--model", str(model), "--provider", name])
    printed = capsys.readouterr()
    assert code == ModelError.exit_code and printed.out == ""
    assert printed.err.count("\n") == 1 and "not in this build of ONNX Runtime" in printed.err
    assert provider._NAMES[name][0] in printed.err and "--provider cpu" in printed.err
    assert main(["config", "check", str(tmp_path / "e.toml")]) == 2
    assert "not in this build" in capsys.readouterr().err


def test_the_package_for_the_cpu_over_that_for_the_gpu_is_named(
    exported: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    about = tmp_path / "onnxruntime_gpu-1.31.1.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: onnxruntime-gpu\nVersion: 1.31.1\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    if len(ABSENT) == 2:
        (note,) = provider.load(exported("streaming"), "auto").notes
        assert "runs on the CPU" in note and "uninstall both" in note


def test_the_same_model_in_another_session_is_judged_the_same(network: Network) -> None:
    moved = network.moved(open_session(str(network.path), "the model"))
    assert provider.difference(network, moved) <= 1e-6
    sound = voice(3.2, seed=4)
    found, expected = (np.array([w.score for w in Detector(one).push(sound)], float) for one in (moved, network))
    np.testing.assert_allclose(found, expected, atol=1e-5)


@pytest.mark.parametrize("factor", [1.02, float("nan")])
def test_a_session_that_computes_something_else_is_found_out(
    factor: float, exported: Callable[[str], Path], tmp_path: Path
) -> None:
    reference = Network.load(exported("streaming"))
    model = onnx.load(reference.path)
    (last,) = [node for node in model.graph.node if "logits" in node.output]
    last.output[:] = ["right"]
    model.graph.initializer.append(onnx.numpy_helper.from_array(np.array(factor, np.float32), "factor"))
    model.graph.node.append(onnx.helper.make_node("Mul", ["right", "factor"], ["logits"]))
    onnx.save(model, tmp_path / "other.onnx")
    moved = reference.moved(open_session(str(tmp_path / "other.onnx"), "the other"))
    assert provider.difference(reference, moved) > provider.TOLERANCE


def test_a_session_of_another_kind_of_model_is_refused(exported: Callable[[str], Path]) -> None:
    reference = Network.load(exported("streaming"))
    with pytest.raises(ModelError, match="a streaming model has features"):
        reference.moved(open_session(str(exported("waveform")), "the other"))
