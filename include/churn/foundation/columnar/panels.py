"""Panels: rows of customers at several times, whose labels may come later, in rows, in files of labels and in files of leavers.

Each is a statement, and the statements of a customer are merged: of two rows of a customer for one time the later one counts, and
so does the later label. An event makes the label 1 of every row whose horizon it falls into; a 0 that is said before the horizon has
passed does not undo it, since it says no more than that the customer had not left by then.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date
from pathlib import Path

import duckdb
import pyarrow as pa

from churn.contract import Contract
from churn.foundation.columnar.latest_rows import bucketed_schema, row_schema
from churn.foundation.columnar.names import column_name, literal, row_key

KIND, FIRST_AT, FIRST_LABELLED = "_kind", "_first_at", "_first_labelled"
LABEL_BATCH, LABELLED_AT = "_label_batch", "_labelled_at"
"""Columns of a panel: what a line is, when the row arrived first, whether it had a label then, and which batch said its label when."""
ROW, LABEL, EVENT = 0, 1, 2
"""Lines of a panel: a row; a label whose row has not arrived; an event, whose date is in the as-of column."""
_RANK_SHIFT = 40


@dataclass(frozen=True)
class Counting:
    """Which rows of a panel count: those whose horizon has passed by the cut-off, if their label says so.

    - `cutoff`: the date of the run
    - `complete`: as-of dates of which every label is final
    """

    cutoff: date
    complete: tuple[date, ...]


@dataclass(frozen=True)
class DateCount:
    """The rows of a panel with one as-of date, those of them without a label, and the date of the earliest of their labels."""

    as_of: date | int | None
    rows: int
    unlabelled: int
    labelled_since: date | None


def statement_schema(contract: Contract) -> pa.Schema:
    """The columns of statements: those of `bucketed_schema`, and `_kind`."""
    return bucketed_schema(contract).append(pa.field(KIND, pa.int8()))


def panel_schema(contract: Contract) -> pa.Schema:
    """The columns of a panel."""
    added = [
        ("_bucket", pa.int32()),
        ("_customer", pa.uint64()),
        ("_arrived_at", pa.timestamp("us", "UTC")),
        ("_batch", pa.int64()),
        (KIND, pa.int8()),
        (FIRST_AT, pa.timestamp("us", "UTC")),
        (FIRST_LABELLED, pa.bool_()),
        (LABEL_BATCH, pa.int64()),
        (LABELLED_AT, pa.timestamp("us", "UTC")),
    ]
    return pa.schema([*row_schema(contract), *(pa.field(name, kind) for name, kind in added)])


def is_early(label: str, said_at: str, as_of: str, horizon_days: int) -> str:
    """The SQL of whether a label says that the customer has not left, before the horizon has passed."""
    return f"({label} = 0 AND {utc_date(said_at)} <= {as_of} + {horizon_days})"


def utc_date(moment: str) -> str:
    """The SQL of the date, in UTC, of a moment."""
    return f"(DATE '1970-01-01' + CAST(floor(epoch_us({moment}) / 86400000000) AS INTEGER))"


def merge_statements(
    connection: duckdb.DuckDBPyConnection,
    fresh: Iterator[pa.RecordBatch],
    base: Path | None,
    arrivals: pa.Table,
    contract: Contract,
    rows: int,
) -> Iterator[pa.RecordBatch]:
    """Merge new statements with those of an earlier panel. Customers without a new statement are not touched.

    Args:
        connection: the engine.
        fresh: statements of some customers, of `statement_schema`.
        base: Parquet file of the earlier panel of these customers.
        arrivals: `_rank`, `_number` and `_at` of all batches: place in the order of arrival, number, and time.
        contract: the data contract.
        rows: at most this number of rows are in a batch.

    Yields:
        Rows of `panel_schema`, ordered by key, as-of date and kind.
    """
    schema = panel_schema(contract)
    connection.register("statements", pa.RecordBatchReader.from_batches(statement_schema(contract), fresh))
    connection.register("batches", arrivals)
    connection.execute(
        f"CREATE OR REPLACE TEMP TABLE fresh AS SELECT *, _order >> {_RANK_SHIFT} AS _rank FROM statements"  # noqa: S608 -- our own names
    )
    if base is None:
        connection.register("base", schema.empty_table())
    else:
        path = str(base).replace("'", "''")
        connection.execute(f"CREATE OR REPLACE TEMP VIEW base AS SELECT * FROM read_parquet('{path}')")  # noqa: S608 -- quoted
    for batch in connection.sql(_merging_sql(contract)).to_arrow_reader(rows):
        yield batch.cast(schema)


def _merging_sql(contract: Contract) -> str:
    key, target, by = column_name(contract.key), column_name(contract.target), row_key(contract)
    as_of = column_name(contract.row_key[-1])
    others = [column for column in contract.columns if column not in (*contract.row_key, contract.target)]
    packed = "{" + ", ".join(f"{literal(column.name)}: {column_name(column)}" for column in others) + "}"
    unpacked = {column.name: f"_row[{literal(column.name)}]" for column in others}
    left_ = "_event_rank IS NOT NULL"
    if contract.horizon_days is not None:
        early = is_early("_label", "_label_at", f"words.{as_of}", contract.horizon_days)
        left_ += f" AND (_event_rank > coalesce(_label_rank, -1) OR {early})"
    label = f"CASE WHEN {left_} THEN 1 ELSE _label END AS {target}"
    listed = ", ".join(
        label
        if column is contract.target
        else f"words.{column_name(column)}"
        if column in contract.row_key
        else f"{unpacked[column.name]} AS {column_name(column)}"
        for column in contract.columns
    )
    nothing = ", ".join(
        column_name(column) if column in contract.row_key else f"NULL AS {column_name(column)}"
        for column in contract.columns
    )
    within = f"happened.{as_of} > words.{as_of} AND happened.{as_of} <= words.{as_of} + {contract.horizon_days}"
    happened_in = (
        f"SELECT {', '.join(f'words.{column_name(column)}' for column in contract.row_key)}, max(happened._rank) AS _event_rank "  # noqa: S608
        f"FROM words JOIN happened ON happened.{key} = words.{key} AND {within} GROUP BY ALL"
        if contract.horizon_days is not None
        else f"SELECT {by}, NULL AS _event_rank FROM words WHERE FALSE"  # noqa: S608
    )
    return f"""
        WITH touched AS (SELECT DISTINCT {key} FROM fresh),
        said AS (
          SELECT {by}, _bucket, _customer, {packed} AS _row, CASE WHEN {KIND} = {ROW} THEN _rank END AS _row_rank,
            {target} AS _label, CASE WHEN {target} IS NOT NULL THEN _rank END AS _label_rank, _at AS _label_at,
            CASE WHEN {KIND} = {ROW} THEN _at END AS _first,
            CASE WHEN {KIND} = {ROW} THEN {target} IS NOT NULL END AS _first_labelled
          FROM fresh JOIN batches USING (_rank) WHERE {KIND} <> {EVENT}
          UNION ALL
          SELECT {by}, _bucket, _customer, {packed}, sent._rank, {target}, told._rank, told._at, {FIRST_AT}, {FIRST_LABELLED}
          FROM base LEFT JOIN batches AS sent ON sent._number = base._batch LEFT JOIN batches AS told ON told._number = base.{LABEL_BATCH}
          WHERE {KIND} <> {EVENT} AND {key} IN (SELECT {key} FROM touched)
        ),
        words AS (
          SELECT {by}, any_value(_bucket) AS _bucket, any_value(_customer) AS _customer, arg_max(_row, _row_rank) AS _row,
            max(_row_rank) AS _row_rank, arg_max(_label, _label_rank) AS _label, max(_label_rank) AS _label_rank,
            arg_max(_label_at, _label_rank) AS _label_at, min(_first) AS _first,
            arg_min(_first_labelled, 2 * epoch_us(_first) + CASE WHEN _first_labelled THEN 0 ELSE 1 END) AS _first_labelled
          FROM said GROUP BY {by}
        ),
        happened AS (
          SELECT {by}, any_value(_bucket) AS _bucket, any_value(_customer) AS _customer, max(_rank) AS _rank
          FROM (
            SELECT {by}, _bucket, _customer, _rank FROM fresh WHERE {KIND} = {EVENT}
            UNION ALL
            SELECT {by}, _bucket, _customer, _rank FROM base JOIN batches ON _number = _batch
            WHERE {KIND} = {EVENT} AND {key} IN (SELECT {key} FROM touched)
          ) GROUP BY {by}
        ),
        events AS ({happened_in}),
        merged AS (
          SELECT {listed}, words._bucket, words._customer, sent._at AS _arrived_at, sent._number AS _batch,
            CASE WHEN _row_rank IS NULL THEN {LABEL} ELSE {ROW} END AS {KIND}, _first AS {FIRST_AT}, _first_labelled AS {FIRST_LABELLED},
            told._number AS {LABEL_BATCH}, told._at AS {LABELLED_AT}
          FROM words LEFT JOIN events ON words.{key} = events.{key} AND words.{as_of} IS NOT DISTINCT FROM events.{as_of}
          LEFT JOIN batches AS sent ON sent._rank = _row_rank
          LEFT JOIN batches AS told ON told._rank = CASE WHEN {left_} THEN _event_rank ELSE _label_rank END
        )
        SELECT * FROM (
          SELECT {", ".join(column_name(column) for column in contract.columns)}, _bucket, _customer, _arrived_at, _batch, {KIND}, {FIRST_AT}, {FIRST_LABELLED},
            {LABEL_BATCH}, {LABELLED_AT} FROM base WHERE {key} NOT IN (SELECT {key} FROM touched)
          UNION ALL SELECT * FROM merged
          UNION ALL
          SELECT {nothing}, _bucket, _customer, _at, _number, {EVENT}, NULL, NULL, NULL, NULL FROM happened JOIN batches USING (_rank)
        ) ORDER BY {key}, {as_of}, {KIND}
        """  # noqa: S608 -- names come from the contract, quoted


def count_dates(connection: duckdb.DuckDBPyConnection, panel: str, contract: Contract) -> list[DateCount]:
    """Count the rows of a view of a panel by as-of date, in order."""
    as_of, target = column_name(contract.row_key[-1]), column_name(contract.target)
    found = connection.execute(
        f"""
        SELECT {as_of}, count(*), count(*) FILTER ({target} IS NULL), {utc_date(f"min({LABELLED_AT})")}
        FROM {panel} WHERE {KIND} = {ROW} GROUP BY {as_of} ORDER BY {as_of}
        """  # noqa: S608 -- quoted names
    ).fetchall()
    return [DateCount(*row) for row in found]


def create_counting_view(
    connection: duckdb.DuckDBPyConnection,
    view: str,
    panel: str,
    contract: Contract,
    counting: Counting | None,
    newest: int | None = None,
) -> None:
    """Create a view of the rows of a panel that count, the newest ones of each customer if a number is given.

    The label of a row that counts and has none is 0: a complete file of leavers does not name the customer.

    Args:
        connection: the engine.
        view: the name of the view.
        panel: the name of the view of the panel.
        contract: the data contract.
        counting: which rows count; None without a horizon: all.
        newest: the number of rows of each customer; None for all.
    """
    target, as_of, key = column_name(contract.target), column_name(contract.row_key[-1]), column_name(contract.key)
    newest_first = f"QUALIFY row_number() OVER (PARTITION BY {key} ORDER BY {as_of} DESC) <= {newest}" if newest else ""
    # Panels of an earlier version lack the column: their rows counted by whether they have a label.
    labelled = FIRST_LABELLED if FIRST_LABELLED in connection.table(panel).columns else f"{target} IS NOT NULL"
    connection.execute(
        f"CREATE OR REPLACE TEMP VIEW {view} AS SELECT * REPLACE (coalesce({target}, 0) AS {target}) FROM {panel} "  # noqa: S608 -- quoted names, our own dates
        f"WHERE {counting_sql(contract, counting, labelled)} {newest_first}"
    )


def counting_sql(contract: Contract, counting: Counting | None, labelled: str = FIRST_LABELLED) -> str:
    """The SQL of whether a line of a panel is a row that counts; `labelled` is that of whether a row first arrived with its label."""
    if counting is None or contract.horizon_days is None:
        return f"{KIND} = {ROW} AND {column_name(contract.target)} IS NOT NULL"
    as_of = column_name(contract.row_key[-1])
    end = f"{as_of} + {contract.horizon_days}"
    complete = ", ".join(f"DATE '{day.isoformat()}'" for day in counting.complete)
    whole = f" OR {as_of} IN ({complete})" if complete else ""
    said = f"{utc_date(FIRST_AT)} > {end} AND {labelled}"
    return f"{KIND} = {ROW} AND {end} < DATE '{counting.cutoff.isoformat()}' AND (({said}){whole})"


def count_by(connection: duckdb.DuckDBPyConnection, view: str, contract: Contract) -> dict[date | int | None, int]:
    """The rows of a view of a panel by as-of date."""
    as_of = column_name(contract.row_key[-1])
    return dict(connection.execute(f"SELECT {as_of}, count(*) FROM {view} GROUP BY {as_of}").fetchall())  # noqa: S608 -- a quoted name


def count_newest(
    connection: duckdb.DuckDBPyConnection, view: str, contract: Contract, buckets: range, newest: int | None
) -> int:
    """The rows of a view of a panel in some buckets, at most a number of each customer; None for all."""
    key = column_name(contract.key)
    rows = f"SELECT count(*) AS rows FROM {view} WHERE _bucket BETWEEN {buckets[0]} AND {buckets[-1]} GROUP BY {key}"  # noqa: S608 -- a quoted name
    most = "rows" if newest is None else f"least(rows, {newest})"
    ((count,),) = connection.execute(f"SELECT coalesce(sum({most}), 0) FROM ({rows})").fetchall()  # noqa: S608 -- our own names
    return int(count)
