"""Nodes and weights of an ONNX graph that is written without PyTorch."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

State = Mapping[str, NDArray[np.floating[Any]]]
"""A checkpoint's tensors by name."""
NORM_EPSILON = 1e-5  # of torch


class Graph:
    """Nodes and weights as they are added; every method gives the name of what it computes."""

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.initializers: list[onnx.TensorProto] = []
        self._constants: dict[tuple[str, str], str] = {}

    def add(self, kind: str, *inputs: str, outputs: int = 1, output: str = "", **attributes: Any) -> Any:
        """A node; several outputs are a list of names."""
        names = [
            output or f"{kind.lower()}_{len(self.nodes)}" + (f"_{n}" if outputs > 1 else "") for n in range(outputs)
        ]
        self.nodes.append(helper.make_node(kind, list(inputs), names, **attributes))
        return names if outputs > 1 else names[0]

    def weight(self, name: str, values: NDArray[Any]) -> str:
        """Float32 under a name of its own."""
        values = np.ascontiguousarray(values, dtype=np.float32)
        self.initializers.append(numpy_helper.from_array(values, name))
        return name

    def constant(self, value: Any, kind: type) -> str:
        """A number or a short list, once for all who need it."""
        array: NDArray[Any] = np.array(value, dtype=kind)
        key = (array.dtype.str, str(array.tolist()))
        if key not in self._constants:
            self._constants[key] = f"constant_{len(self._constants)}"
            self.initializers.append(numpy_helper.from_array(array, self._constants[key]))
        return self._constants[key]

    def integers(self, value: Any) -> str:
        return self.constant(value, np.int64)

    def number(self, value: float) -> str:
        return self.constant(value, np.float32)

    def dense(self, x: str, name: str, weight: NDArray[Any], bias: NDArray[Any], output: str = "") -> str:
        """x @ weight + bias, `weight` [in, out]."""
        product = self.add("MatMul", x, self.weight(f"{name}.weight", weight))
        return str(self.add("Add", product, self.weight(f"{name}.bias", bias), output=output))

    def gelu(self, x: str) -> str:
        """The exact GELU, its factors in the order that ONNX Runtime recognises."""
        inner = self.add("Erf", self.add("Div", x, self.number(math.sqrt(2))))
        return str(self.add("Mul", self.add("Mul", x, self.add("Add", inner, self.number(1.0))), self.number(0.5)))

    def affine(self, x: str, name: str, state: State) -> str:
        """A BatchNorm in evaluation."""
        part = {
            key: state[f"{name}.{key}"].astype(np.float64) for key in ("weight", "bias", "running_mean", "running_var")
        }
        scale = part["weight"] / np.sqrt(part["running_var"] + NORM_EPSILON)
        shift = part["bias"] - part["running_mean"] * scale
        scaled = self.add("Mul", x, self.weight(f"{name}.scale", scale))
        return str(self.add("Add", scaled, self.weight(f"{name}.shift", shift)))

    def layer_norm(self, x: str, name: str, state: State) -> str:
        weights = [self.weight(f"{name}.{key}", state[f"{name}.{key}"]) for key in ("weight", "bias")]
        return str(self.add("LayerNormalization", x, *weights, axis=-1, epsilon=NORM_EPSILON, stash_type=1))

    def stem(self, x: str, name: str, state: State, stride: int, padded: bool) -> str:
        """A convolution of three taps over time as a product: [B, T, in] -> [B, ceil(T / stride), out] if padded."""
        x = self.add("Pad", x, self.integers([0, 1, 0, 0, 1, 0]), mode="constant") if padded else x
        axis, step = self.integers([1]), self.integers([stride])
        bounds = ((0, -2), (1, -1), (2, (1 << 63) - 1))
        taps = [self.add("Slice", x, self.integers([a]), self.integers([b]), axis, step) for a, b in bounds]
        weight = state[f"{name}.weight"].transpose(0, 2, 1).reshape(len(state[f"{name}.weight"]), -1).T
        return self.dense(self.add("Concat", *taps, axis=2), f"{name}.dense", weight, state[f"{name}.bias"])
