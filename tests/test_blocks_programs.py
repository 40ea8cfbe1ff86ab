"""What programs say of a model that looks at blocks: hops that it has, work that it does, a trial beside another."""

from __future__ import annotations

from pathlib import Path

from benchmarks.pipelines import OurPipeline
from benchmarks.work import work
from quantization.calibration import read
from quantization.workshop import Workshop, write
from tests.blocky import BLOCK, RATE, Blocky

BLOCK_SECONDS = BLOCK / RATE


def test_weights_quantized_with_what_enters_them_count_as_integers(blocks: Blocky, tmp_path: Path) -> None:
    path = tmp_path / "small.onnx"
    write(Workshop(blocks.path, read(None), count=8).make("int8-static", "portable"), path)
    ours, theirs = (work(OurPipeline(file, 0.4, 1)) for file in (path, blocks.path))
    assert ours.float_products + ours.integer_products == theirs.float_products
    assert ours.integer_products > 5 * ours.float_products, "what is left are the products within attention"
