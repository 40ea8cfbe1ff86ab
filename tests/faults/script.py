"""`python -m tests.faults.script PATH WORDS`: a program that is no module, as the image has them."""

from __future__ import annotations

import runpy
import sys

if __name__ == "__main__":
    del sys.argv[0]
    runpy.run_path(sys.argv[0], run_name="__main__")
