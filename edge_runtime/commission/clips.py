"""Reference clips, of which is known what they are: whether the model on this machine says so."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from edge_runtime.commission.check import Check, fail, ok, warn
from edge_runtime.commission.order import KINDS, ReferenceClip
from edge_runtime.detector import Detector
from edge_runtime.errors import CHECK_FAILED, InputError
from edge_runtime.report import Report
from edge_runtime.run.files import blocks_of
from edge_runtime.run.listen import run


@dataclass(frozen=True)
class ReferenceVerdict:
    """What was said of a clip; `error` where it could not be read to its end."""

    file: str
    expected: str
    verdict: str | None
    score: float | None
    seconds: float
    error: str | None


def score(clip: ReferenceClip, detector: Detector, stopped: Callable[[], bool]) -> ReferenceVerdict:
    """Scores the clip as `edge-detect --file` does, except that alarms have no say.

    Raises ModelError when the model fails.
    """
    summary, trouble = run(blocks_of(clip.path, None, detector), detector, Report(), stopped=stopped)
    if trouble is not None:
        return ReferenceVerdict(clip.path, clip.expected, None, None, summary.seconds, str(trouble))
    return ReferenceVerdict(clip.path, clip.expected, str(summary.verdict), summary.score, summary.seconds, None)


def judge(judged: ReferenceVerdict) -> Check:
    """The check `clip`."""
    if judged.error is not None:
        todo = "name a clip that is there and whole (--clip)"
        return fail("clip", judged.error, todo, InputError.exit_code)
    score = "" if judged.score is None else f" (score {judged.score:+.2f})"
    text = f"{judged.file}: {judged.verdict}{score}, it is {judged.expected}"
    if judged.verdict == judged.expected:
        return ok("clip", text)
    if judged.verdict in KINDS:
        return fail(
            "clip",
            text,
            "score it with the same model on another machine: if that differs by more than 0.1, this one computes "
            "wrongly; else take another clip",
            CHECK_FAILED,
        )
    return warn("clip", text, "take a clip that the model is sure of: longer, louder or clearer")
