"""The rows of current customers: those whose latest row has no event, those of some buckets, and the first of each value of a text."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import duckdb
import pyarrow.parquet as pq

from churn.contract import Contract
from churn.foundation.columnar.names import column_name, column_names, quoted
from churn.foundation.columnar.panels import KIND, ROW

TRAINED = "_trained"
"""The column that marks customers whose rows the version may have been trained on."""


def write_current_rows(
    connection: duckdb.DuckDBPyConnection,
    part: Path,
    trained: Sequence[Path],
    contract: Contract,
    training: range,
    target: Path,
) -> None:
    """Write the current customers of a part of a snapshot, in its order, and mark those that a training may have seen.

    Of a panel, the newest row of each customer counts, whether or not it waits for its label.

    Args:
        connection: the engine.
        part: Parquet file of the snapshot.
        trained: files of the snapshot that the version was trained on, with all customers of the part.
        contract: the data contract.
        training: the buckets that versions are trained on.
        target: Parquet file with the columns of the contract without its target, and `_trained`.
    """
    rows = column_names(contract.without_target())
    lines, current = "read_parquet($part, file_row_number = true)", f"{column_name(contract.target)} = 0"
    if contract.as_of and KIND in pq.read_schema(part).names:
        newest = f"row_number() OVER (PARTITION BY {column_name(contract.key)} ORDER BY {column_name(contract.as_of)} DESC) = 1"
        lines = f"(SELECT * FROM {lines} WHERE {KIND} = {ROW} QUALIFY {newest})"  # noqa: S608 -- names come from the contract, quoted
        current = f"coalesce({column_name(contract.target)}, 0) = 0"
    connection.execute(
        f"""
        COPY (
          SELECT {rows}, _bucket BETWEEN $first AND $last AND _customer IN (SELECT _customer FROM read_parquet($trained)) AS {TRAINED}
          FROM {lines} WHERE {current} ORDER BY file_row_number
        ) TO $target (FORMAT parquet)
        """,  # noqa: S608 -- names come from the contract, quoted; values are parameters
        {
            "first": training[0],
            "last": training[-1],
            "trained": [str(file) for file in trained],
            "part": str(part),
            "target": str(target),
        },
    )


def select_buckets(connection: duckdb.DuckDBPyConnection, view: str, snapshot: str, buckets: range) -> None:
    """Create a view of the customers of some buckets, without gaps, in the view of a snapshot."""
    connection.execute(
        f"CREATE OR REPLACE TEMP VIEW {view} AS SELECT * FROM {snapshot} WHERE _bucket BETWEEN {buckets[0]} AND {buckets[-1]}"  # noqa: S608 -- our own names
    )


def first_rows_of_values(
    connection: duckdb.DuckDBPyConnection, file: Path, column: str, most: int
) -> list[tuple[str | None, int]]:
    """The values of a text column of a Parquet file, each with its first row, from 0; at most a given number of them.

    Args:
        connection: the engine.
        file: the file.
        column: its name.
        most: the number of values; those that come first are returned.
    """
    rows: list[tuple[str | None, int]] = connection.execute(
        f"""
        SELECT {quoted(column)} AS _value, min(file_row_number) AS _first FROM read_parquet($file, file_row_number = true)
        GROUP BY _value ORDER BY _first LIMIT $most
        """,  # noqa: S608 -- a quoted name; values are parameters
        {"file": str(file), "most": most},
    ).fetchall()
    return rows
