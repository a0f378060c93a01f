"""The accepted history, and the comparison of a batch with it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path

import duckdb
import pyarrow as pa

from churn.contract import Column, Contract
from churn.errors import ChurnError
from churn.foundation.columnar.names import column_name, literal, quoted, row_key
from churn.foundation.columnar.panels import KIND, LABELLED_AT, ROW, utc_date


def unite_history(
    connection: duckdb.DuckDBPyConnection, latest: str | None, more: str | None, arrivals: pa.Table, contract: Contract
) -> list[str]:
    """Create the view `before`: the rows accepted so far, with `_arrived_at`, `_line`, and whether the label is final (`_final`).

    A label is final if it was said after the horizon had passed; without a horizon, always.

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
    panel = bool(latest) and KIND in available[0]
    rows = f"{latest} WHERE {KIND} = {ROW}" if panel else latest
    final = _is_final(contract, LABELLED_AT if panel else "_arrived_at"), _is_final(contract, "_arrived_at")
    parts = [f"SELECT {listed}, _arrived_at, 0 AS _line, {final[0]} AS _final FROM {rows}"] if latest else []  # noqa: S608 -- quoted names
    parts += (
        [f"SELECT {listed}, _arrived_at, _line, {final[1]} AS _final FROM {more} JOIN arrivals USING (_batch)"]  # noqa: S608
        if more
        else []
    )
    connection.execute(f"CREATE OR REPLACE TEMP VIEW before AS {' UNION ALL '.join(parts)}")
    return [column.name for column in columns]


def _is_final(contract: Contract, said_at: str) -> str:
    """The SQL of whether the label of a row was said after its horizon had passed."""
    if contract.horizon_days is None or contract.as_of is None:
        return "TRUE"
    end = f"{column_name(contract.as_of)} + {contract.horizon_days}"
    return f"coalesce({utc_date(said_at)} > {end} AND {column_name(contract.target)} IS NOT NULL, FALSE)"


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
        Number of customers with history; of those, the number whose label changes back from 1 to 0 or is another one than a final
        one, and the number whose value in a permanent column has changed. A missing value does not count as a change. In a panel,
        labels are compared row by row, and customers by their newest row.
    """
    if contract.as_of:
        return _count_panel_disputes(connection, rows, columns, contract, contract.as_of)
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


def _count_panel_disputes(
    connection: duckdb.DuckDBPyConnection,
    rows: Sequence[Path],
    columns: Sequence[str],
    contract: Contract,
    as_of: Column,
) -> tuple[int, int, int]:
    key, target, by = column_name(contract.key), column_name(contract.target), row_key(contract)
    permanent = [column for column in contract.permanent if column.name in columns]
    names = ", ".join([key, *(column_name(column) for column in permanent)])
    changed = " OR ".join(f"newest.{column_name(column)} <> known.{column_name(column)}" for column in permanent)
    other = f"known.{target} = 1 AND here.{target} = 0"
    if contract.horizon_days is not None or not contract.featured:
        other = f"({other}) OR (known._final AND known.{target} <> here.{target})"
    ((customers, relabelled, changed_customers),) = connection.execute(
        f"""
        WITH here AS (SELECT {by}, {target} FROM read_parquet($files)),
        known AS (
          SELECT {by}, {target}, _final FROM before WHERE {key} IN (SELECT {key} FROM here)
          QUALIFY row_number() OVER (PARTITION BY {by} ORDER BY _arrived_at DESC, _line DESC) = 1
        ),
        labels AS (SELECT count(*) FILTER ({other}) AS relabelled FROM here JOIN known USING ({by})),
        newest AS (
          SELECT {names} FROM read_parquet($files) QUALIFY row_number() OVER (PARTITION BY {key} ORDER BY {column_name(as_of)} DESC) = 1
        ),
        customers AS (
          SELECT {names} FROM before WHERE {key} IN (SELECT {key} FROM here)
          QUALIFY row_number() OVER (PARTITION BY {key} ORDER BY {_latest_first(contract)}) = 1
        ),
        compared AS (
          SELECT count(*) AS customers, count(*) FILTER ({changed or "FALSE"}) AS changed FROM newest JOIN customers AS known USING ({key})
        )
        SELECT customers, relabelled, changed FROM labels, compared
        """,  # noqa: S608 -- names come from the contract, quoted; values are parameters
        {"files": [str(file) for file in rows]},
    ).fetchall()
    return customers, relabelled, changed_customers


@dataclass(frozen=True)
class LeaversCount:
    """What a file of leavers would do to rows that are known.

    - `leavers`: its customers, and `unknown`, those without a row
    - `relabelled`: rows whose final label says that the customer stayed
    - `completed`: rows whose label becomes final because the file is complete through a date, and `events`, those with the event
    """

    leavers: int
    unknown: int
    relabelled: int
    completed: int
    events: int


def count_leavers(
    connection: duckdb.DuckDBPyConnection, rows: Sequence[Path], contract: Contract, event: str, through: date | None
) -> LeaversCount:
    """Compare a file of leavers with the rows in `before`.

    Args:
        connection: the engine, with the view `before`.
        rows: Parquet files of its good rows.
        contract: the data contract, with a horizon.
        event: the name of the column with the date of the event.
        through: the date through which it is complete; None if it is not said to be.
    """
    key, target, by = column_name(contract.key), column_name(contract.target), row_key(contract)
    as_of, days = column_name(contract.row_key[-1]), contract.horizon_days
    ((leavers, unknown),) = connection.execute(
        f"""
        SELECT count(DISTINCT {key}), count(DISTINCT {key}) FILTER ({key} NOT IN (SELECT {key} FROM before)) FROM read_parquet($files)
        """,  # noqa: S608 -- names come from the contract, quoted; values are parameters
        {"files": [str(file) for file in rows]},
    ).fetchall()
    ((relabelled, completed, events),) = connection.execute(
        f"""
        WITH known AS (
          SELECT {by}, {target}, _final FROM before
          QUALIFY row_number() OVER (PARTITION BY {by} ORDER BY _arrived_at DESC, _line DESC) = 1
        ),
        left_ AS (
          SELECT {by}, {target}, _final, EXISTS (
            SELECT 1 FROM read_parquet($files) AS file
            WHERE file.{key} = known.{key} AND file.{quoted(event)} > {as_of} AND file.{quoted(event)} <= {as_of} + {days}
          ) AS _left FROM known
        )
        SELECT count(*) FILTER (_final AND {target} = 0 AND _left),
          count(*) FILTER (NOT _final AND {as_of} + {days} <= $through),
          count(*) FILTER (NOT _final AND {as_of} + {days} <= $through AND (_left OR {target} = 1))
        FROM left_
        """,  # noqa: S608 -- names come from the contract, quoted; values are parameters
        {"files": [str(file) for file in rows], "through": through or date.min},
    ).fetchall()
    return LeaversCount(leavers, unknown, relabelled, completed, events)


def count_final_labels(connection: duckdb.DuckDBPyConnection, contract: Contract) -> tuple[int, int]:
    """The rows in `before` with a final label, and those of them with the event."""
    ((rows, events),) = connection.execute(
        f"SELECT count(*), count(*) FILTER ({column_name(contract.target)} = 1) FROM before WHERE _final"  # noqa: S608 -- a quoted name
    ).fetchall()
    return rows, events


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
