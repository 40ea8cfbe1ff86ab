"""From a float file to a file of any level and target: what is found out about the model once, and used for each."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from edge_runtime.atomic import whole_file
from edge_runtime.errors import ModelError, OutputError
from edge_runtime.model.contract import Contract
from edge_runtime.model.network import Network
from edge_runtime.model.processor import ANY, judge_target, this_processor
from evaluation.comparison import Comparison
from export.sharing import join, split
from quantization import explain, levels, sensitivity
from quantization.calibration import CalibrationSet, gather
from quantization.int4.weights import Int4Weights, four_bits
from quantization.levels import INT4, INT8, STATIC8
from quantization.parity import Evaluation, compare_windows
from quantization.passes import smoothing
from quantization.passes.convolutions import find_ranges
from quantization.passes.linear import eight_bits, observe
from quantization.passes.surgery import constants, graphs
from quantization.running import Floats64, raw_scores
from quantization.schemes import EightBit, FourBit
from quantization.targets import Target, target_of

_QUANTIZED = (
    "QuantizeLinear",
    "DequantizeLinear",
    "DynamicQuantizeLinear",
    "MatMulInteger",
    "QLinearConv",
    "MatMulNBits",
)
SEARCH_WINDOWS = 64
"""Calibration windows that the search for `auto` runs for each weight and scheme."""


@dataclass(frozen=True)
class QuantizedModel:
    """A model in memory, what its metadata will say, and how far it is from the float one."""

    model: onnx.ModelProto
    contract: Contract
    comparison: Comparison
    report: str = ""  # the table that `auto` decided from
    explained: str = ""  # what became of each weight, and why

    @property
    def bytes(self) -> int:
        """Size of the file."""
        return int(stamped(self.model, self.contract).ByteSize())

    def without_model(self) -> QuantizedModel:
        """All but the weights, which a family's report would keep in memory to its end."""
        return replace(self, model=onnx.ModelProto())


@dataclass
class Quantizer:
    """Everything that making files from one float file needs; calibration data are read when a level asks for them."""

    path: Path
    calibration: CalibrationSet
    evaluation: Evaluation | None = None  # None: files are proved on the calibration windows
    count: int = 256
    margin: float = sensitivity.MARGIN
    method: str = "gptq"
    progress: Callable[..., Any] = lambda items, **_: items
    tell: Callable[[str], None] = lambda line: None  # for what the user should know and nothing stops at
    _decisions: dict[Target, sensitivity.Decision] = field(default_factory=dict)
    _rounded: dict[int, dict[str, EightBit]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Raises ModelError unless the file is a float model of this project, whose weights are numbers."""
        network, self.model, self.contract = float_model(self.path)
        self.form, self.sha256 = network.contract.form, network.sha256

    @cached_property
    def weights(self) -> list[levels.Weight]:
        """What a plan decides on."""
        return levels.weights(self.model)

    @cached_property
    def windows(self) -> NDArray[np.float32]:
        """Calibration windows, float32 [N, …]."""
        found = gather(self.calibration, self.contract, self.count)
        for line in found.left_out:
            self.tell(f"left out of the calibration: {line}")
        return found.inputs

    @cached_property
    def reference(self) -> Floats64:
        """The float model's raw scores of the calibration windows, float64 [N]."""
        return raw_scores(self.model, self.windows)

    @cached_property
    def ranges(self) -> Any:
        """The ranges of all convolutions' inputs and outputs."""
        return find_ranges(self.model, self.windows)

    @cached_property
    def factors(self) -> dict[str, NDArray[np.float32]]:
        """What evens out the inputs of the products over a sequence, by their weights' names."""
        return smoothing.factors(self.model, self.weights, self.windows)

    @cached_property
    def int4(self) -> Int4Weights:
        """The weights in 4 bits, with what the method changed beside them.

        Their inputs stay uneven: as weights for evened out ones they cost the scores more.
        """
        seen = observe(self.model, self.weights, self.windows)
        return four_bits(self.model, self.weights, self.windows, self.method, seen)

    def make(self, level: str, target_name: str) -> QuantizedModel:
        """The model of a level for a target, proved.

        Raises ModelError when the graph is not one that the level is for, InputError when calibration or evaluation
        data do not serve.
        """
        target, report = target_of(target_name), ""
        decision = self._decide(target) if level == "auto" else None
        if decision:
            plan, report = decision.plan, decision.table()
        else:
            plan = levels.plan_of(level, self.weights)
        whole = levels.integer_products(plan, self.weights)
        contract = replace(
            self.contract,
            form=self.form,
            level=level,
            target=target_name,
            int8_bits=target.int8_bits if whole else 0,
        )
        explained = explain.table(self.weights, plan, level)
        model = self._build(plan, target)
        comparison, data = self._compare(model, contract)
        facts: dict[str, Any] = {
            "data": data,
            "float_sha256": self.sha256,
            "compared": comparison.as_figures(),
            "bits": {name: levels.BITS[scheme] for name, scheme in plan.items()},
        }
        if whole and judge_target(contract, this_processor())[0]:
            facts["measured"] = "with exact sums, on a processor whose own would saturate"
        if self.evaluation is not None:
            facts["unscored"] = len(self.evaluation.unscored)
        if decision and decision.measured > self.margin:
            self.tell(
                f"no plan keeps the margin of {self.margin:.2%}: with 16 bits for every weight the scores deviate by "
                f"{decision.measured:.2%}"
            )
        if decision:
            facts["margin"] = {"asked": self.margin, "measured": round(decision.measured, 5)}
        if decision or {INT4, STATIC8} & set(plan.values()) or self._eights(plan, target.largest):
            facts["calibration"] = {"data": self.calibration.name, "windows": len(self.windows)}
        if INT4 in plan.values():
            facts["method"] = self.int4.method
        figures = {**self.contract.figures, "quantization": facts}
        if isinstance(figures.get("accuracy"), dict):
            figures["accuracy"] = {**figures["accuracy"], "level": "fp32"}  # it was measured on the float file
        return QuantizedModel(model, replace(contract, figures=figures), comparison, report, explained)

    def _build(self, plan: Mapping[str, str], target: Target) -> onnx.ModelProto:
        int4: Mapping[str, FourBit] = {}
        model = self.model
        if INT4 in plan.values():
            int4 = self.int4.matrices
            if all(plan.get(item.name) == INT4 for item in self.weights if item.kind in ("recurrent", "input")):
                model = self.int4.model  # biases and head were trained for all layers in 4 bits
        static = [item.kind for item in self.weights if plan.get(item.name) == STATIC8]
        ranges = self.ranges if "conv" in static else None
        eights = self._eights(plan, target.largest)
        if eights:
            even = {name: values for name, values in self.factors.items() if plan.get(name) in (INT8, STATIC8)}
            model = smoothing.smoothed(model, even)
        return levels.build(model, plan, target, int4, ranges, eights)

    def _eights(self, plan: Mapping[str, str], largest: int) -> Mapping[str, EightBit]:
        """The sequence weights in integers within +-largest, if the plan has any in 8 bits."""
        if not any(item.kind == "sequence" and plan.get(item.name) in (INT8, STATIC8) for item in self.weights):
            return {}
        if largest not in self._rounded:
            even = smoothing.smoothed(self.model, self.factors)
            found = levels.weights(even)
            self._rounded[largest] = eight_bits(found, observe(even, found, self.windows), largest)
        return self._rounded[largest]

    def _compare(self, model: onnx.ModelProto, contract: Contract) -> tuple[Comparison, str]:
        exact = contract.int8_bits == 8
        if self.evaluation is None:
            name = f"the {len(self.windows)} calibration windows ({self.calibration.name}), no labels"
            return compare_windows(self.reference, raw_scores(model, self.windows, exact), self.contract), name
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / f"{contract.level}.onnx"
            try:
                onnx.save(stamped(model, contract), path)
            except OSError as reason:
                raise OutputError(f"cannot write temporary files in {folder}: {reason.strerror}") from None
            return self.evaluation.compare(path), self.evaluation.name

    def _decide(self, target: Target) -> sensitivity.Decision:
        alike = replace(target, name="")  # what differs by its name only, like both of ARM, is searched once
        if alike not in self._decisions:
            chosen = self.windows[:SEARCH_WINDOWS]
            self._decisions[alike] = sensitivity.search(
                self.weights,
                lambda plan: raw_scores(self._build(plan, target), chosen, target.int8_bits == 8),
                self.reference[:SEARCH_WINDOWS],
                self.margin,
                self.progress,
            )
        return self._decisions[alike]


def float_model(path: Path) -> tuple[Network, onnx.ModelProto, Contract]:
    """A float file of this project, opened and read; the graph of a `shared` one is joined, with the contract for it.

    Raises ModelError for anything else.
    """
    try:
        network = Network.load(path)
    except ModelError:
        if broken := _weights_without_numbers(path):
            raise ModelError(
                f"{path}: the weights {broken} hold values that are not numbers: train or export it again"
            ) from None
        raise
    level = network.contract.level
    if level != "fp32":
        raise ModelError(f"{path} is quantized already (level {level}): give the float file it was made from")
    model = onnx.load(str(path))
    if any(node.op_type in _QUANTIZED for graph in graphs(model.graph) for node in graph.node):
        raise ModelError(f"{path} is quantized already, by another tool: give the float file it was made from")
    return network, *join(model, network.contract)


def _weights_without_numbers(path: Path) -> str:
    """The name of the first weights of a file that hold such; nothing where there are none, or it cannot be read."""
    try:
        model = onnx.load(str(path), load_external_data=False)
        found = constants(model.graph).items()
    except Exception:  # whatever protobuf raises: the file is no model then, and was refused for that
        return ""
    return next((name for name, values in found if values.dtype.kind == "f" and not np.isfinite(values).all()), "")


def stamped(model: onnx.ModelProto, contract: Contract) -> onnx.ModelProto:
    """A copy of the model with the contract as its metadata, and no other; for a `shared` one `model` is split."""
    if contract.form == "shared":
        model, contract = split(model, contract)
    stamped = onnx.ModelProto()
    stamped.CopyFrom(model)
    stamped.producer_name, stamped.producer_version = "edge-detect", ""
    del stamped.metadata_props[:]
    for key, text in contract.to_metadata().items():
        stamped.metadata_props.add(key=key, value=text)
    return stamped


def write(made: QuantizedModel, path: Path) -> None:
    """Writes the file, whole or not at all. Raises OutputError when that fails, ModelError if it could not be read."""
    with whole_file(path) as temporary:
        onnx.save(stamped(made.model, made.contract), temporary)
        Network.load(temporary, processor=ANY, trusted=True)
