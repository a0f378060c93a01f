"""The database of the ledger: transactions, repeatable inserts, and clear errors if the database fails."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import unquote, urlsplit

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import IntegrityError, OperationalError, ProgrammingError, SQLAlchemyError
from tenacity import Retrying, retry_if_exception_message, stop_after_delay, wait_random

from churn.errors import Outage
from churn.foundation.migrations import upgrade

T = TypeVar("T")


class LedgerError(Outage):
    """The ledger cannot be reached, or it rejects the request."""


_UNTIL_FREE = Retrying(
    retry=retry_if_exception_message(match=".*locked"),
    stop=stop_after_delay(30),
    wait=wait_random(0, 0.05),
    reraise=True,
)
"""SQLite does not wait for a lock when a new file changes to WAL, whatever its busy timeout."""


class LedgerDatabase:
    """The base of every part of the ledger, on SQLite or PostgreSQL."""

    def __init__(self, url: str, read_only: bool = False) -> None:
        parsed = sa.make_url(url)
        if read_only:
            self._engine = _reading_engine(parsed)
            return
        if parsed.drivername == "sqlite" and parsed.database:
            try:
                Path(parsed.database).parent.mkdir(parents=True, exist_ok=True)
            except OSError as error:
                raise LedgerError(
                    f"The ledger {parsed.database} cannot be created ({error.strerror}). Check CHURN_LEDGER_URL."
                ) from error
        self._engine = sa.create_engine(parsed, pool_pre_ping=True)
        if parsed.drivername == "sqlite":
            sa.event.listen(self._engine, "connect", _prepare_sqlite)
            sa.event.listen(self._engine, "begin", lambda connection: connection.exec_driver_sql("BEGIN IMMEDIATE"))

    @cached_property
    def _insert(self) -> Any:
        return postgresql.insert if self._engine.dialect.name == "postgresql" else sqlite.insert

    @contextmanager
    def _transaction(self) -> Iterator[sa.Connection]:
        try:
            with self._engine.begin() as connection:
                yield connection
        except IntegrityError:
            raise
        except SQLAlchemyError as error:
            raise LedgerError(self._unavailable(error)) from error

    def migrate(self) -> None:
        """Migrate the tables to the current schema; costs one query if they are current already."""
        with self._transaction() as connection:
            upgrade(connection)

    def schema(self) -> str | None:
        """Return the revision of the tables; None if there are no tables.

        Raises:
            LedgerError: the database is unavailable.
        """
        try:
            with self._engine.begin() as connection:
                return connection.execute(sa.text("SELECT version_num FROM alembic_version")).scalar_one_or_none()
        except (ProgrammingError, OperationalError) as error:
            file = self._engine.url.database or ""
            if "alembic_version" in str(error.orig) or (file.startswith("file:") and not _sqlite_file_exists(file)):
                return None
            raise LedgerError(self._unavailable(error)) from error

    def _unavailable(self, error: SQLAlchemyError) -> str:
        address = self._engine.url.render_as_string(hide_password=True)
        return (
            f"The ledger {address} is unavailable or rejects the request ({type(error).__name__}). "
            "Check CHURN_LEDGER_URL and that the database is running, then run the step again."
        )

    def _insert_once(self, connection: sa.Connection, table: sa.Table, record: Any) -> None:
        """Insert a row, unless its primary key exists."""
        key = [column.name for column in table.primary_key]
        connection.execute(self._insert(table).values(asdict(record)).on_conflict_do_nothing(index_elements=key))

    def _one(self, kind: type[T], query: sa.Select[Any]) -> T | None:
        rows = self._all(kind, query)
        return rows[0] if rows else None

    def _all(self, kind: type[T], query: sa.Select[Any]) -> list[T]:
        with self._transaction() as connection:
            return [kind(**row) for row in connection.execute(query).mappings()]


def _sqlite_file_exists(uri: str) -> bool:
    return Path(unquote(urlsplit(uri).path)).exists()


def _reading_engine(url: sa.URL) -> sa.Engine:
    """Create an engine that only reads and never waits for a lock."""
    if url.drivername != "sqlite":
        options = "-c default_transaction_read_only=on -c statement_timeout=5000"
        return sa.create_engine(
            url,
            pool_pre_ping=True,
            pool_timeout=1,
            connect_args={"connect_timeout": 2, "tcp_user_timeout": 2000, "options": options},
        )
    file = Path(url.database or "").absolute().as_uri()
    readable = sa.URL.create("sqlite", database=file, query={"mode": "ro", "uri": "true"})
    engine = sa.create_engine(readable, pool_timeout=1)
    sa.event.listen(engine, "connect", lambda connection, _: connection.execute("PRAGMA busy_timeout=1000"))
    return engine


def _prepare_sqlite(connection: Any, _record: object) -> None:
    connection.isolation_level = None  # transactions are SQLAlchemy's, opened by BEGIN IMMEDIATE
    connection.execute("PRAGMA busy_timeout=30000")
    for attempt in _UNTIL_FREE:
        with attempt:
            connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("PRAGMA foreign_keys=ON")
