"""The database that remembers batches, snapshots, decisions, promotions and images.

Every write can be repeated. Promotions are compare-and-set: the next sequence number of a model
is its primary key, so of two promoters that saw the same champion exactly one inserts its row.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import IntegrityError, SQLAlchemyError

from churn.errors import ChurnError, Outage
from churn.foundation.migrations import upgrade
from churn.foundation.records import (
    Batch,
    BatchVerdict,
    DecisionRecord,
    Drift,
    ImageRecord,
    Promotion,
    Sighting,
    Snapshot,
    VersionFlag,
    Withdrawal,
)
from churn.foundation.schema import (
    batches,
    decisions,
    drifts,
    images,
    promotions,
    sightings,
    snapshots,
    version_flags,
    withdrawals,
)

T = TypeVar("T")


class LedgerError(Outage):
    """The ledger cannot be reached or refuses."""


class PromotionConflict(ChurnError):  # noqa: N818 -- the domain's word for it
    """Somebody else has changed what is in production since the comparison was made."""


class Ledger:
    """Reads and writes of the ledger, on SQLite or PostgreSQL."""

    def __init__(self, url: str) -> None:
        parsed = sa.make_url(url)
        if parsed.drivername == "sqlite" and parsed.database:
            try:
                Path(parsed.database).parent.mkdir(parents=True, exist_ok=True)
            except OSError as error:
                raise LedgerError(
                    f"The ledger {parsed.database} cannot be made ({error.strerror}). Check CHURN_LEDGER_URL."
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
            where = self._engine.url.render_as_string(hide_password=True)
            raise LedgerError(
                f"The ledger {where} does not answer as it should: {type(error).__name__}. "
                "Check CHURN_LEDGER_URL and that the database is up, then run the step again."
            ) from error

    def migrate(self) -> None:
        """Bring the tables to the present schema; at the present schema this costs one query."""
        with self._transaction() as connection:
            upgrade(connection)

    # Batches ------------------------------------------------------------------------------------

    def add_batch(self, batch: str, name: str, size: int, arrived_at: datetime, origin: str | None = None) -> bool:
        """Remember a file that arrived, and that it was seen.

        Returns:
            False when these bytes were known already.
        """
        with self._transaction() as connection:
            if self._engine.dialect.name == "postgresql":
                connection.execute(sa.text("LOCK TABLE batches IN SHARE ROW EXCLUSIVE MODE"))
            arrival = (connection.scalar(sa.select(sa.func.max(batches.c.arrival))) or 0) + 1
            row = {
                "batch": batch,
                "arrival": arrival,
                "name": name,
                "size": size,
                "arrived_at": arrived_at,
                "state": "arrived",
                "origin": origin,
            }
            done = connection.execute(
                self._insert(batches).values(row).on_conflict_do_nothing(index_elements=["batch"])
            )
            self._insert_once(connection, sightings, Sighting(batch, name, arrived_at, datetime.now(UTC)))
            return bool(done.rowcount)

    def judge_batch(self, batch: str, night: str, verdict: BatchVerdict, drift: Sequence[Drift] = ()) -> None:
        """Record the verdict on a batch, once; with it, how far its columns have drifted."""
        with self._transaction() as connection:
            judged = connection.execute(
                batches.update()
                .where(batches.c.batch == batch, batches.c.state == "arrived")
                .values(**asdict(verdict), night=night, judged_at=datetime.now(UTC))
            )
            if judged.rowcount and drift:
                connection.execute(drifts.insert(), [{"batch": batch, **asdict(one)} for one in drift])

    def reopen_batch(self, batch: str) -> bool:
        """Let a rejected batch wait for a verdict again; False if it is not rejected."""
        nothing = dict.fromkeys(BatchVerdict.__dataclass_fields__, None)
        with self._transaction() as connection:
            done = connection.execute(
                batches.update()
                .where(batches.c.batch == batch, batches.c.state == "rejected")
                .values(**nothing | {"state": "arrived", "night": None, "judged_at": None})
            )
            return bool(done.rowcount)

    def batch(self, batch: str) -> Batch | None:
        """The batch of this hash."""
        return self._one(Batch, sa.select(batches).where(batches.c.batch == batch))

    def find_batch(self, beginning: str) -> Batch:
        """The one batch whose hash begins so.

        Raises:
            ChurnError: there is none, or more than one.
        """
        query = sa.select(batches).where(batches.c.batch.startswith(beginning.lower(), autoescape=True)).limit(2)
        found = self._all(Batch, query)
        if len(found) != 1:
            many = "more than one batch begins" if found else "no batch begins"
            raise ChurnError(f"In the ledger {many} with {beginning}. `churn batches --json` lists whole hashes.")
        return found[0]

    def batches(self, state: str | None = None, night: str | None = None) -> list[Batch]:
        """Batches in the order of their files' arrival, then name, whoever claimed them first."""
        query = sa.select(batches).order_by(batches.c.arrived_at, batches.c.name, batches.c.batch)
        if state:
            query = query.where(batches.c.state == state)
        if night:
            query = query.where(batches.c.night == night)
        return self._all(Batch, query)

    def hashes(self, state: str) -> list[str]:
        """The hashes of the batches in a state, in the order of `batches`."""
        query = sa.select(batches.c.batch).where(batches.c.state == state)
        with self._transaction() as connection:
            return list(connection.scalars(query.order_by(batches.c.arrived_at, batches.c.name, batches.c.batch)).all())

    def accepted_sizes(self) -> list[tuple[int, int]]:
        """Accepted rows and, among them, events of every accepted batch."""
        query = sa.select(batches.c.accepted_rows, batches.c.events).where(batches.c.state == "accepted")
        with self._transaction() as connection:
            return [(rows, events or 0) for rows, events in connection.execute(query)]

    def sightings(self, batch: str | None = None) -> list[Sighting]:
        """Every file that was seen in landing, or those with these bytes; in the order of arrival."""
        query = sa.select(sightings).order_by(sightings.c.arrived_at, sightings.c.name)
        return self._all(Sighting, query.where(sightings.c.batch == batch) if batch else query)

    def drift(self, batch: str) -> list[Drift]:
        """How far the columns of a batch have drifted; empty where there was no history to hold it against."""
        columns = [column for column in drifts.c if column.name != "batch"]
        return self._all(Drift, sa.select(*columns).where(drifts.c.batch == batch).order_by(drifts.c.psi.desc()))

    # Withdrawals --------------------------------------------------------------------------------

    def withdraw(self, batch: str, kind: str, reason: str) -> Withdrawal | None:
        """Take an accepted batch out of future snapshots (`withdrawn`), or a withdrawn one back (`restored`).

        Returns:
            The new row; None when the batch is in that state already.

        Raises:
            ChurnError: the batch was never accepted.
        """
        before, after = ("accepted", "withdrawn") if kind == "withdrawn" else ("withdrawn", "accepted")
        with self._transaction() as connection:
            done = connection.execute(
                batches.update().where(batches.c.batch == batch, batches.c.state == before).values(state=after)
            )
            if not done.rowcount:
                state = connection.scalar(sa.select(batches.c.state).where(batches.c.batch == batch))
                if state != after:
                    raise ChurnError(f"Batch {batch[:12]} is {state}: only an accepted batch can be withdrawn.")
                return None
            last = connection.scalar(sa.select(sa.func.max(withdrawals.c.sequence)).where(withdrawals.c.batch == batch))
            row = Withdrawal(batch, (last or 0) + 1, kind, reason, datetime.now(UTC))
            connection.execute(withdrawals.insert().values(asdict(row)))
            return row

    def withdrawals(self, batch: str) -> list[Withdrawal]:
        """How often a batch was withdrawn and restored, in order."""
        query = sa.select(withdrawals).where(withdrawals.c.batch == batch).order_by(withdrawals.c.sequence)
        return self._all(Withdrawal, query)

    def flag_versions(self, flags: Sequence[VersionFlag]) -> None:
        """Remember versions that were trained on a withdrawn batch."""
        with self._transaction() as connection:
            for flag in flags:
                self._insert_once(connection, version_flags, flag)

    def clear_flags(self, batch: str) -> None:
        """Forget the flags that a batch brought."""
        with self._transaction() as connection:
            connection.execute(version_flags.delete().where(version_flags.c.batch == batch))

    def flags(self, model: str, version: int | None = None, batch: str | None = None) -> list[VersionFlag]:
        """Versions that were trained on a batch that has been withdrawn since."""
        query = sa.select(version_flags).where(version_flags.c.model == model)
        if version is not None:
            query = query.where(version_flags.c.version == version)
        if batch is not None:
            query = query.where(version_flags.c.batch == batch)
        return self._all(VersionFlag, query.order_by(version_flags.c.version, version_flags.c.flagged_at))

    # Snapshots and decisions --------------------------------------------------------------------

    def add_snapshot(self, snapshot: Snapshot) -> None:
        """Remember a snapshot; the same rows are the same snapshot, whichever batches they came from last."""
        row = asdict(snapshot)
        statement = self._insert(snapshots).values(row)
        update = {"batches": row["batches"]}
        with self._transaction() as connection:
            connection.execute(statement.on_conflict_do_update(index_elements=["snapshot"], set_=update))

    def snapshot(self, snapshot: str) -> Snapshot | None:
        """The snapshot of this hash."""
        return self._one(Snapshot, sa.select(snapshots).where(snapshots.c.snapshot == snapshot))

    def snapshots(self, limit: int | None = None) -> list[Snapshot]:
        """Every snapshot, or so many; the latest first."""
        return self._all(Snapshot, sa.select(snapshots).order_by(snapshots.c.made_at.desc()).limit(limit))

    def add_decision(self, decision: DecisionRecord) -> DecisionRecord:
        """Remember a decision.

        Returns:
            The decision of that night: this one, or the one that was already there.
        """
        with self._transaction() as connection:
            self._insert_once(connection, decisions, decision)
        return self.decision(decision.night) or decision

    def decision(self, night: str) -> DecisionRecord | None:
        """What that night decided."""
        return self._one(DecisionRecord, sa.select(decisions).where(decisions.c.night == night))

    def last_decision(self) -> DecisionRecord | None:
        """The latest decision that was more than a dry run."""
        query = sa.select(decisions).where(~decisions.c.dry_run).order_by(decisions.c.decided_at.desc()).limit(1)
        return self._one(DecisionRecord, query)

    def decisions(self, limit: int = 20) -> list[DecisionRecord]:
        """The latest decisions, newest first."""
        return self._all(DecisionRecord, sa.select(decisions).order_by(decisions.c.decided_at.desc()).limit(limit))

    # Promotions ---------------------------------------------------------------------------------

    def in_production(self, model: str, at: datetime | None = None) -> Promotion | None:
        """The promotion that was in force at a time (default: now); None before the first."""
        query = sa.select(promotions).where(promotions.c.model == model).order_by(promotions.c.sequence.desc()).limit(1)
        if at:
            query = query.where(promotions.c.promoted_at <= at)
        return self._one(Promotion, query)

    def promotions(self, model: str) -> list[Promotion]:
        """Every change of production, newest first."""
        return self._all(
            Promotion, sa.select(promotions).where(promotions.c.model == model).order_by(promotions.c.sequence.desc())
        )

    def promote(
        self, model: str, version: int | None, expected: int | None, kind: str, night: str, reason: str
    ) -> Promotion:
        """Put a version into production if `expected` still is; the commit point of a promotion.

        A night promotes once and takes back once: repeated, it returns the row that is there.

        Raises:
            PromotionConflict: production is not what the caller compared with.
        """
        with self._transaction() as connection:
            query = sa.select(promotions).where(promotions.c.model == model).order_by(promotions.c.sequence.desc())
            done = (
                connection.execute(query.where(promotions.c.night == night, promotions.c.kind == kind))
                .mappings()
                .first()
            )
            if done:
                return Promotion(**done)
            last = connection.execute(query.limit(1)).mappings().first()
            current = last["version"] if last else None
            if current != expected:
                raise PromotionConflict(_conflict(model, version, expected, current))
            row = Promotion(
                model, (last["sequence"] if last else 0) + 1, version, current, kind, night, reason, datetime.now(UTC)
            )
            inserted = connection.execute(
                self._insert(promotions)
                .values(asdict(row))
                .on_conflict_do_nothing(index_elements=["model", "sequence"])
            )
            if not inserted.rowcount:
                raise PromotionConflict(_conflict(model, version, expected, "another version, a moment ago"))
            return row

    def mark_mirrored(self, promotion: Promotion) -> None:
        """Remember that the registry has taken a promotion over."""
        with self._transaction() as connection:
            connection.execute(
                promotions.update()
                .where(promotions.c.model == promotion.model, promotions.c.sequence == promotion.sequence)
                .where(promotions.c.mirrored_at.is_(None))
                .values(mirrored_at=datetime.now(UTC))
            )

    # Images -------------------------------------------------------------------------------------

    def record_image(self, image: ImageRecord) -> None:
        """Remember the state of a version's image; the latest record holds."""
        row = asdict(image)
        statement = self._insert(images).values(row)
        with self._transaction() as connection:
            connection.execute(statement.on_conflict_do_update(index_elements=["model", "version"], set_=row))

    def image(self, model: str, version: int) -> ImageRecord | None:
        """State of that version's image."""
        return self._one(ImageRecord, sa.select(images).where(images.c.model == model, images.c.version == version))

    # ---------------------------------------------------------------------------------------------

    def _insert_once(self, connection: sa.Connection, table: sa.Table, record: Any) -> None:
        """Insert a row, unless its primary key is there."""
        key = [column.name for column in table.primary_key]
        connection.execute(self._insert(table).values(asdict(record)).on_conflict_do_nothing(index_elements=key))

    def _one(self, kind: type[T], query: sa.Select[Any]) -> T | None:
        found = self._all(kind, query)
        return found[0] if found else None

    def _all(self, kind: type[T], query: sa.Select[Any]) -> list[T]:
        with self._transaction() as connection:
            return [kind(**row) for row in connection.execute(query).mappings()]


def open_ledger(url: str) -> Ledger:
    """Open the ledger at the present schema."""
    ledger = Ledger(url)
    ledger.migrate()
    return ledger


def _conflict(model: str, version: int | None, expected: int | None, found: object) -> str:
    return (
        f"{model} {version} was compared with version {expected}, but production is {found}: nothing was changed. "
        "Run the night again to compare with what is in production now."
    )


def _prepare_sqlite(connection: Any, _record: object) -> None:
    connection.isolation_level = None  # transactions are SQLAlchemy's, opened by BEGIN IMMEDIATE
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("PRAGMA busy_timeout=30000")
    connection.execute("PRAGMA foreign_keys=ON")
