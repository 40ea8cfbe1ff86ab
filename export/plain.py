"""The float file of the checkpoint that is shipped, made without PyTorch: what quantization begins with.

PyTorch of the default index brings gigabytes of CUDA, and is needed for any other checkpoint. This one is known by its
SHA-256, which the shipped model has in its metadata with filters, window and calibration; so only the network's graph
is written, by `export.plain_graph`. Tests compare it with the exporter's; here what was made is compared with the
shipped model, which was quantized from the same checkpoint.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from pathlib import Path

import onnx
import safetensors.numpy
import soundfile

from edge_runtime.atomic import whole_file
from edge_runtime.errors import ModelError, UsageError
from edge_runtime.model.frontend import FilterBank
from edge_runtime.model.network import SHIPPED, Network
from export.plain_graph import build

LARGEST_DIFFERENCE = 1.0
"""Of a window's log-likelihood ratio between the shipped model and its float file; some tenths are usual."""
_EXAMPLES = Path(__file__).resolve().parent.parent / "examples"


def is_shipped(checkpoint: str | Path) -> bool:
    """Whether it is the checkpoint that the shipped model was made from."""
    try:
        with Path(checkpoint).open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest() == Network.load(SHIPPED).contract.source_sha256
    except (OSError, ModelError):
        return False


def convert_shipped(checkpoint: str | Path, path: str | Path) -> float:
    """Writes the float file of the shipped checkpoint, and gives the largest difference to the shipped model, LLR.

    Raises UsageError for another checkpoint, ModelError when the two differ too much, OutputError when the file cannot
    be written.
    """
    if not is_shipped(checkpoint):
        raise UsageError(f"{checkpoint} is not the checkpoint of the shipped model: only that is made without PyTorch")
    data = Path(checkpoint).read_bytes()
    about = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])["__metadata__"]
    shipped = Network.load(SHIPPED)
    contract = replace(
        shipped.contract, level="fp32", target="portable", int8_bits=0, figures=json.loads(about["figures"])
    )
    made = build(safetensors.numpy.load(data), json.loads(about["config"])["encoder_heads"], contract)
    with whole_file(path) as temporary:
        onnx.save(made, temporary)
        difference = _difference(shipped, Network.load(temporary))
        if not difference <= LARGEST_DIFFERENCE:
            raise ModelError(f"what was made differs from the shipped model by {difference:.2f}: nothing was written")
    return difference


def _difference(one: Network, other: Network) -> float:
    """The largest difference of the log-likelihood ratio over the first windows of the example clips."""
    contract = one.contract
    found = []
    for clip in ("human", "synthetic"):
        samples, _ = soundfile.read(_EXAMPLES / f"{clip}.flac", dtype="float32", frames=contract.window_samples)
        features = FilterBank(contract.filters, contract.pool, contract.leading_zeros).push(samples)[None]
        found.append(abs(contract.llr(one.logits(features)) - contract.llr(other.logits(features))).max())
    return float(max(found))
