"""Small operations on ONNX graphs that the passes share: reading constants, replacing nodes, fresh names."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import onnx
from numpy.typing import NDArray
from onnx import numpy_helper


def constants(graph: onnx.GraphProto) -> dict[str, NDArray[Any]]:
    """The arrays of a graph's initializers and Constant nodes by name; initializers that are inputs too are none."""
    fed = {item.name for item in graph.input}
    found = {item.name: numpy_helper.to_array(item) for item in graph.initializer if item.name not in fed}
    for node in graph.node:
        if node.op_type == "Constant" and node.attribute[0].name == "value":
            found[node.output[0]] = numpy_helper.to_array(node.attribute[0].t)
    return found


def consumers(graph: onnx.GraphProto) -> dict[str, list[onnx.NodeProto]]:
    """The nodes of a graph that read each name, those in subgraphs counted to the node that holds them."""
    found: dict[str, list[onnx.NodeProto]] = {}
    for node in graph.node:
        for name in _reads(node):
            found.setdefault(name, []).append(node)
    return found


def _reads(node: onnx.NodeProto) -> set[str]:
    names = {name for name in node.input if name}
    for body in bodies(node):
        made = {item.name for item in (*body.input, *body.initializer)} | {
            n for inner in body.node for n in inner.output
        }
        names |= {name for inner in body.node for name in _reads(inner)} - made
    return names


def bodies(node: onnx.NodeProto) -> list[onnx.GraphProto]:
    """The subgraphs of a node."""
    return [item.g for item in node.attribute if item.type == onnx.AttributeProto.GRAPH]


def graphs(graph: onnx.GraphProto) -> Iterator[onnx.GraphProto]:
    """A graph and all graphs within it, inner ones first: `replace_node` on a graph copies what lies within it."""
    for node in graph.node:
        for body in bodies(node):
            yield from graphs(body)
    yield graph


class Names:
    """Gives names that a graph and its subgraphs do not use yet."""

    def __init__(self, graph: onnx.GraphProto) -> None:
        self._taken: set[str] = set()
        for part in graphs(graph):
            self._taken |= {item.name for item in (*part.input, *part.output, *part.initializer)}
            self._taken |= {name for node in part.node for name in (node.name, *node.input, *node.output)}

    def fresh(self, wish: str) -> str:
        """`wish`, or `wish` with a number after it."""
        name, count = wish, 1
        while name in self._taken:
            name, count = f"{wish}_{count}", count + 1
        self._taken.add(name)
        return name


def replace_node(graph: onnx.GraphProto, node: onnx.NodeProto, new: Sequence[onnx.NodeProto]) -> None:
    """Puts `new` in the place of `node`, so that the order stays topological."""
    place = next(index for index, item in enumerate(graph.node) if item is node or item == node)
    rest = list(graph.node)[place + 1 :]
    del graph.node[place:]
    graph.node.extend([*new, *rest])


def set_constant(graph: onnx.GraphProto, name: str, value: NDArray[Any]) -> None:
    """Adds or replaces an initializer."""
    for item in graph.initializer:
        if item.name == name:
            item.CopyFrom(numpy_helper.from_array(value, name))
            return
    graph.initializer.append(numpy_helper.from_array(value, name))


def drop_unused(graph: onnx.GraphProto) -> None:
    """Removes initializers and Constant nodes that nothing reads any more, in the graph and within it."""
    for part in graphs(graph):
        read = consumers(part).keys() | {item.name for item in part.output}
        kept = [item for item in part.initializer if item.name in read]
        del part.initializer[:]
        part.initializer.extend(kept)
        nodes = [node for node in part.node if node.op_type != "Constant" or node.output[0] in read]
        del part.node[:]
        part.node.extend(nodes)
