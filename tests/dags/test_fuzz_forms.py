"""Odd addresses of the review and odd confs of the trigger forms end in a page, a result or a plain error."""

from __future__ import annotations

import pytest

from support.basics import ROOT
from support.fuzzing.cases import answer_to, kept_cases, run_cases
from support.fuzzing.targets import find_target

KEPT = ROOT / "tests/fixtures/fuzz"
CASES = {"review": 140, "conf": 100}


@pytest.mark.parametrize("name", CASES)
def test_odd_input_ends_in_a_result_or_a_plain_error(airflow_database: None, name: str) -> None:
    """Cases of a fixed seed, and all that were kept because they once did not."""
    target = find_target(name)
    with target.open():
        for file in kept_cases(KEPT, name):
            _, fault = answer_to(target, file.read_bytes())
            assert fault is None, f"{file.name}: {fault}"
        tally = run_cases(target, 1, range(CASES[name]))
    assert [(finding.number, finding.kind, finding.reason) for finding in tally.findings] == []
    assert tally.cases == CASES[name]
    assert len(tally.outcomes) > 1
