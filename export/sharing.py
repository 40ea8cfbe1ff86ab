"""The `shared` form: the first residual block as a model of its own, so that a device computes it once for new sound.

Up to its max-pool the first block of RawNet2 depends on a few frames around each column and on nothing of the window
as a whole, unless the features were related to the window's mean level before it, as `edge` does.
"""

from __future__ import annotations

from dataclasses import replace

import onnx
from onnx import helper

from edge_runtime.errors import ModelError
from edge_runtime.model.contract import COLUMN_FRAMES, Contract

_COLUMNS, _FEATURES = "columns", "features"
_LOCAL = {"Unsqueeze", "Mul", "Add", "Selu", "Conv", "LeakyRelu", "MaxPool", "Cast", "BatchNormalization", "Constant"}
_QDQ = {"QuantizeLinear", "DequantizeLinear"}


def split(model: onnx.ModelProto, contract: Contract) -> tuple[onnx.ModelProto, Contract]:
    """A `streaming` graph, float or quantized, as the body of the `shared` form, and the contract that holds the block.

    Raises ModelError when the first block is not one that windows can share.
    """
    first, pool = _parts(model)
    foreign = sorted({node.op_type for node in first} - _LOCAL - _QDQ)
    if foreign:
        raise ModelError(f"the first block cannot be shared: {', '.join(foreign)} comes before its max-pool")
    channels = _channels(model, pool.output[0])
    block, body = onnx.ModelProto(), onnx.ModelProto()
    for part in (block, body):
        part.CopyFrom(model)
        del part.graph.node[:], part.graph.value_info[:], part.metadata_props[:]
    block.graph.node.extend(first)
    _rename(block.graph, pool.output[0], _COLUMNS)
    del block.graph.output[:]
    block.graph.output.append(_value(_COLUMNS, channels))
    names = {output for node in first for output in node.output}
    body.graph.node.extend(node for node in model.graph.node if node.output[0] not in names)
    _rename(body.graph, pool.output[0], _COLUMNS)
    del body.graph.input[:]
    body.graph.input.append(_value(_COLUMNS, channels))
    for part in (block, body):
        read = {name for node in part.graph.node for name in node.input} | _inner_reads(part.graph)
        kept = [item for item in part.graph.initializer if item.name in read]
        del part.graph.initializer[:]
        part.graph.initializer.extend(kept)
        without_traces(part)
        onnx.checker.check_model(part)
    return body, replace(contract, form="shared", first_block=block.SerializeToString(deterministic=True))


def without_traces(model: onnx.ModelProto) -> None:
    """Takes out source lines, stack traces and the host's paths, which PyTorch's exporter leaves in a graph."""
    graph = model.graph
    model.doc_string = graph.doc_string = ""
    del graph.value_info[:], graph.metadata_props[:]
    for item in (*graph.node, *graph.input, *graph.output, *graph.initializer):
        item.doc_string = ""
        del item.metadata_props[:]


def join(model: onnx.ModelProto, contract: Contract) -> tuple[onnx.ModelProto, Contract]:
    """A file of the `shared` form as one `streaming` graph again; any other form as it is."""
    if contract.form != "shared":
        return model, contract
    block = onnx.ModelProto.FromString(contract.first_block)
    whole = onnx.ModelProto()
    whole.CopyFrom(model)
    del whole.graph.node[:], whole.graph.input[:], whole.metadata_props[:]
    whole.graph.input.extend(block.graph.input)
    whole.graph.node.extend([*block.graph.node, *model.graph.node])
    known = {item.name for item in whole.graph.initializer}
    whole.graph.initializer.extend(item for item in block.graph.initializer if item.name not in known)
    return whole, replace(contract, form="streaming", first_block=b"")


def _parts(model: onnx.ModelProto) -> tuple[list[onnx.NodeProto], onnx.NodeProto]:
    """The nodes that the first max-pool depends on, in order, and that max-pool, the last of them."""
    graph = model.graph
    pool = next((node for node in graph.node if node.op_type == "MaxPool"), None)
    if pool is None or [item.name for item in graph.input] != [_FEATURES]:
        raise ModelError("the graph has no first block between features and a max-pool")
    sizes = [list(item.ints)[-1] for item in pool.attribute if item.name in ("kernel_shape", "strides")]
    if sizes != [COLUMN_FRAMES] * 2:
        raise ModelError(f"the first block's max-pool is not over {COLUMN_FRAMES} frames")
    needed, first = set(pool.input), [pool]
    for node in reversed(list(graph.node)[: list(graph.node).index(pool)]):
        if needed & set(node.output):
            needed |= set(node.input)
            first.insert(0, node)
    return first, pool


def _channels(model: onnx.ModelProto, name: str) -> int:
    inferred = onnx.shape_inference.infer_shapes(model)
    for item in inferred.graph.value_info:
        if item.name == name:
            axes = item.type.tensor_type.shape.dim
            if len(axes) == 4 and axes[1].dim_value:
                return int(axes[1].dim_value)
    raise ModelError("the first block's width cannot be told from the graph")


def _value(name: str, channels: int) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, ["batch", channels, 1, "columns"])


def _rename(graph: onnx.GraphProto, old: str, new: str) -> None:
    for node in graph.node:
        for names in (node.input, node.output):
            for place, name in enumerate(names):
                if name == old:
                    names[place] = new


def _inner_reads(graph: onnx.GraphProto) -> set[str]:
    """Names that the subgraphs of nodes read, their own among them."""
    found = set()
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.type == onnx.AttributeProto.GRAPH:
                found |= {name for inner in attribute.g.node for name in inner.input} | _inner_reads(attribute.g)
    return found
