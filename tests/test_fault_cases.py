"""Every case of the table of faults: the exit code and the line it promises, in bounded memory, and no traceback."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.faults.case import Case, run
from tests.faults.cases import MODULES, cases_of

CASES = [pytest.param(case, id=f"{module}: {case.what}") for module in MODULES for case in cases_of(module)]


@pytest.mark.parametrize("case", CASES)
def test_the_user_sees_what_the_table_says(case: Case, tmp_path: Path) -> None:
    outcome = run(case, tmp_path)
    print(outcome)
    assert "Traceback" not in outcome.errors
    assert outcome.code == case.code
    assert case.shows in outcome.shown
    assert outcome.megabytes <= case.most_megabytes


def test_no_two_cases_have_one_name() -> None:
    names = [case.id for case in CASES]
    assert len(names) == len(set(names))
    assert not any(re.search(r"[|\n]", str(name)) for name in names)
