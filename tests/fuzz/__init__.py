"""Bounded fuzzers: mutated files, models and settings against the code that reads them."""
