"""Files and checkpoints that say of blocks what cannot be: one clear line each, before anything is made of it."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import onnx
import pytest
import safetensors.torch
from onnx import TensorProto, helper

from edge_runtime.errors import ModelError
from edge_runtime.model.contract import PREFIX
from edge_runtime.model.network import Network
from tests.blocky import TINY, Blocky
from tests.program import one_line, run
from tests.test_export_refusals import refused

CLIP = Path(__file__).resolve().parent.parent / "examples" / "human.flac"
Change = Callable[[onnx.ModelProto], object]


def says(**values: str) -> Change:
    """Other metadata."""

    def change(model: onnx.ModelProto) -> None:
        found = {entry.key: entry.value for entry in model.metadata_props}
        found |= {PREFIX + key: text for key, text in values.items()}
        helper.set_model_props(model, found)

    return change


def lacks(*keys: str) -> Change:
    def change(model: onnx.ModelProto) -> None:
        found = {entry.key: entry.value for entry in model.metadata_props}
        helper.set_model_props(
            model, {key: text for key, text in found.items() if key not in {PREFIX + k for k in keys}}
        )

    return change


def renamed(old: str, new: str) -> Change:
    def change(model: onnx.ModelProto) -> None:
        for item in (*model.graph.input, *model.graph.output):
            item.name = new if item.name == old else item.name
        for node in model.graph.node:
            for names in (node.input, node.output):
                names[:] = [new if name == old else name for name in names]

    return change


def reshaped(name: str, *shape: int | str) -> Change:
    def change(model: onnx.ModelProto) -> None:
        for item in (*model.graph.input, *model.graph.output):
            if item.name == name:
                item.CopyFrom(helper.make_tensor_value_info(name, TensorProto.FLOAT, list(shape)))

    return change


def without_moments(model: onnx.ModelProto) -> None:
    del model.graph.output[0]


def another_input(model: onnx.ModelProto) -> None:
    model.graph.input.append(helper.make_tensor_value_info("more", TensorProto.FLOAT, [1]))


def turned_round(model: onnx.ModelProto) -> None:
    """Its windows before its features."""
    kept = list(model.graph.input)
    del model.graph.input[:]
    model.graph.input.extend(reversed(kept))


BAD: dict[str, tuple[Change, str]] = {
    "no block": (says(block_frames="0"), "block_frames is 0"),
    "no keys": (lacks("block_frames", "context_frames", "level_blocks"), "block_frames is 0"),
    "a negative block": (says(block_frames="-20"), "block_frames is -20"),
    "an odd block": (says(block_frames="25"), "must be even"),
    "a huge block": (says(block_frames="1000000000"), "block_frames is 1000000000"),
    "a block of 5,000 digits": (says(block_frames="9" * 5000), "5000 characters"),
    "a block as text": (says(block_frames="twenty"), "metadata is damaged"),
    "a block with a point": (says(block_frames="20.0"), "metadata is damaged"),
    "a block that its graph does not have": (says(block_frames="50"), "its features is"),
    "no whole number of blocks": (says(window_samples="16160"), "no whole number"),
    "an odd context": (says(context_frames="31"), "must be even"),
    "a negative context": (says(context_frames="-2"), "context_frames is -2"),
    "a huge context": (says(context_frames="1000000"), "context_frames is 1000000"),
    "no level": (says(level_blocks="0"), "level_blocks is 0"),
    "a negative level": (says(level_blocks="-3"), "level_blocks is -3"),
    "a huge level": (says(level_blocks="1000000000000"), "level_blocks is"),
    "another form": (says(form="streaming"), "blocks"),
    "a form without blocks": (
        lambda model: (says(form="streaming")(model), lacks("block_frames", "context_frames", "level_blocks")(model)),
        "a streaming model has features -> logits",
    ),
    "another name of an input": (renamed("level", "before"), "a blocks model has features, level, window"),
    "another name of an output": (renamed("moments", "after"), "-> moments, logits"),
    "inputs in another order": (turned_round, "a blocks model has"),
    "one more input": (another_input, "a blocks model has"),
    "an output less": (without_moments, "a blocks model has"),
    "features of three bands": (reshaped("features", "batch", 3, 24), "cannot open the model"),
    "features of one axis": (reshaped("features", "batch"), "cannot open the model"),
    "levels of one axis": (reshaped("level", "batch"), "level"),
    "levels of one block at a time": (reshaped("level", 1, 1, 1), "each half runs alone"),
    "windows whose channels are open": (reshaped("window", "windows", "blocks", 2, "channels"), "window"),
    "windows of another width": (reshaped("window", "windows", "blocks", 2, 71), "cannot open the model"),
    "windows of three moments": (reshaped("window", "windows", "blocks", 3, 72), "window"),
    "a window of other blocks": (reshaped("window", "windows", 7, 2, 72), "window"),
    "absurd channels": (reshaped("window", "windows", "blocks", 2, 1 << 30), "cannot open the model"),
}


def damaged(blocks: Blocky, change: Change, folder: Path) -> Path:
    model = onnx.load(str(blocks.path))
    change(model)
    path = folder / "damaged.onnx"
    path.write_bytes(model.SerializeToString())
    return path


@pytest.mark.parametrize("kind", BAD)
def test_a_damaged_file_is_one_clear_line(kind: str, blocks: Blocky, tmp_path: Path) -> None:
    change, reason = BAD[kind]
    path = damaged(blocks, change, tmp_path)
    with pytest.raises(ModelError) as caught:
        Network.load(path, trusted=True)
    said = str(caught.value)
    assert reason in said and str(path) in said and "\n" not in said and len(said) < 500


def test_what_is_seen_again_counts_as_memory(blocks: Blocky) -> None:
    """A minute of frames before each block, of one sample each."""
    bank = np.ones((200, 3), np.float32)
    contract = replace(blocks.contract, pool=1, block_frames=3200, window_samples=16000, filters=bank)
    contract.check()
    with pytest.raises(ModelError, match="MB of memory"):
        replace(contract, context_frames=950_000).check()


@pytest.mark.parametrize("kind", ["no block", "a block that its graph does not have", "another name of an input"])
def test_the_program_ends_with_4(kind: str, blocks: Blocky, tmp_path: Path) -> None:
    change, reason = BAD[kind]
    done = run("--model", damaged(blocks, change, tmp_path), "--file", CLIP)
    assert done.returncode == 4 and done.stdout == "" and reason in one_line(done.stderr)


def test_a_file_whose_halves_do_not_do_what_they_promise_is_refused(blocks: Blocky, tmp_path: Path) -> None:
    """What no shape shows, a trial in a process of its own finds."""

    def no_numbers(model: onnx.ModelProto) -> None:
        for item in model.graph.initializer:
            if item.name == "logits.bias":
                item.raw_data = b"\x00\x00\xc0\x7f" * 2

    with pytest.raises(ModelError, match="NaN or infinite") as caught:
        Network.load(damaged(blocks, no_numbers, tmp_path))
    assert "\n" not in str(caught.value)


def checkpoint(**changes: object) -> bytes:
    from tests.blocky import random_blocks

    state = {name: tensor for name, tensor in random_blocks(False).state_dict().items() if tensor.ndim}
    return safetensors.torch.save(state, {"config": json.dumps(asdict(TINY) | {"encoder_read": False} | changes)})


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"block_frames": 0}, "block_frames = 0"),
        ({"block_frames": 25}, "block_frames = 25"),
        ({"block_frames": -20}, "block_frames = -20"),
        ({"block_frames": 1 << 40}, "block_frames"),
        ({"block_frames": "20"}, "block_frames = '20'"),
        ({"block_frames": 20.0}, "block_frames = 20.0"),
        ({"block_frames": 6000}, "cannot be"),
        ({"block_frames": 28}, "whole blocks"),
        ({"block_frames": 100}, "whole blocks"),
        ({"context_frames": 31}, "context_frames = 31"),
        ({"context_frames": -2}, "context_frames = -2"),
        ({"context_frames": 1 << 20}, "cannot be"),
        ({"level_blocks": 0}, "level_blocks = 0"),
        ({"level_blocks": True}, "level_blocks = True"),
        ({"level_blocks": -1}, "level_blocks = -1"),
        ({"level_blocks": 1 << 21}, "cannot be"),
        ({"compression": "none"}, "cannot be"),
    ],
)
def test_a_checkpoint_whose_blocks_cannot_be_is_refused(
    changes: dict[str, object], reason: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "bad").write_bytes(checkpoint(**changes))
    code = 2 if reason == "whole blocks" else 4
    assert reason in refused(tmp_path, capsys, code, [str(tmp_path / "bad"), "-o", str(tmp_path / "model.onnx")])


@pytest.mark.parametrize("form", ["streaming", "waveform", "shared"])
def test_a_network_with_blocks_has_no_other_form(
    form: str, blocks: Blocky, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    copy = tmp_path / "blocks.safetensors"
    copy.write_bytes(blocks.checkpoint.read_bytes())
    said = refused(tmp_path, capsys, 2, [str(copy), "--form", form, "-o", str(tmp_path / "model.onnx")])
    assert "looks at blocks" in said and "--form" in said


def test_a_network_without_blocks_has_not_that_form(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    copy = tmp_path / "edge.safetensors"
    copy.write_bytes((Path(__file__).parent.parent / "training" / "edge.safetensors").read_bytes())
    said = refused(tmp_path, capsys, 2, [str(copy), "--form", "blocks", "-o", str(tmp_path / "model.onnx")])
    assert "whole windows" in said and "--form" in said
