"""The command `edge-detect`: parses, calls, and turns every error into one line and an exit code."""
