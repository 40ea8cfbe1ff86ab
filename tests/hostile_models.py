"""Small model files: a good one of each form, and ones that ask for too much, never end or give what is wrong."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from edge_runtime.model.contract import PREFIX, Contract

RATE = 16000
FRAMES = (RATE - 9 + 1) // 16


def contract(**more: Any) -> Contract:
    """Of a `waveform` file with windows of 1 s, unless `more` says something else."""
    given: dict[str, Any] = {
        "form": "waveform",
        "variant": "edge",
        "sample_rate": RATE,
        "window_samples": RATE,
        "pool": 16,
        "filters": np.sin(np.arange(18).reshape(2, 9)).astype(np.float32),
        "calibrated": True,
        "name": "small",
    }
    return Contract(**given | more)


def constant(name: str, value: Any) -> onnx.TensorProto:
    return numpy_helper.from_array(np.asarray(value), name)


def node(kind: str, inputs: str, outputs: str, **attributes: Any) -> onnx.NodeProto:
    return helper.make_node(kind, inputs.split(), outputs.split(), **attributes)


def tensor(name: str, shape: Sequence[str | int] | None, kind: int = TensorProto.FLOAT) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, kind, shape)


LOUDEST = node("ReduceMax", "waveform", "loudest", axes=[1], keepdims=1)
BOTH = [LOUDEST, node("Concat", "loudest loudest", "logits", axis=1)]
"""A good graph: the loudest sample, twice."""
INPUT = tensor("waveform", ["batch", "samples"])


def graph(
    nodes: Sequence[onnx.NodeProto],
    constants: Sequence[onnx.TensorProto] = (),
    *,
    taken: onnx.ValueInfoProto = INPUT,
    given: onnx.ValueInfoProto | None = None,
) -> onnx.ModelProto:
    """A model of these nodes, without metadata."""
    outputs = [given or tensor("logits", ["batch", 2])]
    made = helper.make_model(
        helper.make_graph(list(nodes), "small", [taken], outputs, list(constants)),
        opset_imports=[helper.make_opsetid("", 13)],
    )
    made.ir_version = 8
    return made


def with_metadata(model: onnx.ModelProto, metadata: dict[str, str]) -> bytes:
    helper.set_model_props(model, metadata)
    return bytes(model.SerializeToString())


def good(**changes: str) -> bytes:
    """A `waveform` file that runs, with `changes` of its metadata."""
    return with_metadata(graph(BOTH), contract().to_metadata() | {PREFIX + key: text for key, text in changes.items()})


def adding(nodes: Sequence[onnx.NodeProto], constants: Sequence[onnx.TensorProto]) -> bytes:
    """A file whose logits have `more` added, which `nodes` make."""
    added = [LOUDEST, node("Concat", "loudest loudest", "both", axis=1), *nodes, node("Add", "both more", "logits")]
    return with_metadata(graph(added, constants), contract().to_metadata())


def loop() -> bytes:
    """2^60 rounds, of nothing but constants: ONNX Runtime would fold them, or run them, for ever."""
    body = helper.make_graph(
        [node("Add", "before one", "after"), node("Identity", "go_on", "goes_on")],
        "round",
        [tensor("round", [], TensorProto.INT64), tensor("go_on", [], TensorProto.BOOL), tensor("before", None)],
        [tensor("goes_on", [], TensorProto.BOOL), tensor("after", None)],
    )
    constants = [constant("rounds", np.int64(2**60)), constant("yes", np.bool_(True)), constant("one", np.float32(1))]
    return adding([node("Loop", "rounds yes both", "more", body=body)], constants)


def expanded() -> bytes:
    """A constant of 32 GB."""
    nodes = [node("Expand", "one shape", "large"), node("ReduceMax", "large", "more", keepdims=0)]
    return adding(nodes, [constant("one", np.float32(1)), constant("shape", np.array([2**33], np.int64))])


def external(location: str, inner: bool = False) -> bytes:
    """Weights in another file; with `inner` of a graph within the graph."""
    away = constant("away", np.ones((1, 2), np.float32))
    away.ClearField("raw_data")
    away.data_location = TensorProto.EXTERNAL
    away.external_data.add(key="location", value=location)
    if not inner:
        return adding([node("Identity", "away", "more")], [away])
    branch = helper.make_graph([node("Identity", "away", "chosen")], "branch", [], [tensor("chosen", None)], [away])
    choice = node("If", "yes", "more", then_branch=branch, else_branch=branch)
    return adding([choice], [constant("yes", np.bool_(True))])


def no_numbers(above: float | None = None) -> bytes:
    """NaN always, or for windows louder than `above`."""
    if above is None:
        nodes = [node("Sub", "both both", "zero"), node("Div", "zero zero", "more")]
        return adding(nodes, [])
    nodes = [node("Sub", "limit both", "room"), node("Sqrt", "room", "more")]
    return adding(nodes, [constant("limit", np.float32(above))])


def three_columns() -> bytes:
    """Logits of another shape than is declared: what is declared says nothing of it."""
    nodes = [LOUDEST, node("Concat", "loudest loudest loudest", "logits", axis=1)]
    return with_metadata(graph(nodes, given=tensor("logits", ["batch", "any"])), contract().to_metadata())


def streaming() -> bytes:
    """A good file of the form `streaming`: the mean over all features."""
    nodes = [
        node("ReduceMean", "features", "flat", axes=[1, 2], keepdims=0),
        node("Reshape", "flat column", "mean"),
        node("Concat", "mean mean", "logits", axis=1),
    ]
    made = graph(nodes, [constant("column", np.array([-1, 1]))], taken=tensor("features", ["batch", 2, "frames"]))
    return with_metadata(made, contract(form="streaming").to_metadata())


def shared(kind: str = "good") -> bytes:
    """A file of the form `shared`, whose first block pools three frames, or gives something else."""
    pool = {"kernel_shape": [1, 3], "strides": [1, 3]}
    if kind == "one column":  # broadcast over time, it would give scores
        nodes = [node("ReduceMax", "features", "few", axes=[2], keepdims=1), node("Unsqueeze", "few two", "columns")]
    elif kind == "three axes":
        nodes = [node("Unsqueeze", "features two", "wide"), node("MaxPool", "wide", "pooled", **pool)]
        nodes.append(node("Squeeze", "pooled two", "columns"))
    else:
        if kind == "every frame":
            pool["strides"] = [1, 1]
        nodes = [node("Unsqueeze", "features two", "wide"), node("MaxPool", "wide", "columns", **pool)]
    block = graph(
        nodes,
        [constant("two", np.array([2]))],
        taken=tensor("features", ["batch", 2, "frames"]),
        given=tensor("columns", ["batch", "a", "b"] if kind == "three axes" else ["batch", "a", "b", "c"]),
    )
    body = [
        node("ReduceMean", "columns", "flat", axes=[1, 2, 3], keepdims=0),
        node("Reshape", "flat column", "mean"),
        node("Concat", "mean mean", "logits", axis=1),
    ]
    made = graph(body, [constant("column", np.array([-1, 1]))], taken=tensor("columns", ["batch", 2, 1, "columns_of"]))
    metadata = contract().to_metadata() | {
        f"{PREFIX}form": "shared",
        f"{PREFIX}first_block_onnx_base64": base64.b64encode(block.SerializeToString()).decode(),
    }
    return with_metadata(made, metadata)


def write(folder: Path, content: bytes) -> str:
    """As `model.onnx` in `folder`; gives its name."""
    (folder / "model.onnx").write_bytes(content)
    return "model.onnx"
