"""Odd addresses of the review and odd confs of the trigger forms end in a page, a result or a plain error."""

from __future__ import annotations

import pytest

from support.fuzzing.cases import assert_no_defect
from support.fuzzing.targets import find_target

CASES = {"review": 140, "conf": 100}


@pytest.mark.parametrize("name", CASES)
def test_odd_input_ends_in_a_result_or_a_plain_error(airflow_database: None, name: str) -> None:
    """Cases of a fixed seed, and all that were kept because they once did not."""
    assert_no_defect(find_target(name), CASES[name])
