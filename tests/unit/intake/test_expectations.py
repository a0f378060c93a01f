"""The suite covers every rule of the contract, and says which of its expectations frames cannot judge."""

import pytest

from churn.intake.expectations import RULES, find_indivisible, row_expectations
from support.small_tables import SMALL


def test_every_rule_of_a_contract_has_an_expectation() -> None:
    """A rule without one would not be checked a second time."""
    covered = {rule for expectation in row_expectations(SMALL) for rule in (expectation.meta or {}).get(RULES, [])}
    assert covered == set(SMALL.rules)


def test_the_suite_of_a_contract_can_be_judged_by_frames() -> None:
    """Its verdict on the whole follows from those on frames."""
    assert find_indivisible(row_expectations(SMALL)) == []


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        ("ExpectColumnMeanToBeBetween", {"column": "age", "min_value": 0}),
        ("ExpectTableRowCountToEqual", {"value": 3}),
        ("ExpectColumnValuesToNotBeNull", {"column": "age", "mostly": 0.9}),
    ],
)
def test_what_frames_cannot_judge_is_named(kind: str, options: dict[str, object]) -> None:
    """Aggregates, comparisons of rows, and shares of rows."""
    import great_expectations.expectations as gxe

    (named,) = find_indivisible([*row_expectations(SMALL), getattr(gxe, kind)(**options)])
    assert named.replace("_", "") == kind.lower()
