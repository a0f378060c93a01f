"""Results of frames are combined into the one that Great Expectations gives for the whole."""

import pickle
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from churn.intake import suites
from churn.intake.suites import DataDocs, Suite, merge_results, run_suite

VALUES = [1, 2, None, 40, 5, None, 70, 8, 90]


@pytest.fixture
def suite(tmp_path: Path) -> Suite:
    import great_expectations.expectations as gxe

    return DataDocs(tmp_path).add_suite(
        "rows",
        [
            gxe.ExpectColumnValuesToNotBeNull(column="x"),
            gxe.ExpectColumnValuesToBeBetween(column="x", min_value=0, max_value=50),
            gxe.ExpectColumnValuesToBeUnique(column="x"),
        ],
    )


def run(suite: Suite, values: list[Any]) -> Any:
    return run_suite(suite, pd.DataFrame({"x": pd.array(values, dtype="Int64")}))


def counts(result: Any) -> list[tuple[bool, dict[str, int]]]:
    return [
        (of.success, {name: value for name, value in of.result.items() if name.endswith("_count")})
        for of in result.results
    ]


def test_counts_are_those_of_the_whole(suite: Suite, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where results have counts, they are added up; values of rows are left out."""
    monkeypatch.setattr(suites, "_FORMAT", "BASIC")
    whole = run(suite, VALUES)
    merged = merge_results(suite, [run(suite, VALUES[at : at + 2]) for at in range(0, len(VALUES), 2)], {})
    assert counts(merged) == counts(whole)
    assert counts(whole)[0] == (False, {"element_count": 9, "unexpected_count": 2})
    assert counts(whole)[1][1]["missing_count"] == 2
    assert not any("partial_unexpected_list" in of.result for of in merged.results)
    assert (merged.success, merged.statistics) == (whole.success, whole.statistics)


def test_results_can_be_sent_between_processes(suite: Suite) -> None:
    """A suite and its results are small and keep their ids on the way, and nothing in them is a row."""
    sent = pickle.loads(pickle.dumps(suite))  # noqa: S301
    result = pickle.loads(pickle.dumps(run(sent, list(range(10_000)))))  # noqa: S301
    assert {of.expectation_config.id for of in result.results} == {of.id for of in suite.configurations}
    assert len(pickle.dumps(result)) < 20_000


def test_what_was_judged_again_replaces_the_results_of_frames(suite: Suite) -> None:
    """Uniqueness holds in each frame; that it fails across them is what counts."""
    (unique,) = suite.of_type("expect_column_values_to_be_unique")
    frames = [run(suite, [1, 2]), run(suite, [2, 3])]
    again = run(unique, [2, 2])
    assert [of.success for of in merge_results(suite, frames, {}).results] == [True, True, True]
    merged = merge_results(suite, frames, {unique.configurations[0].id: [run(unique, [1, 3]), again]})
    assert [of.success for of in merged.results] == [True, True, False]
    assert len(merge_results(suite, frames, {unique.configurations[0].id: []}).results) == 2
