"""What a model costs and what it finds."""

from benchmarks.extras import demand

demand("bench", "tqdm")
