"""The commands of `python -m benchmarks`, one a file: each parses, calls and gives its report as text."""
