"""Of two rows of a customer, the one that counts is chosen by the as-of column, then by the arrival of its batch."""

from __future__ import annotations

from datetime import date

import numpy as np
import pyarrow as pa
import pytest

from churn.contract import Column, Contract, Kind, Role
from churn.learning.snapshot_merging import BaseFault, FreshRows, merge_rows

COLUMNS = (
    Column("key", Kind.TEXT, Role.KEY),
    Column("age", Kind.INTEGER, Role.FEATURE, nullable=True),
    Column("left", Kind.INTEGER, Role.TARGET, 0, 1),
)
BY_ARRIVAL = Contract("by arrival", COLUMNS)
BY_DATE = Contract("by date", (*COLUMNS, Column("as_of", Kind.DATE, Role.AS_OF)))
BATCHES = np.array([70, 50, 90])
"""The numbers of the batches in the order of arrival."""


def table(*rows: tuple[str, int, int], rank: bool = False) -> pa.Table:
    """Rows of a key, the day of January and the place of the batch."""
    keys, days, places = zip(*rows, strict=True)
    columns = {
        "key": list(keys),
        "left": [0] * len(rows),
        "as_of": [date(2026, 1, day) for day in days],
        "_batch": pa.array(BATCHES[list(places)]),
    }
    return pa.table(columns | ({"_rank": list(places)} if rank else {}))


def merged(contract: Contract, base: list[pa.Table], fresh: list[pa.Table]) -> list[tuple[str, int]]:
    rows = pa.concat_tables(merge_rows(iter(base), FreshRows(iter(fresh), contract), contract, BATCHES))
    return list(zip(rows["key"].to_pylist(), rows["_batch"].to_pylist(), strict=True))


def test_the_batch_that_arrived_later_wins_wherever_it_comes_from() -> None:
    """A late file lies before the rows of the base; new customers are inserted at their place, before, between and behind."""
    base = [table(("b", 1, 0), ("d", 1, 2)), table(("f", 1, 0))]
    fresh = [table(("a", 1, 1), ("b", 1, 1), rank=True), table(("c", 1, 1), ("d", 1, 1), ("z", 1, 1), rank=True)]
    assert merged(BY_ARRIVAL, base, fresh) == [("a", 50), ("b", 50), ("c", 50), ("d", 90), ("f", 70), ("z", 50)]


def test_the_as_of_column_comes_first() -> None:
    """An older date of a later batch changes nothing; of equal dates, the later batch counts."""
    base = [table(("a", 5, 1), ("b", 5, 1), ("c", 5, 1))]
    fresh = [table(("a", 4, 2), ("b", 5, 2), ("c", 6, 0), rank=True)]
    assert merged(BY_DATE, base, fresh) == [("a", 50), ("b", 90), ("c", 70)]


def test_texts_are_ordered_by_their_bytes() -> None:
    """As DuckDB orders them: capital letters first, then small ones, then letters with accents."""
    base = [table(("B", 1, 0), ("b", 1, 0), ("é", 1, 0))]
    assert [key for key, _ in merged(BY_ARRIVAL, base, [table(("Z", 1, 1), ("z", 1, 1), rank=True)])] == [
        "B",
        "Z",
        "b",
        "z",
        "é",
    ]


def test_a_base_with_rows_of_another_batch_is_refused() -> None:
    base = table(("a", 1, 0)).set_column(3, "_batch", pa.array([1]))
    with pytest.raises(BaseFault, match="batches that it should not contain"):
        merged(BY_ARRIVAL, [base], [table(("a", 1, 1), rank=True)])
