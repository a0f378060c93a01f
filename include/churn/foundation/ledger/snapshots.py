"""Snapshots, and the cut-off dates of runs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from datetime import UTC, date, datetime
from typing import Any

import sqlalchemy as sa

from churn.foundation.arrival_ranges import Arrivals
from churn.foundation.ledger.database import LedgerDatabase
from churn.foundation.records import Snapshot
from churn.foundation.schema import cutoffs, decisions, score_lists, snapshots, versions

_NEWEST_FIRST = snapshots.c.made_at.desc()


class SnapshotRows(LedgerDatabase):
    """Reads and writes snapshots and cut-off dates."""

    def add_snapshot(self, snapshot: Snapshot) -> None:
        """Store a snapshot. The same rows are the same snapshot, even if they come from other batches."""
        with self._transaction() as connection:
            kept = {"batches": Arrivals.read(connection).ranges_of(snapshot.batches)}
            statement = self._insert(snapshots).values(asdict(snapshot) | kept)
            connection.execute(statement.on_conflict_do_update(index_elements=["snapshot"], set_=kept))

    def snapshot(self, snapshot: str) -> Snapshot | None:
        """Return the snapshot with this hash."""
        return self._snapshot(sa.select(snapshots).where(snapshots.c.snapshot == snapshot))

    def snapshots(self, limit: int | None = None) -> list[Snapshot]:
        """Return every snapshot, or at most this number; newest first."""
        return self._snapshots(sa.select(snapshots).order_by(_NEWEST_FIRST).limit(limit))

    def first_snapshot(self, since: datetime) -> Snapshot | None:
        """Return the first snapshot created since a time."""
        query = sa.select(snapshots).where(snapshots.c.made_at >= since).order_by(snapshots.c.made_at)
        return self._snapshot(query.limit(1))

    def last_snapshot(self, until: datetime | None = None) -> Snapshot | None:
        """Return the newest snapshot, or the newest created until a time."""
        query = sa.select(snapshots).order_by(_NEWEST_FIRST).limit(1)
        return self._snapshot(query.where(snapshots.c.made_at <= until) if until else query)

    def snapshots_named(self, chosen: Sequence[str]) -> dict[str, Snapshot]:
        """Return these snapshots, by hash."""
        rows = self._snapshots(sa.select(snapshots).where(snapshots.c.snapshot.in_(chosen)))
        return {row.snapshot: row for row in rows}

    def unused_snapshots(self, before: datetime) -> list[str]:
        """Return the snapshots taken before a time that no version was trained on, no decision compared on and no list scored, newest first."""
        used = sa.union(
            *(sa.select(column) for column in (decisions.c.snapshot, versions.c.snapshot, score_lists.c.population))
        )
        query = sa.select(snapshots.c.snapshot).where(snapshots.c.made_at < before, snapshots.c.snapshot.not_in(used))
        with self._transaction() as connection:
            return list(connection.scalars(query.order_by(_NEWEST_FIRST)).all())

    def fix_cutoff(self, night: str, cutoff: date) -> date:
        """Store the cut-off date of a run, once; returns the one that was stored first."""
        row = {"night": night, "cutoff": cutoff.isoformat(), "fixed_at": datetime.now(UTC)}
        with self._transaction() as connection:
            connection.execute(self._insert(cutoffs).values(row).on_conflict_do_nothing(index_elements=["night"]))
            return date.fromisoformat(
                connection.scalar(sa.select(cutoffs.c.cutoff).where(cutoffs.c.night == night)) or ""
            )

    def _snapshot(self, query: sa.Select[Any]) -> Snapshot | None:
        return next(iter(self._snapshots(query)), None)

    def _snapshots(self, query: sa.Select[Any]) -> list[Snapshot]:
        with self._transaction() as connection:
            rows = connection.execute(query).mappings().all()
            arrivals = Arrivals.read_for(connection, [row["batches"] for row in rows])
        return [Snapshot(**{**row, "batches": arrivals.batches_in(row["batches"])}) for row in rows]
