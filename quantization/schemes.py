"""How one weight is stored and multiplied: the nodes that each scheme puts in the place of a float weight.

Every scheme is standard ONNX (opset 18). What can be computed from constants alone, such as a Cast to float or the
unpacking of 4 bits, ONNX Runtime computes once while it loads the file; it then fuses the chain of an integer product
into one kernel (DynamicQuantizeMatMul), in a Scan's body too.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper

from quantization.surgery import Names, set_constant
from quantization.targets import Target

Floats = NDArray[np.float32]
BLOCK = 64
"""Input rows that share a scale in 4 bits."""
MIDDLE = 8
"""The code that stands for 0 where a block has no zero of its own."""


@dataclass(frozen=True)
class FourBit:
    """A matrix [inputs, outputs] in 4 bits: value = (code - zero) * scale, zero and scale those of a block of inputs.

    Stored so, it is made into int8 when the file is loaded, with one scale a column for the integer product: 4 bits
    are kept on disk, and the int8 kernels, fast and exact on every processor, compute. (MatMulNBits, which computes on
    4 bits, took 1.7 times as long for a step of a large GRU, and its sums differ between processors.) What this second
    rounding adds is that of the level int8, a tenth and less of what the first one costs.
    """

    codes: NDArray[np.uint8]  # [inputs, outputs], 0 to 15
    scales: Floats  # [blocks of inputs, outputs]
    zeros: NDArray[np.uint8] | None = None  # [blocks of inputs, outputs], 0 to 15; None: 8 everywhere
    block: int = BLOCK

    def values(self) -> Floats:
        """The weights as float32, [inputs, outputs]."""
        rows = len(self.codes)
        zeros = np.full(self.scales.shape, MIDDLE) if self.zeros is None else self.zeros
        spread = [np.repeat(item.astype(np.float32), self.block, 0)[:rows] for item in (zeros, self.scales)]
        return ((self.codes - spread[0]) * spread[1]).astype(np.float32)


def int8_weight(weight: Floats, largest: int) -> tuple[NDArray[np.int8], Floats]:
    """Integers [inputs, outputs] within +-largest and a scale a column, so that integers * scale = weight nearly."""
    peak = np.abs(weight).max(0)
    scale = np.where(peak > 0, peak / largest, 1).astype(np.float32)
    return np.rint(weight / scale).astype(np.int8), scale


_EDGES = (("least", -1), ("most", 1))


class Builder:
    """Makes the nodes of schemes within one graph; constants go into the graph itself."""

    def __init__(self, graph: onnx.GraphProto, names: Names) -> None:
        self._graph, self._names = graph, names
        self.nodes: list[onnx.NodeProto] = []

    def constant(self, name: str, value: NDArray[Any]) -> str:
        """Adds an initializer and gives its name."""
        name = self._names.fresh(name)
        set_constant(self._graph, name, value)
        return name

    def node(self, operator: str, inputs: list[str], output: str, **attributes: Any) -> str:
        """Adds a node with one output and gives the output's name, made unused if it is taken."""
        output = self._names.fresh(output)
        self.nodes.append(helper.make_node(operator, inputs, [output], f"{output}.node", **attributes))
        return output

    def half(self, weight: NDArray[Any], name: str) -> str:
        """`weight` in 16 bits, as float32 for whoever reads it."""
        return self.node("Cast", [self.constant(f"{name}.fp16", weight.astype(np.float16))], name, to=TensorProto.FLOAT)

    def stored8(self, weight: Floats, name: str) -> str:
        """`weight` [outputs, ...] in 8 bits with a scale an output, as float32 for whoever reads it."""
        flat = weight.reshape(len(weight), -1)
        codes, scale = int8_weight(flat.T, 127)
        shape = (len(weight), *[1] * (weight.ndim - 1))
        integers = self.constant(f"{name}.int8", np.ascontiguousarray(codes.T).reshape(weight.shape))
        wide = self.node("Cast", [integers], f"{name}.wide", to=TensorProto.FLOAT)
        return self.node("Mul", [wide, self.constant(f"{name}.scale", scale.reshape(shape))], name)

    def product8(self, source: str, weight: Floats, name: str, target: Target, output: str) -> None:
        """output = source @ weight [inputs, outputs]: int8 weights, uint8 activations with a scale of each run."""
        codes, scale = int8_weight(weight, target.largest)
        if target.unsigned:
            raised = (codes.astype(np.int16) + 128).astype(np.uint8)
            stored = self.constant(f"{name}.int8", raised)
        else:
            stored = self.constant(f"{name}.int8", codes)
        self._integer_product(source, stored, scale, name, target, output)

    def product4(self, source: str, weight: FourBit, name: str, target: Target, output: str) -> None:
        """output = source @ weight, its codes packed two in a byte and made int8 when the file is loaded."""
        rows, columns = weight.codes.shape
        blocks = len(weight.scales)
        peak = np.abs(weight.values()).max(0)
        scale = np.where(peak > 0, peak / target.largest, 1).astype(np.float32)
        whole = blocks * weight.block
        codes = np.full((whole, columns), MIDDLE, np.uint8)
        codes[:rows] = weight.codes
        packed = codes[: whole // 2] | codes[whole // 2 :] << 4
        stored = self.constant(f"{name}.int4", packed)
        low = self.node("BitwiseAnd", [stored, self.constant(f"{name}.mask", np.array(15, np.uint8))], f"{name}.low")
        four = self.constant(f"{name}.four", np.array(4, np.uint8))
        high = self.node("BitShift", [stored, four], f"{name}.high", direction="RIGHT")
        unpacked = self.node("Concat", [low, high], f"{name}.codes", axis=0)
        shape = self.constant(f"{name}.blocked", np.array([blocks, -1, columns], np.int64))
        blocked = self.node("Reshape", [unpacked, shape], f"{name}.in_blocks")
        wide = self.node("Cast", [blocked], f"{name}.wide", to=TensorProto.FLOAT)
        if weight.zeros is None:
            zeros = self.constant(f"{name}.zero", np.array(MIDDLE, np.float32))
        else:
            zeros = self.constant(f"{name}.zeros", weight.zeros[:, None, :])
            zeros = self.node("Cast", [zeros], f"{name}.zeros_wide", to=TensorProto.FLOAT)
        signed = self.node("Sub", [wide, zeros], f"{name}.signed")
        # In steps of the column's scale, whose 16 bits are more than the int8 weight keeps.
        steps = self.half((weight.scales / scale)[:, None, :], f"{name}.steps")
        scaled = self.node("Mul", [signed, steps], f"{name}.scaled")
        flat = self.constant(f"{name}.flat", np.array([-1, columns], np.int64))
        integers = self.node("Reshape", [scaled, flat], f"{name}.all")
        if whole != rows:
            limits = [
                self.constant(f"{name}.{what}", np.array([n], np.int64)) for what, n in (("from", 0), ("to", rows))
            ]
            axis = self.constant(f"{name}.axis", np.array([0], np.int64))
            integers = self.node("Slice", [integers, *limits, axis], f"{name}.cut")
        integers = self.node("Round", [integers], f"{name}.rounded")
        # The 16 bits of a step can carry a weight a little beyond the range, where it would saturate or wrap.
        edges = [self.constant(f"{name}.{edge}", np.array(sign * target.largest, np.float32)) for edge, sign in _EDGES]
        integers = self.node("Clip", [integers, *edges], f"{name}.within")
        if target.unsigned:
            middle = self.constant(f"{name}.middle", np.array(128, np.float32))
            integers = self.node("Add", [integers, middle], f"{name}.raised")
        kind = TensorProto.UINT8 if target.unsigned else TensorProto.INT8
        integers = self.node("Cast", [integers], f"{name}.int8", to=kind)
        self._integer_product(source, integers, scale, name, target, output)

    def _integer_product(
        self, source: str, integers: str, scale: Floats, name: str, target: Target, output: str
    ) -> None:
        codes, step, zero = (self._names.fresh(f"{name}.{part}") for part in ("activations", "step", "zero"))
        self.nodes.append(
            helper.make_node("DynamicQuantizeLinear", [source], [codes, step, zero], f"{name}.activations.node")
        )
        inputs = [codes, integers, zero]
        if target.unsigned:
            inputs.append(self.constant(f"{name}.weight_zero", np.array(128, np.uint8)))
        total = self.node("MatMulInteger", inputs, f"{name}.total")
        wide = self.node("Cast", [total], f"{name}.total_float", to=TensorProto.FLOAT)
        factor = self.node("Mul", [step, self.constant(f"{name}.scale", scale)], f"{name}.factor")
        self.nodes.append(helper.make_node("Mul", [wide, factor], [output], f"{name}.product"))
