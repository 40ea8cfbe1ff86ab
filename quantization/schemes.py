"""How one weight is stored and multiplied: the nodes that each scheme puts in the place of a float weight.

Every scheme is standard ONNX (opset 18). What can be computed from constants alone, such as a Cast to float or the
unpacking of 4 bits, ONNX Runtime computes once while it loads the file. In integer products every window has scales of
its own or fixed ones (DynamicQuantizeLinear has one for a whole batch), so that windows may be scored together; for
the state of a GRU a fixed scale is also faster, as nobody has to look for the largest value at each step.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper

from quantization.passes.surgery import Names, set_constant
from quantization.targets import Target

Floats = NDArray[np.float32]
BLOCK = 64
"""Input rows that share a scale in 4 bits."""
LARGEST_CODE = 127
"""Of activations, about their zero of 128."""
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
    columns: Floats | None = None  # [outputs], the int8 weights' scales; None: from the largest value of each

    def values(self) -> Floats:
        """The weights as float32, [inputs, outputs]."""
        rows = len(self.codes)
        zeros = np.full(self.scales.shape, MIDDLE) if self.zeros is None else self.zeros
        spread = [np.repeat(item.astype(np.float32), self.block, 0)[:rows] for item in (zeros, self.scales)]
        return ((self.codes - spread[0]) * spread[1]).astype(np.float32)


@dataclass(frozen=True)
class EightBit:
    """A matrix [inputs, outputs] in 8 bits, rounded already for a target: codes * scale."""

    codes: NDArray[np.int8]  # [inputs, outputs], within the target's largest
    scale: Floats  # [outputs]
    inputs: tuple[float, float] | None = None  # the least and the largest value that a fixed range has room for


def int8_weight(weight: Floats, largest: int) -> tuple[NDArray[np.int8], Floats]:
    """Integers [inputs, outputs] within +-largest and a scale a column, so that integers * scale = weight nearly."""
    peak = np.abs(weight).max(0)
    scale = np.where(peak > 0, peak / largest, 1).astype(np.float32)
    return np.rint(weight / scale).astype(np.int8), scale


def _stored(codes: NDArray[np.int8], target: Target) -> NDArray[Any]:
    """Codes as they stand in a file for the target."""
    return (codes.astype(np.int16) + 128).astype(np.uint8) if target.unsigned else codes


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

    def turned8(self, weight: Floats, name: str) -> str:
        """`weight` [inputs, outputs] in 8 bits with a scale an output, as float32 for whoever reads it."""
        codes, scale = int8_weight(weight, 127)
        wide = self.node("Cast", [self.constant(f"{name}.int8", codes)], f"{name}.wide", to=TensorProto.FLOAT)
        return self.node("Mul", [wide, self.constant(f"{name}.scale", scale)], f"{name}.float")

    def stored4(self, weight: FourBit, name: str) -> str:
        """`weight` in 4 bits, as float32 [inputs, outputs] for whoever reads it."""
        signed = self._signed(weight, name)
        steps = self.half(weight.scales[:, None, :], f"{name}.steps")
        scaled = self.node("Mul", [signed, steps], f"{name}.scaled")
        return self._flat(scaled, weight, name)

    def product8(
        self, source: str, weight: Floats | EightBit, name: str, target: Target, output: str, bounded: bool
    ) -> None:
        """output = source @ weight [inputs, outputs]: int8 weights, uint8 activations.

        `bounded` says that the source is a GRU's state, which its algebra keeps within +-1: its scale is then fixed.
        Others get a scale for each row, from its largest value, so that the windows of a batch do not touch each other.
        """
        given = weight if isinstance(weight, EightBit) else EightBit(*int8_weight(weight, target.largest))
        stored = self.constant(f"{name}.int8", _stored(given.codes, target))
        self._integer_product(source, stored, given.scale, name, target, output, bounded)

    def product_static(self, source: str, weight: EightBit, name: str, target: Target, output: str) -> None:
        """output = source @ weight with a fixed range for the uint8 activations (QDQ), which must be in `weight`.

        ONNX Runtime makes one node of the product and its scales.
        """
        if weight.inputs is None:
            raise ValueError(f"{name} has no range for its inputs")
        least, most = weight.inputs
        width = max(most - least, 1e-20) / 255
        step = self.constant(f"{name}.step", np.array(width, np.float32))
        zero = self.constant(f"{name}.activation_zero", np.array(np.clip(np.rint(-least / width), 0, 255), np.uint8))
        codes = self.node("QuantizeLinear", [source, step, zero], f"{name}.activations")
        inputs = self.node("DequantizeLinear", [codes, step, zero], f"{name}.inputs")
        stored = self.constant(f"{name}.int8", _stored(weight.codes, target))
        scale = self.constant(f"{name}.scale", weight.scale)
        middle = np.full(len(weight.scale), 128 if target.unsigned else 0, target.dtype)
        zeros = self.constant(f"{name}.weight_zero", middle)
        values = self.node("DequantizeLinear", [stored, scale, zeros], f"{name}.float", axis=1)
        self.nodes.append(helper.make_node("MatMul", [inputs, values], [output], f"{name}.product"))

    def product_wide(self, source: str, weight: Floats, name: str, target: Target, output: str) -> None:
        """output = source @ weight of rows that sum up a window: int8 weights, activations of two uint8 each.

        The largest of thousands of values is many times their RMS, so that one uint8 would leave 3 bits to most. What
        the first one leaves over goes through the same product, as a second row of it, in steps 254 times finer.
        """
        codes, scale = int8_weight(weight, target.largest)
        axis = self.constant(f"{name}.last", np.array([-1], np.int64))
        peak = self.node("ReduceMax", [self.node("Abs", [source], f"{name}.abs"), axis], f"{name}.peak")
        tiny = self.constant(f"{name}.tiny", np.array(1e-20, np.float32))
        peak = self.node("Max", [peak, tiny], f"{name}.some_peak")
        step = self.node("Div", [peak, self._number(f"{name}.largest", LARGEST_CODE)], f"{name}.step")
        steps = self.node("Div", [source, step], f"{name}.in_steps")
        coarse = self.node("Round", [steps], f"{name}.coarse")
        finer = self._number(f"{name}.finer", 2 * LARGEST_CODE)
        fine = self.node("Mul", [self.node("Sub", [steps, coarse], f"{name}.left"), finer], f"{name}.fine")
        rows = self.node("Concat", [coarse, fine], f"{name}.rows", axis=0)
        zero = self.constant(f"{name}.activation_zero", np.array(128, np.uint8))
        inputs = [self.node("QuantizeLinear", [rows, self._number(f"{name}.one", 1), zero], f"{name}.activations")]
        inputs += [self.constant(f"{name}.int8", _stored(codes, target)), zero]
        if target.unsigned:
            inputs.append(self.constant(f"{name}.weight_zero", np.array(128, np.uint8)))
        total = self.node("MatMulInteger", inputs, f"{name}.total")
        wide = self.node("Cast", [total], f"{name}.total_float", to=TensorProto.FLOAT)
        parts = [self._names.fresh(f"{name}.total_{part}") for part in ("coarse", "fine")]
        self.nodes.append(helper.make_node("Split", [wide], parts, f"{name}.split", axis=0, num_outputs=2))
        rest = self.node("Div", [parts[1], finer], f"{name}.rest")
        whole = self.node("Mul", [self.node("Add", [parts[0], rest], f"{name}.sum"), step], f"{name}.of_row")
        self.nodes.append(
            helper.make_node("Mul", [whole, self.constant(f"{name}.scale", scale)], [output], f"{name}.product")
        )

    def _number(self, name: str, value: float) -> str:
        return self.constant(name, np.array(value, np.float32))

    def product4(self, source: str, weight: FourBit, name: str, target: Target, output: str, bounded: bool) -> None:
        """output = source @ weight, its codes packed two in a byte and made int8 when the file is loaded.

        `bounded` is that of `product8`.
        """
        scale = weight.columns
        if scale is None:
            peak = np.abs(weight.values()).max(0)
            scale = np.where(peak > 0, peak / target.largest, 1).astype(np.float32)
        signed = self._signed(weight, name)
        # In steps of the column's scale, whose 16 bits are more than the int8 weight keeps.
        steps = self.half((weight.scales / scale)[:, None, :], f"{name}.steps")
        integers = self._flat(self.node("Mul", [signed, steps], f"{name}.scaled"), weight, name)
        integers = self.node("Round", [integers], f"{name}.rounded")
        # The 16 bits of a step can carry a weight a little beyond the range, where it would saturate or wrap.
        edges = [self.constant(f"{name}.{edge}", np.array(sign * target.largest, np.float32)) for edge, sign in _EDGES]
        integers = self.node("Clip", [integers, *edges], f"{name}.within")
        if target.unsigned:
            middle = self.constant(f"{name}.middle", np.array(128, np.float32))
            integers = self.node("Add", [integers, middle], f"{name}.raised")
        kind = TensorProto.UINT8 if target.unsigned else TensorProto.INT8
        integers = self.node("Cast", [integers], f"{name}.int8", to=kind)
        self._integer_product(source, integers, scale, name, target, output, bounded)

    def _signed(self, weight: FourBit, name: str) -> str:
        """code - zero of the packed codes, float32 [blocks, inputs of a block, outputs]."""
        rows, columns = weight.codes.shape
        blocks = len(weight.scales)
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
        return self.node("Sub", [wide, zeros], f"{name}.signed")

    def _flat(self, blocked: str, weight: FourBit, name: str) -> str:
        """[blocks, inputs of a block, outputs] as [inputs, outputs], without what filled the last block."""
        rows, columns = weight.codes.shape
        flat = self.constant(f"{name}.flat", np.array([-1, columns], np.int64))
        result = self.node("Reshape", [blocked, flat], f"{name}.all")
        if len(weight.scales) * weight.block != rows:
            limits = [
                self.constant(f"{name}.{what}", np.array([n], np.int64)) for what, n in (("from", 0), ("to", rows))
            ]
            axis = self.constant(f"{name}.axis", np.array([0], np.int64))
            result = self.node("Slice", [result, *limits, axis], f"{name}.cut")
        return result

    def _integer_product(
        self, source: str, integers: str, scale: Floats, name: str, target: Target, output: str, bounded: bool
    ) -> None:
        """The codes of activations are 128 + rint(value / step), so that 0 is exact and +-127 steps are the range."""
        zero = self.constant(f"{name}.activation_zero", np.array(128, np.uint8))
        if bounded:
            step = self.constant(f"{name}.step", np.array(1 / LARGEST_CODE, np.float32))
            codes = self.node("QuantizeLinear", [source, step, zero], f"{name}.activations")
            weight_scale = (scale / LARGEST_CODE).astype(np.float32)
        else:
            axis = self.constant(f"{name}.last", np.array([-1], np.int64))
            tiny = self.constant(f"{name}.tiny", np.array(1e-20, np.float32))  # a row of zeros must not divide by 0
            peak = self.node("ReduceMax", [self.node("Abs", [source], f"{name}.abs"), axis], f"{name}.peak")
            peak = self.node("Max", [peak, tiny], f"{name}.some_peak")
            largest = self.constant(f"{name}.largest", np.array(LARGEST_CODE, np.float32))
            step = self.node("Div", [peak, largest], f"{name}.step")
            one = self.constant(f"{name}.one", np.array(1, np.float32))
            steps = self.node("Div", [source, step], f"{name}.in_steps")
            codes = self.node("QuantizeLinear", [steps, one, zero], f"{name}.activations")
            weight_scale = scale
        inputs = [codes, integers, zero]
        if target.unsigned:
            inputs.append(self.constant(f"{name}.weight_zero", np.array(128, np.uint8)))
        total = self.node("MatMulInteger", inputs, f"{name}.total")
        wide = self.node("Cast", [total], f"{name}.total_float", to=TensorProto.FLOAT)
        if not bounded:
            wide = self.node("Mul", [wide, step], f"{name}.of_row")
        factor = self.constant(f"{name}.scale", weight_scale)
        self.nodes.append(helper.make_node("Mul", [wide, factor], [output], f"{name}.product"))
