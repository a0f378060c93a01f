"""Batches: their arrival, verdicts, drift and withdrawals, and the versions that a withdrawal affects."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from datetime import UTC, datetime

import sqlalchemy as sa

from churn.errors import ChurnError
from churn.foundation.ledger.database import LedgerDatabase
from churn.foundation.records import Batch, BatchVerdict, Drift, Sighting, VersionFlag, Withdrawal
from churn.foundation.schema import batches, drifts, sightings, version_flags, withdrawals


class BatchRows(LedgerDatabase):
    """Reads and writes batches, sightings, drift and withdrawals."""

    def add_batch(self, batch: str, name: str, size: int, arrived_at: datetime, origin: str | None = None) -> bool:
        """Store a file that arrived, and its sighting.

        Returns:
            False if a file with these bytes has arrived before.
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
            result = connection.execute(
                self._insert(batches).values(row).on_conflict_do_nothing(index_elements=["batch"])
            )
            self._insert_once(connection, sightings, Sighting(batch, name, arrived_at, datetime.now(UTC)))
            return bool(result.rowcount)

    def judge_batch(self, batch: str, night: str, verdict: BatchVerdict, drift: Sequence[Drift] = ()) -> None:
        """Store the verdict on a batch, once, together with the drift of its columns."""
        with self._transaction() as connection:
            judged = connection.execute(
                batches.update()
                .where(batches.c.batch == batch, batches.c.state == "arrived")
                .values(**asdict(verdict), night=night, judged_at=datetime.now(UTC))
            )
            if judged.rowcount and drift:
                connection.execute(
                    drifts.insert(), [{"batch": batch, **asdict(column_drift)} for column_drift in drift]
                )

    def reopen_batch(self, batch: str) -> bool:
        """Reopen a rejected batch for a new verdict; return False if it is not rejected."""
        cleared = dict.fromkeys(BatchVerdict.__dataclass_fields__, None)
        with self._transaction() as connection:
            result = connection.execute(
                batches.update()
                .where(batches.c.batch == batch, batches.c.state == "rejected")
                .values(**cleared | {"state": "arrived", "night": None, "judged_at": None})
            )
            return bool(result.rowcount)

    def batch(self, batch: str) -> Batch | None:
        """Return the batch with this hash."""
        return self._one(Batch, sa.select(batches).where(batches.c.batch == batch))

    def find_batch(self, prefix: str) -> Batch:
        """Return the one batch whose hash has this prefix.

        Raises:
            ChurnError: no batch has this prefix, or more than one does.
        """
        query = sa.select(batches).where(batches.c.batch.startswith(prefix.lower(), autoescape=True)).limit(2)
        rows = self._all(Batch, query)
        if len(rows) != 1:
            number = "More than one batch has" if rows else "No batch has"
            raise ChurnError(
                f"{number} a hash that begins with {prefix}. `churn batches --json` lists the full hashes."
            )
        return rows[0]

    def batches(self, state: str | None = None, night: str | None = None) -> list[Batch]:
        """Return batches by the arrival of their files, then by name. The order in which they were claimed does not matter."""
        query = sa.select(batches).order_by(batches.c.arrived_at, batches.c.name, batches.c.batch)
        if state:
            query = query.where(batches.c.state == state)
        if night:
            query = query.where(batches.c.night == night)
        return self._all(Batch, query)

    def hashes(self, state: str) -> list[str]:
        """Return the hashes of the batches in a state, in the order of `batches`."""
        query = sa.select(batches.c.batch).where(batches.c.state == state)
        with self._transaction() as connection:
            return list(connection.scalars(query.order_by(batches.c.arrived_at, batches.c.name, batches.c.batch)).all())

    def accepted_sizes(self) -> list[tuple[int, int]]:
        """Return the number of accepted rows, and of events among them, for every accepted batch of rows."""
        rows = sa.func.coalesce(batches.c.kind, "rows") == "rows"
        query = sa.select(batches.c.accepted_rows, batches.c.events).where(batches.c.state == "accepted", rows)
        with self._transaction() as connection:
            return [(rows, events or 0) for rows, events in connection.execute(query)]

    def sightings(self, batch: str | None = None) -> list[Sighting]:
        """Return every file seen in landing, or the files of one batch, in the order of arrival."""
        query = sa.select(sightings).order_by(sightings.c.arrived_at, sightings.c.name)
        return self._all(Sighting, query.where(sightings.c.batch == batch) if batch else query)

    def first_seen(self) -> datetime | None:
        """Return when the first file was seen in landing."""
        query = sa.select(sightings).order_by(sightings.c.seen_at).limit(1)
        first = self._one(Sighting, query)
        return first.seen_at if first else None

    def last_accepted(self) -> Batch | None:
        """Return the batch that was accepted last, even if it has been withdrawn since."""
        query = sa.select(batches).where(batches.c.state.in_(("accepted", "withdrawn")))
        return self._one(Batch, query.order_by(batches.c.judged_at.desc()).limit(1))

    def drift(self, batch: str) -> list[Drift]:
        """Return the drift of the columns of a batch; empty if there was no history to compare it with."""
        columns = [column for column in drifts.c if column.name != "batch"]
        return self._all(Drift, sa.select(*columns).where(drifts.c.batch == batch).order_by(drifts.c.psi.desc()))

    def withdraw(self, batch: str, kind: str, reason: str) -> Withdrawal | None:
        """Remove an accepted batch from future snapshots (`withdrawn`), or return a withdrawn one to them (`restored`).

        Returns:
            The new row; None if the batch is already in that state.

        Raises:
            ChurnError: the batch was never accepted.
        """
        before, after = ("accepted", "withdrawn") if kind == "withdrawn" else ("withdrawn", "accepted")
        with self._transaction() as connection:
            result = connection.execute(
                batches.update().where(batches.c.batch == batch, batches.c.state == before).values(state=after)
            )
            if not result.rowcount:
                state = connection.scalar(sa.select(batches.c.state).where(batches.c.batch == batch))
                if state != after:
                    raise ChurnError(f"Batch {batch[:12]} is {state}. Only an accepted batch can be withdrawn.")
                return None
            last = connection.scalar(sa.select(sa.func.max(withdrawals.c.sequence)).where(withdrawals.c.batch == batch))
            row = Withdrawal(batch, (last or 0) + 1, kind, reason, datetime.now(UTC))
            connection.execute(withdrawals.insert().values(asdict(row)))
            return row

    def withdrawals(self, batch: str) -> list[Withdrawal]:
        """Return the withdrawals and restorations of a batch, in order."""
        query = sa.select(withdrawals).where(withdrawals.c.batch == batch).order_by(withdrawals.c.sequence)
        return self._all(Withdrawal, query)

    def flag_versions(self, flags: Sequence[VersionFlag]) -> None:
        """Flag versions that were trained on a withdrawn batch."""
        with self._transaction() as connection:
            for flag in flags:
                self._insert_once(connection, version_flags, flag)

    def clear_flags(self, batch: str) -> None:
        """Delete the flags that a batch caused."""
        with self._transaction() as connection:
            connection.execute(version_flags.delete().where(version_flags.c.batch == batch))

    def flags(self, model: str, version: int | None = None, batch: str | None = None) -> list[VersionFlag]:
        """Return the versions that were trained on a batch that has been withdrawn since."""
        query = sa.select(version_flags).where(version_flags.c.model == model)
        if version is not None:
            query = query.where(version_flags.c.version == version)
        if batch is not None:
            query = query.where(version_flags.c.batch == batch)
        return self._all(VersionFlag, query.order_by(version_flags.c.version, version_flags.c.flagged_at))
