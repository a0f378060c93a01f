"""The same rows are always the same bytes and the same hash, however they come."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from churn.contract import Column, Contract, Kind, Role
from churn.learning import snapshot_writing
from churn.learning.snapshot_writing import snapshot_schema, write_rows

CONTRACT = Contract(
    "small",
    (
        Column("key", Kind.INTEGER, Role.KEY),
        Column("city", Kind.TEXT, Role.FEATURE, nullable=True, max_levels=5),
        Column("left", Kind.INTEGER, Role.TARGET, 0, 1),
    ),
)


def rows(count: int) -> pa.Table:
    columns = [
        np.arange(count),
        pa.array([None if number % 3 == 0 else f"city {number % 5}" for number in range(count)]),
        np.arange(count) % 2,
        (np.arange(count) % 5).astype(np.int32),
        np.arange(count).astype(np.uint64),
        pa.array([datetime(2026, 1, 1, tzinfo=UTC)] * count, pa.timestamp("us", "UTC")),
        np.full(count, 7),
    ]
    return pa.table(columns, schema=snapshot_schema(CONTRACT))


@pytest.mark.parametrize("size", [1, 7, 10, 100])
def test_rows_in_any_pieces_are_the_same_bytes(size: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(snapshot_writing, "GROUP_ROWS", 10)
    whole = rows(25)
    at_once = write_rows(iter([whole]), CONTRACT, tmp_path / "whole.parquet")
    pieces = (whole.slice(start, size) for start in range(0, 25, size))
    again = write_rows(pieces, CONTRACT, tmp_path / "pieces.parquet")
    assert (again.written.sha256, again.written.content) == (at_once.written.sha256, at_once.written.content)
    assert pq.read_metadata(tmp_path / "pieces.parquet").num_row_groups == 3
    assert pq.read_table(tmp_path / "pieces.parquet").equals(whole)
    assert again.sizes[:5] == [5] * 5
    assert again.missing == {"key": 0, "city": 9, "left": 0}


def test_the_content_hash_is_that_of_the_contract_and_the_bucket(tmp_path: Path) -> None:
    """A changed value changes it; the batch that a row came from does not."""
    whole = rows(25)
    first = write_rows(iter([whole]), CONTRACT, tmp_path / "a.parquet").written
    moved = whole.set_column(6, "_batch", pa.array(np.full(25, 8)))
    assert write_rows(iter([moved]), CONTRACT, tmp_path / "b.parquet").written.content == first.content
    changed = whole.set_column(2, "left", pa.array(np.ones(25, np.int64)))
    assert write_rows(iter([changed]), CONTRACT, tmp_path / "c.parquet").written.content != first.content
