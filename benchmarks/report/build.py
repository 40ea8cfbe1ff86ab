"""Gathers a page: scores, measures and times of model files, from the parts of the suite that know each."""

from __future__ import annotations

import datetime
import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.machine.record import Record
from benchmarks.report.figures import against_of, rates_of
from benchmarks.report.page import ConditionErrors, Model, Page, Timing
from edge_runtime.detector import Detector
from edge_runtime.errors import InputError, ModelError
from edge_runtime.model.network import Network
from evaluation.accuracy import ClipVerdict
from evaluation.comparison import ComparedModel as Facts
from evaluation.comparison import describe
from evaluation.paired import MARGIN_POINTS
from evaluation.progress import silently
from evaluation.protocols import Clip, ClipList
from evaluation.scoring.clips import score
from evaluation.scoring.payload import versions
from evaluation.tdcf import FORMS, AsvScores, weights

BASELINE_NOTE = (
    "A file of the waveform form: its times are those of the baseline pipeline, which gives ONNX Runtime the whole "
    "window at each hop; its scores are the runtime's"
)


@dataclass(frozen=True)
class Data:
    """What models are scored on, and how."""

    name: str
    clips: ClipList
    asv: AsvScores | None = None
    stores: Path | None = None  # folder in which scores are kept, so that a run that was killed goes on
    jobs: int | None = None
    cluster: str | None = None
    margin_points: float = MARGIN_POINTS


@dataclass(frozen=True)
class File:
    """A model file that was opened: what it is called on the page, and why the runtime refuses it here, if it does."""

    path: Path
    name: str
    network: Network
    refusal: str | None
    facts: Facts


def check_data(data: Data) -> None:
    """Raises InputError for what would end a run after its long steps: clips of one label, unusable ASV scores."""
    clips = data.clips.clips
    human = sum(clip.is_bonafide for clip in clips)
    if not 0 < human < len(clips):
        gone = f"; {len(data.clips.missing)} clips of the list are missing" if data.clips.missing else ""
        raise InputError(
            f"{data.name} has {human} bona fide and {len(clips) - human} spoofed clips: error rates need both{gone}"
        )
    if data.asv:
        rates = data.asv.rates()
        for form in FORMS:
            weights(rates, form)


def open_files(paths: Sequence[Path]) -> list[File]:
    """The files of a page, the float one first. Raises ModelError for one that opens nowhere, or a first not float."""
    names = _unique_names(paths)
    files = []
    for path, name in zip(paths, names, strict=True):
        network, refusal = _open_anywhere(path)
        files.append(File(path, name, network, refusal, describe(path, paths[0], network.contract, None)))
    if files[0].refusal:
        raise ModelError(files[0].refusal)
    if files[0].facts.level != "fp32":
        raise ModelError(f"{paths[0]} is quantized: give the float file that the others were made from first")
    return files


def build(
    files: Sequence[File],
    data: Data | None,
    timings: Sequence[Timing | None],
    conditions: Sequence[ConditionErrors],
    about: Record,
    command: str,
    hop_seconds: float,
    progress: Callable[..., Any] = silently,
) -> Page:
    """The page of files, the float one first. `timings` has one for each, None where it was not timed.

    Scores are kept in a store for each model, named after the file, its content and the hop: what an earlier run found
    with another of them stays beside.

    Raises InputError when the float model gives no clip a score or those of one label only, and as `score` does. What
    makes figures of another model impossible is a note on it: the others' are not lost.
    """
    reference: list[ClipVerdict] = []
    models = []
    for file, timing in zip(files, timings, strict=True):
        path, name, facts = file.path, file.name, file.facts
        notes = list(file.network.notes)
        if file.refusal:
            notes.append(f"{file.refusal}. Its accuracy was measured with exact sums, its speed was not")
        if timing and file.network.contract.form == "waveform":
            notes.append(BASELINE_NOTE)
        rates = against = None
        if data:
            shown = partial(_labelled, progress, f"scoring, {name}")
            store = data.stores / _store_name(file, hop_seconds, data.clips.clips) if data.stores else None
            judged, unscored = score(
                path, data.clips.clips, store, hop_seconds, data.jobs, data.cluster, shown, anywhere=True
            )
            if not reference:
                if not judged:
                    raise InputError(f"{path} gave no clip of {data.name} a score")
                rates, reference = rates_of(judged, unscored, data.asv), judged
            else:
                try:
                    rates = rates_of(judged, unscored, data.asv)
                except InputError as reason:
                    notes.append(_lost("It has no error rates", reason, judged, unscored))
                try:
                    against = against_of(reference, judged, data.margin_points)
                except InputError as reason:
                    notes.append(_lost("It is not compared with the float model", reason, judged, unscored))
        models.append(
            Model(
                name=name,
                level=facts.level,
                target=facts.target,
                sha256=file.network.sha256,
                size_bytes=facts.size_bytes,
                size_ratio=facts.size_ratio,
                rates=rates,
                against=against,
                timing=timing,
                notes=notes,
            )
        )
    lines = [line for line in about.lines() if not line.startswith("**")]  # the warning stands apart
    return Page(
        made=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        command=command,
        data=data.name if data else "none",
        hop_seconds=hop_seconds,
        machine=about.as_json(),
        machine_lines=lines,
        warnings=[about.warning] if about.warning and any(timings) else [],  # it is about times
        models=models,
        conditions=list(conditions),
        missing=data.clips.missing if data else [],
    )


def _store_name(file: File, hop_seconds: float, clips: Sequence[Clip]) -> str:
    """Another for all that scores depend on, so that a rebuilt model or another list begins its own.

    Raises UsageError for a hop that cannot be.
    """
    hop_samples = Detector(file.network, hop_seconds=hop_seconds).hop_samples
    parts = [file.network.sha256, str(hop_samples), versions(), *(str(clip.path) for clip in clips)]
    return f"{file.name}-{hashlib.sha256(chr(0).join(parts).encode()).hexdigest()[:12]}.sqlite"


def _lost(what: str, reason: InputError, judged: Sequence[ClipVerdict], unscored: Sequence[str]) -> str:
    human = sum(item.clip.is_bonafide for item in judged)
    return (
        f"{what}: {reason} (it scored {human} bona fide and {len(judged) - human} spoofed clips, "
        f"and gave {len(unscored)} no score)"
    )


def _labelled(progress: Callable[..., Any], description: str, items: Any, **told: Any) -> Any:
    return progress(items, **(told | {"desc": description}))


def _open_anywhere(path: Path) -> tuple[Network, str | None]:
    """The model, and why the runtime would not run it on this processor: it is then opened with exact sums.

    Raises ModelError when it can be run nowhere.
    """
    try:
        return Network.load(path), None
    except ModelError as refusal:
        return Network.load(path, exact=True), str(refusal)


def _unique_names(paths: Sequence[Path]) -> list[str]:
    """What each file is called on a page: its name, with the folder where two have the same."""
    stems = [path.stem for path in paths]
    names = [
        stem if stems.count(stem) == 1 else f"{path.parent.name}-{stem}"
        for path, stem in zip(paths, stems, strict=True)
    ]
    return [name if names.count(name) == 1 else f"{name}-{index}" for index, name in enumerate(names, start=1)]
