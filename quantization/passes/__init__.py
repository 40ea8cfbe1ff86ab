"""Rewrites of an ONNX graph: each takes a kind of node in float and puts integer arithmetic in its place."""
