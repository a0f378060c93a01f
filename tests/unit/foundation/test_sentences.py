"""Messages that several packages show."""

from __future__ import annotations

import pytest

from churn.foundation.wording import cause_of_rejection, rejection


@pytest.mark.parametrize(
    "kept",
    [
        "Its 1,500 rows are in quarantine/ab.parquet. Report: file:///my data/docs/ab/index.html",
        "Its 1500 rows are in quarantine/ab.parquet. Report: s3://bucket/docs/ab/index.html",
        "It is kept as originals/ab. Report: file:///data/docs/ab/index.html",
    ],
)
def test_the_cause_of_a_rejection_names_no_path(kept: str) -> None:
    """A page of the batch links to its rows and its report."""
    message = rejection("ab", "a.csv", f"No row can be accepted. {kept}")
    assert cause_of_rejection(message) == "No row can be accepted."
