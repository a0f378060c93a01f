"""The SQL of repeats, rules and shared customers, on a few rows each."""

from __future__ import annotations

from pathlib import Path

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq

from churn.contract import CONFLICT, DUPLICATE, Column, Contract, Kind, Role
from churn.foundation.columnar import count_shared_customers, resolve_repeats, rows_of_keys
from churn.foundation.columnar.names import literal, quoted

CONTRACT = Contract(
    "small",
    (
        Column("row", Kind.INTEGER, Role.POSITION),
        Column('the "key"', Kind.INTEGER, Role.KEY),
        Column("left", Kind.INTEGER, Role.TARGET, 0, 1),
        Column("age", Kind.NUMBER, Role.FEATURE),
    ),
)


def write(folder: Path, name: str, **columns: list[object]) -> Path:
    pq.write_table(pa.table(columns), folder / name)
    return folder / name


def test_of_repeated_customers_the_first_equal_row_is_kept(tmp_path: Path) -> None:
    """Equal rows are duplicates but the first; different rows all conflict; the position in the file does not matter."""
    connection = duckdb.connect()
    columns = {
        "_line": [1, 2, 3, 4, 5],
        "row": [1, 2, 3, 4, 5],
        "left": [0, 0, 0, 1, 0],
        "age": [1.0, 1.0, 2.0, 2.0, 3.0],
    }
    rows = pa.table(columns | {'the "key"': [7, 7, 8, 8, 9]})
    hashes = connection.execute("SELECT hash(k) FROM (VALUES (7::BIGINT), (8::BIGINT)) AS repeated(k)").fetchall()
    keys = write(tmp_path, "keys.parquet", _key=pa.array([key for (key,) in hashes], pa.uint64()))
    candidates = pa.Table.from_batches(rows_of_keys(connection, rows, [keys], CONTRACT))
    assert sorted(candidates["_line"].to_pylist()) == [1, 2, 3, 4]
    lines = resolve_repeats(connection, candidates, CONTRACT)
    assert [tuple(row.values()) for row in lines.to_pylist()] == [
        (2, DUPLICATE),
        (3, CONFLICT),
        (4, CONFLICT),
    ]


def test_shared_customers_are_counted_within_their_buckets() -> None:
    """A customer counts if the holdout has it unseen and the training had it in a training bucket."""
    connection = duckdb.connect()
    connection.execute(
        'CREATE VIEW trained AS SELECT * FROM (VALUES (1, 50), (2, 50), (3, 10)) AS t("the ""key""", _bucket)'
    )
    connection.execute(
        'CREATE VIEW holdout AS SELECT * FROM (VALUES (1, 5), (2, 30), (3, 5)) AS t("the ""key""", _bucket)'
    )
    assert count_shared_customers(connection, "trained", "holdout", CONTRACT.key, range(25, 100), range(20)) == 1


def test_names_and_constants_are_quoted() -> None:
    """Whatever characters they have."""
    name, value = 'a"b; --', "it's"
    query = f"SELECT {quoted(name)} FROM (SELECT {literal(value)} AS {quoted(name)})"  # noqa: S608 -- what is tested
    assert duckdb.connect().execute(query).fetchall() == [(value,)]
