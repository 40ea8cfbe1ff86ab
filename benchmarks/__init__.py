"""What a model costs and what it finds."""

import edge_runtime  # noqa: F401  # first: it keeps ONNX Runtime from reporting its use
