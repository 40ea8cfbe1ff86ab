"""Tests of the whole product: the real programs on real sound."""
