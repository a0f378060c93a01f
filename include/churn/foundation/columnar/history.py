"""The accepted history, and the comparison of a batch with it."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import astuple, dataclass
from datetime import date
from pathlib import Path

import duckdb
import pyarrow as pa

from churn.contract import Column, Contract
from churn.errors import ChurnError
from churn.foundation.columnar.names import column_name, literal, quoted, row_key
from churn.foundation.columnar.panels import EVENT, KIND, LABEL, LABEL_BATCH, LABELLED_AT, ROW, is_early, utc_date


@dataclass(frozen=True)
class Statements:
    """What is known of labels besides the rows and the snapshot.

    - `labels`: view of files of labels that the snapshot does not contain, or None
    - `leavers`: view of files of leavers that it does not contain, or None
    - `event`: the name of the leavers' column with the date of the event
    - `batches`: the numbers of all batches of leavers
    - `periods`: those of which every event is known, first and last day
    """

    labels: str | None = None
    leavers: str | None = None
    event: str = ""
    batches: tuple[int, ...] = ()
    periods: tuple[tuple[date, date], ...] = ()


def require_own_rows(names: Collection[str], contract: Contract) -> None:
    """Require the key and the target of the contract among the names of the columns of accepted rows.

    Raises:
        ChurnError: the rows lack them, so they were accepted under another contract.
    """
    foreign = [column.name for column in (contract.key, contract.target) if column.name not in names]
    if foreign:
        raise ChurnError(
            f"The accepted rows have no column {' and no column '.join(foreign)}, so they were accepted under another contract than {contract.name}. "
            "Nothing was changed. Correct CHURN_CONTRACT, or give this contract its own CHURN_LEDGER_URL, CHURN_DATA_ROOT and CHURN_MODEL_NAME."
        )


def unite_history(
    connection: duckdb.DuckDBPyConnection,
    latest: str | None,
    more: str | None,
    arrivals: pa.Table,
    contract: Contract,
    stated: Statements | None = None,
) -> list[str]:
    """Create the view `before`: the rows accepted so far, with `_arrived_at`, `_line`, and whether the label is final (`_final`).

    A label is final if rows or labels said it after the horizon had passed, or if every event of the horizon is known; a row that then has
    no label has stayed. That a file of leavers has the customer does not make it final: those who stayed are not in it. Without a horizon, a label is always final.

    Args:
        connection: the engine.
        latest: view of a snapshot, or None.
        more: view of accepted batches that the snapshot does not contain, or None.
        arrivals: `_batch` and `_arrived_at` of those batches, and of those of labels and of leavers.
        contract: the data contract.
        stated: what files of labels and of leavers say.

    Returns:
        The columns of the contract that all of these rows have; an earlier contract may have lacked some of them.

    Raises:
        ChurnError: they do not even have its key and its target, so they were accepted under another contract.
    """
    views = [view for view in (latest, more) if view]
    available = [set(connection.view(view).columns) for view in views]
    columns = [column for column in contract.columns if all(column.name in names for names in available)]
    require_own_rows([column.name for column in columns], contract)
    listed = ", ".join(column_name(column) for column in columns)
    connection.register("arrivals", arrivals)
    panel = bool(latest) and KIND in available[0]
    said = f"CASE WHEN {column_name(contract.target)} IS NOT NULL THEN _arrived_at END AS _said_at"
    parts = []
    if latest:
        events = ", ".join(map(str, stated.batches)) if stated and stated.batches else ""
        told = (
            f"CASE WHEN {f'{LABEL_BATCH} NOT IN ({events})' if events else 'TRUE'} THEN {LABELLED_AT} END AS _said_at"
        )
        known, only = (told, f"WHERE {KIND} = {ROW}") if panel else (said, "")
        parts.append(f"SELECT {listed}, _arrived_at, 0 AS _line, {known} FROM {latest} {only}")  # noqa: S608 -- quoted names
    if more:
        parts.append(f"SELECT {listed}, _arrived_at, _line, {said} FROM {more} JOIN arrivals USING (_batch)")  # noqa: S608
    rows = " UNION ALL ".join(parts)
    if contract.horizon_days is None or contract.as_of is None:
        rows = f"SELECT * EXCLUDE (_said_at), TRUE AS _final FROM ({rows})"  # noqa: S608
    else:
        rows = _label_rows(rows, latest if panel and more else None, contract, stated or Statements())
    connection.execute(f"CREATE OR REPLACE TEMP VIEW before AS {rows}")
    return [column.name for column in columns]


def _label_rows(rows: str, panel: str | None, contract: Contract, stated: Statements) -> str:
    """The SQL of rows with the labels that other files say: the latest word counts, and an event in the horizon is one."""
    key, target, by, as_of = (
        column_name(contract.key),
        column_name(contract.target),
        row_key(contract),
        column_name(contract.row_key[-1]),
    )
    labels = [f"SELECT {by}, {target}, _arrived_at FROM {stated.labels} JOIN arrivals USING (_batch)"] * bool(  # noqa: S608 -- quoted names
        stated.labels
    )
    events = [
        f"SELECT {key}, {quoted(stated.event)} AS _event, _arrived_at FROM {stated.leavers} JOIN arrivals USING (_batch)"  # noqa: S608
    ] * bool(stated.leavers)
    if panel:  # what it knows of rows that had not arrived yet
        labels.append(f"SELECT {by}, {target}, {LABELLED_AT} AS _arrived_at FROM {panel} WHERE {KIND} = {LABEL}")  # noqa: S608
        events.append(f"SELECT {key}, {as_of} AS _event, _arrived_at FROM {panel} WHERE {KIND} = {EVENT}")  # noqa: S608
    latest_label = (
        f"SELECT {by}, arg_max({target}, _arrived_at) AS _told, max(_arrived_at) AS _told_at FROM ({' UNION ALL '.join(labels)}) GROUP BY {by}"  # noqa: S608
        if labels
        else f"SELECT {by}, {target} AS _told, _said_at AS _told_at FROM rows WHERE FALSE"  # noqa: S608
    )
    latest_event = (
        f"""
        SELECT {", ".join(f"rows.{column_name(column)}" for column in contract.row_key)}, max(events._arrived_at) AS _left_at
        FROM (SELECT DISTINCT {by} FROM rows) AS rows JOIN ({" UNION ALL ".join(events)}) AS events USING ({key})
        WHERE _event > {as_of} AND _event <= {as_of} + {contract.horizon_days} GROUP BY ALL
        """  # noqa: S608
        if events
        else f"SELECT {by}, _said_at AS _left_at FROM rows WHERE FALSE"  # noqa: S608
    )
    never = "TIMESTAMPTZ '0001-01-01 00:00:00+00'"
    said = f"CASE WHEN _told_at > coalesce(_said_at, {never}) THEN _told ELSE {target} END"
    said_at = f"greatest(coalesce(_said_at, {never}), coalesce(_told_at, {never}))"
    early = is_early(said, said_at, as_of, contract.horizon_days or 0)
    label = f"CASE WHEN _left_at IS NOT NULL AND (_left_at > {said_at} OR {early}) THEN 1 ELSE {said} END"
    complete = _is_complete(contract, stated.periods)
    final = f"coalesce({utc_date('_said_at')} > {as_of} + {contract.horizon_days} AND {target} IS NOT NULL, FALSE)"
    return f"""
        WITH rows AS ({rows}),
        labelled AS (
          SELECT rows.* REPLACE ({label} AS {target}, greatest(_said_at, _told_at) AS _said_at)
          FROM rows LEFT JOIN ({latest_label}) USING ({by}) LEFT JOIN ({latest_event}) USING ({by})
        )
        SELECT * EXCLUDE (_said_at) REPLACE (CASE WHEN {complete} THEN coalesce({target}, 0) ELSE {target} END AS {target}),
          ({final} OR {complete}) AS _final
        FROM labelled
        """  # noqa: S608 -- names come from the contract, quoted


def _is_complete(contract: Contract, periods: Sequence[tuple[date, date]]) -> str:
    """The SQL of whether every event of the horizon of a row is known."""
    as_of = column_name(contract.row_key[-1])
    inside = [
        f"({as_of} + {contract.horizon_days} <= DATE '{through}' AND {as_of} + 1 >= DATE '{begin}')"
        for begin, through in periods
    ]
    return f"coalesce({' OR '.join(inside)}, FALSE)" if inside else "FALSE"


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
    - `completed`: rows whose label becomes final because the file is complete, and `events`, those with the event
    - `cut_off`: rows that go on waiting because events of days before the file are not known
    """

    leavers: int = 0
    unknown: int = 0
    relabelled: int = 0
    completed: int = 0
    events: int = 0
    cut_off: int = 0

    def __add__(self, more: LeaversCount) -> LeaversCount:
        """The counts of both, which are of different customers."""
        return LeaversCount(*(mine + its for mine, its in zip(astuple(self), astuple(more), strict=True)))


def count_leavers(
    connection: duckdb.DuckDBPyConnection,
    rows: Sequence[Path],
    contract: Contract,
    event: str,
    periods: Sequence[tuple[date, date]],
    gap: tuple[date, date] | None,
) -> LeaversCount:
    """Compare a file of leavers with the rows in `before`.

    Args:
        connection: the engine, with the view `before`.
        rows: Parquet files of its good rows.
        contract: the data contract, with a horizon.
        event: the name of the column with the date of the event.
        periods: those of which every event is known once the file is accepted.
        gap: the first and the last day before the file of which that is not so, or None.
    """
    key, target, by = column_name(contract.key), column_name(contract.target), row_key(contract)
    as_of, days = column_name(contract.row_key[-1]), contract.horizon_days
    ((leavers, unknown),) = connection.execute(
        f"""
        SELECT count(DISTINCT {key}), count(DISTINCT {key}) FILTER ({key} NOT IN (SELECT {key} FROM before)) FROM read_parquet($files)
        """,  # noqa: S608 -- names come from the contract, quoted; values are parameters
        {"files": [str(file) for file in rows]},
    ).fetchall()
    first, last = gap or (date.max, date.min)
    ((relabelled, completed, events, cut_off),) = connection.execute(
        f"""
        WITH known AS (
          SELECT {by}, {target}, _final FROM before
          QUALIFY row_number() OVER (PARTITION BY {by} ORDER BY _arrived_at DESC, _line DESC) = 1
        ),
        left_ AS (
          SELECT {by}, {target}, _final, {_is_complete(contract, periods)} AS _complete, EXISTS (
            SELECT 1 FROM read_parquet($files) AS file
            WHERE file.{key} = known.{key} AND file.{quoted(event)} > {as_of} AND file.{quoted(event)} <= {as_of} + {days}
          ) AS _left FROM known
        )
        SELECT count(*) FILTER (_final AND {target} = 0 AND _left),
          count(*) FILTER (NOT _final AND _complete),
          count(*) FILTER (NOT _final AND _complete AND (_left OR {target} = 1)),
          count(*) FILTER (NOT _final AND NOT _complete AND {as_of} < $last AND {as_of} + {days} >= $first)
        FROM left_
        """,  # noqa: S608 -- names come from the contract, quoted; values are parameters
        {"files": [str(file) for file in rows], "first": first, "last": last},
    ).fetchall()
    return LeaversCount(leavers, unknown, relabelled, completed, events, cut_off)


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
    total: int | None = None,
) -> pa.Table:
    """Return about this number of rows of some files or of a view; a hash of the customer selects them, always the same ones.

    Args:
        connection: the engine.
        source: Parquet files, or a view.
        columns: the columns to return.
        contract: the data contract.
        rows: about this number is returned.
        total: the number of rows of which the source has a part; by default, it has all.
    """
    relation = (
        source if isinstance(source, str) else f"read_parquet([{', '.join(literal(str(file)) for file in source)}])"
    )
    if total is None:
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
