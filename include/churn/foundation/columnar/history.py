"""The accepted history, and the comparison of a batch with it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import duckdb
import pyarrow as pa

from churn.contract import Contract
from churn.errors import ChurnError
from churn.foundation.columnar.names import column_name, literal, quoted


def unite_history(
    connection: duckdb.DuckDBPyConnection, latest: str | None, more: str | None, arrivals: pa.Table, contract: Contract
) -> list[str]:
    """Create the view `before`: the rows accepted so far, with `_arrived_at` and `_line`.

    Args:
        connection: the engine.
        latest: view of a snapshot, or None.
        more: view of accepted batches that the snapshot does not contain, or None.
        arrivals: `_batch` and `_arrived_at` of those batches.
        contract: the data contract.

    Returns:
        The columns of the contract that all of these rows have; an earlier contract may have lacked some of them.

    Raises:
        ChurnError: they do not even have its key and its target, so they were accepted under another contract.
    """
    views = [view for view in (latest, more) if view]
    available = [set(connection.view(view).columns) for view in views]
    columns = [column for column in contract.columns if all(column.name in names for names in available)]
    foreign = [column.name for column in (contract.key, contract.target) if column not in columns]
    if foreign:
        raise ChurnError(
            f"The accepted rows have no column {' and no column '.join(foreign)}, so they were accepted under another contract than {contract.name}. "
            "Nothing was changed. Correct CHURN_CONTRACT, or give this contract its own CHURN_LEDGER_URL, CHURN_DATA_ROOT and CHURN_MODEL_NAME."
        )
    listed = ", ".join(column_name(column) for column in columns)
    connection.register("arrivals", arrivals)
    parts = [f"SELECT {listed}, _arrived_at, 0 AS _line FROM {latest}"] if latest else []  # noqa: S608 -- quoted names
    parts += [f"SELECT {listed}, _arrived_at, _line FROM {more} JOIN arrivals USING (_batch)"] if more else []  # noqa: S608
    connection.execute(f"CREATE OR REPLACE TEMP VIEW before AS {' UNION ALL '.join(parts)}")
    return [column.name for column in columns]


def count_disputes(
    connection: duckdb.DuckDBPyConnection, rows: Sequence[Path], columns: Sequence[str], contract: Contract
) -> tuple[int, int, int]:
    """Compare a batch with the latest rows of the same customers in `before`.

    Args:
        connection: the engine, with the view `before`.
        rows: Parquet files of good rows.
        columns: the columns of `before`.
        contract: the data contract.

    Returns:
        Number of customers with history; of those, the number whose label changes back from 1 to 0, and the
        number whose value in a permanent column has changed. A missing value does not count as a change.
    """
    key, target = column_name(contract.key), column_name(contract.target)
    permanent = [column for column in contract.permanent if column.name in columns]
    names = ", ".join([key, target, *(column_name(column) for column in permanent)])
    changed = " OR ".join(f"here.{column_name(column)} <> known.{column_name(column)}" for column in permanent)
    counts = connection.execute(
        f"""
        WITH here AS (SELECT {names} FROM read_parquet($files)),
        known AS (
          SELECT {names} FROM before WHERE {key} IN (SELECT {key} FROM here)
          QUALIFY row_number() OVER (PARTITION BY {key} ORDER BY {_latest_first(contract)}) = 1
        )
        SELECT count(*), count(*) FILTER (known.{target} = 1 AND here.{target} = 0), count(*) FILTER ({changed or "FALSE"})
        FROM here JOIN known USING ({key})
        """,  # noqa: S608 -- names come from the contract, quoted; values are parameters
        {"files": [str(file) for file in rows]},
    ).fetchall()
    ((with_history, reversed_labels, changed_customers),) = counts
    return with_history, reversed_labels, changed_customers


def sample_rows(
    connection: duckdb.DuckDBPyConnection,
    source: Sequence[Path] | str,
    columns: Sequence[str],
    contract: Contract,
    rows: int,
) -> pa.Table:
    """Return about this number of rows of some files or of a view; a hash of the customer selects them, always the same ones."""
    relation = (
        source if isinstance(source, str) else f"read_parquet([{', '.join(literal(str(file)) for file in source)}])"
    )
    ((total,),) = connection.execute(f"SELECT count(*) FROM {relation}").fetchall()  # noqa: S608 -- a quoted path or our view
    every = max(1, total // rows)
    listed = ", ".join(quoted(column) for column in columns)
    return connection.sql(
        f"SELECT {listed} FROM {relation} WHERE hash({column_name(contract.key)}) % $every = 0",  # noqa: S608 -- quoted names
        params={"every": every},
    ).to_arrow_table()


def _latest_first(contract: Contract) -> str:
    as_of = [f"{column_name(contract.as_of)} DESC"] if contract.as_of else []
    return ", ".join([*as_of, "_arrived_at DESC", "_line DESC"])
