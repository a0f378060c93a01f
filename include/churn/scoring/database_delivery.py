"""Delivers a list to PostgreSQL: its rows and the switch of the view that readers use are one transaction."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import psycopg2  # type: ignore[import-untyped]
import pyarrow as pa
import pyarrow.csv
import sqlalchemy as sa
from psycopg2 import errors, sql

from churn.contract import Contract
from churn.errors import ChurnError, NothingToDo, Outage
from churn.foundation.records import ScoreList
from churn.foundation.storage import Storage
from churn.scoring.list_parts import list_schema
from churn.scoring.published import read_rows, stored_columns
from churn.scoring.treatments import FIRST

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


def deliver_to_database(
    storage: Storage, row: ScoreList, url: str, contract: Contract, view: str, is_newest: Callable[[], bool]
) -> int:
    """Copy a list into a partition of its own, and let the view show it; a list that is there is only shown.

    Args:
        storage: the data root.
        row: the list.
        url: of the database.
        contract: the data contract.
        view: the name of the view.
        is_newest: whether the ledger still has the list as the newest of its campaign; asked once no other delivery is at work.

    Returns:
        The number of rows.

    Raises:
        NothingToDo: a newer list was published meanwhile, so nothing was switched.
        DatabaseUnavailable: a retry may succeed.
        DatabaseRefuses: a person has to change something.
        DeliveryIncomplete: the counts differ.
    """
    failed = f"List {row.list_id[:12]} was not delivered"
    then = f"The list before it is still shown. Check CHURN_SCORES_URL and the database, then run `churn scores deliver {row.list_id[:12]}`."
    with _locked(url, failed, then) as cursor:
        if not is_newest():
            raise NothingToDo(
                f"A newer list of campaign {row.campaign} was published while list {row.list_id[:12]} was delivered."
            )
        rows = _ensure_partition(cursor, storage, row, list_schema(contract))
        _note_delivery(cursor, row)
        cursor.execute(
            sql.SQL("CREATE OR REPLACE VIEW {} AS SELECT * FROM {} WHERE list_id = {}").format(
                sql.Identifier(view), sql.Identifier(ROWS), sql.Literal(row.list_id)
            )
        )
    return rows


def remove_from_database(list_id: str, url: str) -> None:
    """Drop the partition of a list that no view shows; one that is not there is no error.

    Raises:
        DatabaseUnavailable: a retry may succeed.
        DatabaseRefuses: a person has to change something.
    """
    then = "Check CHURN_SCORES_URL and the database, then run `churn maintain --yes`."
    with _locked(url, f"The rows of list {list_id[:12]} were not removed", then) as cursor:
        cursor.execute(sql.SQL("DROP TABLE IF EXISTS {}").format(_partition_of(list_id)))


@contextmanager
def _locked(url: str, failed: str, then: str) -> Iterator[psycopg2.extensions.cursor]:
    """One transaction that no other delivery runs beside.

    Args:
        url: of the database.
        failed: what did not happen if the transaction fails, as the beginning of a sentence.
        then: what that means, and the next step.
    """
    address = sa.make_url(url)
    place = address.render_as_string(hide_password=True)
    arguments, options = address.get_dialect()().create_connect_args(address)
    of_server = f"{options.get('options', '')} -c lock_timeout={_LOCK_TIMEOUT}".strip()
    try:
        connection = psycopg2.connect(
            *arguments, **{"connect_timeout": _CONNECT_TIMEOUT, **options, "options": of_server}
        )
        try:
            with connection, connection.cursor() as cursor:
                cursor.execute("SELECT pg_advisory_xact_lock(hashtext(%s))", (ROWS,))
                yield cursor
        finally:
            connection.close()
    except (psycopg2.OperationalError, psycopg2.InterfaceError) as error:
        raise DatabaseUnavailable(
            f"{failed} at {place} ({type(error).__name__}): the database does not exist, is unavailable or full, or {ROWS} is locked. {then}"
        ) from error
    except psycopg2.Error as error:
        # Without the server's text, which may quote a key.
        raise DatabaseRefuses(f"{failed}. {_refusal(error, place)}") from None


def _partition_of(list_id: str) -> sql.Identifier:
    return sql.Identifier(_partition_name(list_id))


def _partition_name(list_id: str) -> str:
    return f"{ROWS}_{list_id[:16]}"


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
    parent, partition = sql.Identifier(ROWS), _partition_of(row.list_id)
    columns = sql.SQL(", ").join(
        sql.SQL("{} {}").format(sql.Identifier(field.name), sql.SQL(_TYPES[field.type])) for field in schema
    )
    cursor.execute(sql.SQL("CREATE TABLE IF NOT EXISTS {} ({}) PARTITION BY LIST (list_id)").format(parent, columns))
    _add_missing_columns(cursor, schema)
    cursor.execute("SELECT to_regclass(%s)", (_partition_name(row.list_id),))
    (there,) = cursor.fetchone() or (None,)
    if there is None:
        cursor.execute(sql.SQL("CREATE TABLE {} (LIKE {} INCLUDING DEFAULTS)").format(partition, parent))
        stored = stored_columns(storage, row, schema.names)
        names = sql.SQL(", ").join(map(sql.Identifier, stored))
        copy = sql.SQL("COPY {} ({}) FROM STDIN WITH (FORMAT csv)").format(partition, names)
        _copy(cursor, copy, read_rows(storage, row, stored))
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


def _add_missing_columns(cursor: psycopg2.extensions.cursor, schema: pa.Schema) -> None:
    """Add what the table of an earlier version of this software lacks; a table of another contract remains as it is, and is refused."""
    cursor.execute(
        "SELECT attname FROM pg_attribute WHERE attrelid = to_regclass(%s) AND attnum > 0 AND NOT attisdropped", (ROWS,)
    )
    there = {name for (name,) in cursor.fetchall()}
    if FIRST not in there:
        added = sql.SQL("ALTER TABLE {} ADD COLUMN {} {}")
        kind = sql.SQL(_TYPES[schema.field(FIRST).type])
        cursor.execute(added.format(sql.Identifier(ROWS), sql.Identifier(FIRST), kind))


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
