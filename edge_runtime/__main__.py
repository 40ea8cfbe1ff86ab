"""`python -m edge_runtime` is `edge-detect`."""

import sys

from edge_runtime.app.cli import main

if __name__ == "__main__":
    sys.exit(main())
