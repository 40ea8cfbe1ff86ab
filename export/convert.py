"""A loaded checkpoint to a proved ONNX file: contract, graph, proof, and only then the file."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import onnx

from edge_runtime.atomic import whole_file
from edge_runtime.errors import ModelError, OutputError, UsageError
from edge_runtime.model.contract import Contract
from export.checkpoint import Checkpoint
from export.graph import build
from export.parity import Parity, demand, prove


def contract_of(checkpoint: Checkpoint, form: str | None = None) -> Contract:
    """The contract of an fp32 file made from `checkpoint`, with what the checkpoint says of itself.

    Without a `form` it is the one with which overlapping windows share the most: `shared`, or `streaming` where the
    network relates its features to the window's mean level before the first block, or has none; `blocks` where
    the network looks at blocks. Raises UsageError for that form and another network, or the other way round.
    """
    config = checkpoint.model.config
    if form and (form == "blocks") != config.has_blocks:
        sees = (
            "this network looks at blocks of a stream" if config.has_blocks else "this network looks at whole windows"
        )
        raise UsageError(f"{sees} and cannot have the form {form}: leave out --form")
    usual = "shared" if config.compression == "none" and not config.has_encoder else "streaming"
    contract = Contract(
        form=form or ("blocks" if config.has_blocks else usual),
        variant=config.variant,
        sample_rate=config.sample_rate,
        window_samples=config.window_samples,
        pool=config.pool,
        filters=checkpoint.model.filters.numpy(),
        source_sha256=checkpoint.sha256,
        name=checkpoint.name,
        figures=checkpoint.figures,
        block_frames=config.block_frames,
        context_frames=config.context_frames,
        level_blocks=config.level_blocks,
    )
    given = checkpoint.calibration
    return contract if given is None else replace(contract, calibrated=True, **vars(given))


def convert(checkpoint: Checkpoint, contract: Contract, path: str | Path) -> Parity:
    """Writes `checkpoint` as ONNX under `contract` and gives the proof of it.

    Raises ModelError, and leaves `path` as it was, when the exported graph does not compute what PyTorch does;
    OutputError when the file cannot be written; UsageError when the contract's numbers make no sense.
    """
    if Path(path).is_dir():
        raise OutputError(f"cannot write {path}: it is a folder")
    try:
        contract.check()
    except ModelError as reason:
        raise UsageError(str(reason)) from None
    with whole_file(path) as temporary:
        onnx.save(build(checkpoint.model, contract), temporary)
        proof = prove(checkpoint.model, temporary)
        demand(proof)
    return proof
