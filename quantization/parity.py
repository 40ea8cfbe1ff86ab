"""The proof that stands in every file: how far its scores are from the float model's, through the device's own code."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from edge_runtime.decision.verdict import Thresholds, decide
from edge_runtime.detector import Detector
from edge_runtime.errors import InputError, ModelError
from edge_runtime.model.contract import Contract
from edge_runtime.model.network import Network
from evaluation.accuracy import ClipVerdict, judge
from evaluation.comparison import Comparison, compare, compare_scores
from evaluation.protocols import Clip
from quantization.running import Floats64


@dataclass
class Evaluation:
    """Clips to prove files on, and the float model's judgement of them, made once."""

    name: str
    clips: list[Clip]
    float_path: Path
    hop_seconds: float
    progress: Callable[..., Any]
    tell: Callable[[str], None] = lambda line: None
    unscored: list[str] = field(default_factory=list)  # a line for each clip that the float model gives no score
    _reference: list[ClipVerdict] = field(default_factory=list)

    def compare(self, path: Path) -> Comparison:
        """The model at `path` against the float one. Raises InputError when the float model can judge no clip."""
        if not self._reference:
            self._reference, self.unscored = self._judge(self.float_path)
            for line in self.unscored:
                self.tell(f"no score: {line}")
        return compare(self._reference, self._judge(path)[0])

    def _judge(self, path: Path) -> tuple[list[ClipVerdict], list[str]]:
        try:
            network = Network.load(path)
        except ModelError:  # it is for another processor: what its scores are there can be found out here, slower
            network = Network.load(path, exact=True)
        judged, unscored = judge(Detector(network, hop_seconds=self.hop_seconds), self.clips, self.progress)
        if not judged:
            first = f", as {unscored[0]}" if unscored else ""
            raise InputError(f"{path.name} gave none of the {len(self.clips)} clips of {self.name} a score{first}")
        return judged, unscored


def compare_windows(reference: Floats64, other: Floats64, contract: Contract) -> Comparison:
    """Two models' raw scores, float64 [N], of the same windows: without labels, hence without an EER."""
    thresholds = Thresholds(contract.threshold, contract.threshold_bonafide)
    first, second = (contract.scale * side + contract.offset for side in (reference, other))
    before, after = ([decide(float(score), thresholds) for score in side] for side in (first, second))
    return compare_scores(first, second, verdicts=(before, after))
