"""Current customers are those whose latest row has no event, in the order of the snapshot."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from churn.contract import Column, Contract, Kind, Role
from churn.foundation import columnar
from churn.foundation.columnar.current_rows import TRAINED, write_current_rows

SMALL = Contract(
    "small",
    (
        Column("Id", Kind.TEXT, Role.KEY),
        Column("Age", Kind.INTEGER, Role.FEATURE, 18, 99, at_most="Left"),
        Column("Left", Kind.INTEGER, Role.TARGET, 0, 1),
    ),
)


def test_who_has_left_is_left_out_and_who_was_trained_on_is_marked(tmp_path: Path) -> None:
    """Only customers of training buckets, and only those that the snapshot of the training has."""
    rows = pa.table(
        {
            "Id": ["a", "b", "c", "d"],
            "Age": [20, 30, 40, 50],
            "Left": [0, 1, 0, 0],
            "_bucket": [30, 30, 3, 99],
            "_customer": pa.array([1, 2, 3, 4], pa.uint64()),
        }
    )
    pq.write_table(rows, tmp_path / "now.parquet")
    pq.write_table(rows.slice(0, 3), tmp_path / "then.parquet")
    target = tmp_path / "current.parquet"
    with columnar.engine("200MB") as connection:
        write_current_rows(
            connection, tmp_path / "now.parquet", [tmp_path / "then.parquet"], SMALL, range(25, 100), target
        )
    table = pq.read_table(target)
    assert table.column_names == ["Id", "Age", TRAINED]
    assert table["Id"].to_pylist() == ["a", "c", "d"]
    assert table[TRAINED].to_pylist() == [True, False, False]


def test_the_contract_of_current_customers_has_no_target() -> None:
    """What refers to the target goes with it."""
    current = SMALL.without_target()
    assert current.names == ("Id", "Age")
    assert current.relations == ()
    assert not current.labelled
    assert replace(current, name="other").labelled is False


def test_the_first_row_of_each_value(tmp_path: Path) -> None:
    """The values that come first, a missing one among them."""
    pq.write_table(pa.table({"t": ["b", "a", None, "b", "c"]}), tmp_path / "t.parquet")
    with columnar.engine("200MB") as connection:
        assert columnar.first_rows_of_values(connection, tmp_path / "t.parquet", "t", 3) == [
            ("b", 0),
            ("a", 1),
            (None, 2),
        ]
