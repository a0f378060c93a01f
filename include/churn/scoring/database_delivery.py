"""Delivers a list to PostgreSQL: its rows and the switch of the view that readers use are one transaction."""

from __future__ import annotations

from collections.abc import Iterator

import psycopg2  # type: ignore[import-untyped]
import pyarrow as pa
import pyarrow.csv
import sqlalchemy as sa
from psycopg2 import errors, sql

from churn.contract import Contract
from churn.errors import ChurnError, Outage
from churn.foundation.records import ScoreList
from churn.foundation.storage import Storage
from churn.scoring.list_parts import list_schema
from churn.scoring.published import read_rows

VIEW, ROWS, LISTS = "churn_scores", "churn_score_rows", "churn_score_lists"
"""The view of the current list, all rows, and when each list was delivered."""
_LOCK_TIMEOUT = "30s"
_CONNECT_TIMEOUT = 10  # seconds
_TYPES = {
    pa.int64(): "bigint",
    pa.int8(): "smallint",
    pa.float64(): "double precision",
    pa.string(): "text",
    pa.bool_(): "boolean",
    pa.date32(): "date",
}


class DatabaseUnavailable(Outage):
    """The database of the scores does not answer, is full, or its tables are locked."""


class DatabaseRefuses(ChurnError):  # noqa: N818 -- names the state
    """The database of the scores refuses the delivery: a right is missing, it is read-only, or its tables are others."""


class DeliveryIncomplete(ChurnError):  # noqa: N818 -- names the state
    """The database counts other rows than the list has, so nothing was switched."""


def view_of(campaign: str, main: str) -> str:
    """The view of a campaign: `churn_scores` for that of the scoring policy, with its name for any other."""
    return VIEW if campaign == main else f"{VIEW}_{campaign}"


def deliver_to_database(storage: Storage, row: ScoreList, url: str, contract: Contract, view: str) -> int:
    """Copy a list into a partition of its own, and let the view show it; a list that is there is only shown.

    Args:
        storage: the data root.
        row: the list.
        url: of the database.
        contract: the data contract.
        view: the name of the view.

    Returns:
        The number of rows.

    Raises:
        DatabaseUnavailable: a retry may succeed.
        DatabaseRefuses: a person has to change something.
        DeliveryIncomplete: the counts differ.
    """
    address = sa.make_url(url)
    place = address.render_as_string(hide_password=True)
    arguments, options = address.get_dialect()().create_connect_args(address)
    of_server = f"{options.get('options', '')} -c lock_timeout={_LOCK_TIMEOUT}".strip()
    schema = list_schema(contract)
    try:
        connection = psycopg2.connect(
            *arguments, **{"connect_timeout": _CONNECT_TIMEOUT, **options, "options": of_server}
        )
        try:
            with connection, connection.cursor() as cursor:
                cursor.execute("SELECT pg_advisory_xact_lock(hashtext(%s))", (ROWS,))
                rows = _ensure_partition(cursor, storage, row, schema)
                _note_delivery(cursor, row)
                cursor.execute(
                    sql.SQL("CREATE OR REPLACE VIEW {} AS SELECT * FROM {} WHERE list_id = {}").format(
                        sql.Identifier(view), sql.Identifier(ROWS), sql.Literal(row.list_id)
                    )
                )
            return rows
        finally:
            connection.close()
    except (psycopg2.OperationalError, psycopg2.InterfaceError) as error:
        raise DatabaseUnavailable(
            f"List {row.list_id[:12]} was not delivered to {place} ({type(error).__name__}): the database is unavailable or full, or "
            f"{ROWS} is locked. The list before it is still shown. Check CHURN_SCORES_URL and the database, then run "
            f"`churn scores deliver {row.list_id[:12]}`."
        ) from error
    except psycopg2.Error as error:
        # Without the server's text, which may quote a key.
        raise DatabaseRefuses(f"{_refusal(error, place)} The list before it is still shown.") from None


def _refusal(error: psycopg2.Error, place: str) -> str:
    if isinstance(error, errors.InsufficientPrivilege):
        return f"The role of CHURN_SCORES_URL may not write to {place}. It needs CREATE on the schema, and to own {ROWS} and {VIEW}."
    if isinstance(error, errors.ReadOnlySqlTransaction):
        return f"{place} is read-only. Name the primary server in CHURN_SCORES_URL."
    return (
        f"{ROWS} or its view at {place} is not what a list of this contract needs, such as other columns ({type(error).__name__}). "
        "Rename or drop both, and deliver again."
    )


def _ensure_partition(cursor: psycopg2.extensions.cursor, storage: Storage, row: ScoreList, schema: pa.Schema) -> int:
    """Create the partition of a list with its rows, unless it is there; returns the number of its rows."""
    parent, partition = sql.Identifier(ROWS), sql.Identifier(f"{ROWS}_{row.list_id[:16]}")
    columns = sql.SQL(", ").join(
        sql.SQL("{} {}").format(sql.Identifier(field.name), sql.SQL(_TYPES[field.type])) for field in schema
    )
    cursor.execute(sql.SQL("CREATE TABLE IF NOT EXISTS {} ({}) PARTITION BY LIST (list_id)").format(parent, columns))
    cursor.execute("SELECT to_regclass(%s)", (f"{ROWS}_{row.list_id[:16]}",))
    (there,) = cursor.fetchone() or (None,)
    if there is None:
        cursor.execute(sql.SQL("CREATE TABLE {} (LIKE {} INCLUDING DEFAULTS)").format(partition, parent))
        names = sql.SQL(", ").join(map(sql.Identifier, schema.names))
        copy = sql.SQL("COPY {} ({}) FROM STDIN WITH (FORMAT csv)").format(partition, names)
        _copy(cursor, copy, read_rows(storage, row, schema.names))
    cursor.execute(sql.SQL("SELECT count(*) FROM {}").format(partition))
    (rows,) = cursor.fetchone() or (0,)
    if rows != row.rows:
        raise DeliveryIncomplete(
            f"List {row.list_id[:12]} has {row.rows:,} rows, but {rows:,} are in its partition. Nothing was switched. "
            f"`churn audit --hashes` checks the list; drop the partition of {ROWS}, and deliver again."
        )
    if there is None:
        # Without this condition PostgreSQL would read all rows again when it attaches them.
        condition = sql.SQL(
            "ALTER TABLE {} ADD CONSTRAINT of_one_list CHECK (list_id IS NOT NULL AND list_id = {}) NOT VALID"
        )
        cursor.execute(condition.format(partition, sql.Literal(row.list_id)))
        cursor.execute(sql.SQL("ALTER TABLE {} VALIDATE CONSTRAINT of_one_list").format(partition))
        attach = sql.SQL("ALTER TABLE {} ATTACH PARTITION {} FOR VALUES IN ({})")
        cursor.execute(attach.format(parent, partition, sql.Literal(row.list_id)))
    return int(rows)


def _note_delivery(cursor: psycopg2.extensions.cursor, row: ScoreList) -> None:
    """Write down when the list was delivered, for those who measure its effect; the first delivery counts."""
    lists = sql.Identifier(LISTS)
    cursor.execute(
        sql.SQL(
            "CREATE TABLE IF NOT EXISTS {} (list_id text PRIMARY KEY, campaign text NOT NULL, version integer NOT NULL, "
            "customers bigint NOT NULL, delivered_at timestamptz NOT NULL DEFAULT now())"
        ).format(lists)
    )
    cursor.execute(
        sql.SQL(
            "INSERT INTO {} (list_id, campaign, version, customers) VALUES (%s, %s, %s, %s) ON CONFLICT DO NOTHING"
        ).format(lists),
        (row.list_id, row.campaign, row.version, row.rows),
    )


def _copy(cursor: psycopg2.extensions.cursor, statement: sql.Composed, tables: Iterator[pa.Table]) -> None:
    """Copy rows; an error of reading them is raised as it is, and not as the error of the statement that it stopped."""
    stream = _CsvStream(tables)
    try:
        cursor.copy_expert(statement, stream)
    except psycopg2.Error:
        if stream.fault:
            raise stream.fault from None
        raise


class _CsvStream:
    """Tables as CSV, a piece at a time, so that no more than one piece is in memory. `fault` is what stopped the reading."""

    def __init__(self, tables: Iterator[pa.Table]) -> None:
        self.fault: Exception | None = None
        self._tables, self._rest = tables, memoryview(b"")
        self._options = pa.csv.WriteOptions(include_header=False, quoting_style="needed")

    def read(self, size: int) -> bytes:
        """At most this number of bytes; none at the end."""
        try:
            while not self._rest:
                table = next(self._tables, None)
                if table is None:
                    break
                buffer = pa.BufferOutputStream()
                pa.csv.write_csv(table, buffer, self._options)
                self._rest = memoryview(buffer.getvalue())
        except Exception as error:
            self.fault = error
            raise
        taken, self._rest = self._rest[:size], self._rest[size:]
        return bytes(taken)
