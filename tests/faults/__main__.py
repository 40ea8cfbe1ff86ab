"""`python -m tests.faults`: injects every fault into the real program with the shipped model, and prints the tables."""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from tests.faults import case, live
from tests.faults.cases import MODULES, cases_of, title_of

LIVE = "live"
BEGIN, END = "<!-- begin: python -m tests.faults -->\n", "<!-- end -->\n"
"""Between these two lines of a page the tables stand."""


def main(argv: Sequence[str] | None = None) -> int:
    """Prints one table a module, and last that of faults while listening."""
    command = argparse.ArgumentParser(prog="python -m tests.faults", description="Injects faults and prints tables.")
    command.add_argument("--only", choices=(*MODULES, LIVE), action="append", help="this table; repeatable")
    command.add_argument("--model", type=Path, help="of the faults while listening (default: the shipped one)")
    command.add_argument("-o", "--output", type=Path, help="a page whose tables are replaced")
    given = command.parse_args(argv)
    parts = []
    for module in given.only or (*MODULES, LIVE):
        if module == LIVE:
            parts.append("## While listening\n\n" + live.table(live.measure(list(live.FAULTS), given.model)))
            continue
        rows = []
        for one in cases_of(module):
            print(f"{one.what} ...", file=sys.stderr)
            with tempfile.TemporaryDirectory() as folder:
                rows.append((one, case.run(one, Path(folder))))
        parts.append(f"## {title_of(module)}\n\n{case.table(rows)}")
    text = "\n".join(parts)
    print(text)
    if given.output:
        before, _, rest = given.output.read_text().partition(BEGIN)
        given.output.write_text(before + BEGIN + text + END + rest.partition(END)[2])
    return 0


if __name__ == "__main__":
    sys.exit(main())
