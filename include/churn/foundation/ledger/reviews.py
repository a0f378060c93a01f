"""The queries of the review: newest first and in pages, each served by an index, so that none slows down as the history grows."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

import sqlalchemy as sa

from churn.foundation.ledger.database import LedgerDatabase
from churn.foundation.records import (
    Batch,
    Drift,
    ImageRecord,
    NightRow,
    Promotion,
    Sighting,
    VersionRecord,
    Withdrawal,
)
from churn.foundation.schema import (
    approvals,
    batches,
    decisions,
    drifts,
    images,
    looks,
    promotions,
    sightings,
    versions,
    withdrawals,
)

_PLAIN = ("night", "challenger", "champion", "verdict", "code", "sentence", "dry_run", "decided_at", "requested_by")


class ReviewRows(LedgerDatabase):
    """Reads pages of runs and batches, and the records that belong to the rows of a page."""

    def night_rows(self, model: str, limit: int, before: datetime | None = None) -> list[NightRow]:
        """Return decisions on a model without their evidence, newest first; `before` is the time of the last row of the previous page."""
        measured = decisions.c.comparison["evidence"]
        query = (
            sa.select(
                *(decisions.c[name] for name in _PLAIN),
                decisions.c.approval.label("asked"),
                approvals.c.answer,
                measured["rows"].label("rows"),
                measured["challenger"].label("challenger_metrics"),
                measured["champion"].label("champion_metrics"),
            )
            .outerjoin(approvals, approvals.c.night == decisions.c.night)
            .where(decisions.c.model == model)
            .order_by(decisions.c.decided_at.desc())
            .limit(limit)
        )
        return self._all(NightRow, query.where(decisions.c.decided_at < before) if before else query)

    def count_nights(self, model: str) -> int:
        """Return the number of decisions on a model."""
        return self._count(sa.select(sa.func.count()).select_from(decisions).where(decisions.c.model == model))

    def count_batches(self, state: str | None = None) -> int:
        """Return the number of batches, or of those in a state."""
        query = sa.select(sa.func.count()).select_from(batches)
        return self._count(query.where(batches.c.state == state) if state else query)

    def newest_batches(self, limit: int, before: int | None = None) -> list[Batch]:
        """Return batches by the number of their arrival, newest first; `before` is the number of the last batch of the previous page."""
        query = sa.select(batches).order_by(batches.c.arrival.desc()).limit(limit)
        return self._all(Batch, query.where(batches.c.arrival < before) if before is not None else query)

    def last_judged(self) -> Batch | None:
        """Return the batch that was judged last."""
        query = sa.select(batches).where(batches.c.judged_at.is_not(None)).order_by(batches.c.judged_at.desc())
        return self._one(Batch, query.limit(1))

    def drifts_of(self, chosen: Sequence[str]) -> dict[str, list[Drift]]:
        """Return the drift of the columns of these batches, by batch; batches without a history to compare with are left out."""
        names = [column.name for column in drifts.c if column.name != "batch"]
        query = sa.select(drifts).where(drifts.c.batch.in_(chosen)).order_by(drifts.c.batch, drifts.c.column)
        by_batch: dict[str, list[Drift]] = {}
        with self._transaction() as connection:
            for row in connection.execute(query).mappings():
                by_batch.setdefault(row["batch"], []).append(Drift(**{name: row[name] for name in names}))
        return by_batch

    def sightings_of(self, chosen: Sequence[str]) -> list[Sighting]:
        """Return the sightings of these batches in landing, in the order of arrival."""
        query = sa.select(sightings).where(sightings.c.batch.in_(chosen))
        return self._all(Sighting, query.order_by(sightings.c.seen_at))

    def withdrawals_of(self, chosen: Sequence[str]) -> list[Withdrawal]:
        """Return the withdrawals and restorations of these batches, in order."""
        query = sa.select(withdrawals).where(withdrawals.c.batch.in_(chosen))
        return self._all(Withdrawal, query.order_by(withdrawals.c.batch, withdrawals.c.sequence))

    def versions_numbered(self, model: str, chosen: Sequence[int]) -> dict[int, VersionRecord]:
        """Return the records of these versions, by number."""
        query = sa.select(versions).where(versions.c.model == model, versions.c.version.in_(chosen))
        return {row.version: row for row in self._all(VersionRecord, query)}

    def promotions_of(self, model: str, night: str) -> list[Promotion]:
        """Return the changes of production that a run made, in order."""
        query = sa.select(promotions).where(promotions.c.model == model, promotions.c.night == night)
        return self._all(Promotion, query.order_by(promotions.c.sequence))

    def promotion_after(self, change: Promotion) -> Promotion | None:
        """Return the change of production that followed this one."""
        query = sa.select(promotions).where(promotions.c.model == change.model, promotions.c.sequence > change.sequence)
        return self._one(Promotion, query.order_by(promotions.c.sequence).limit(1))

    def images_page(self, model: str, limit: int, before: int | None = None) -> list[ImageRecord]:
        """Return images by version, newest first; `before` is the last version of the previous page."""
        query = sa.select(images).where(images.c.model == model).order_by(images.c.version.desc()).limit(limit)
        return self._all(ImageRecord, query.where(images.c.version < before) if before is not None else query)

    def reigns_of(self, model: str, chosen: Sequence[int]) -> dict[int, list[tuple[datetime, datetime | None]]]:
        """Return the periods of these versions in production, newest first: (since, until), where `until` is None for a current one."""
        after = promotions.alias()
        query = (
            sa.select(promotions.c.version, promotions.c.promoted_at, after.c.promoted_at)
            .outerjoin(
                after, sa.and_(after.c.model == promotions.c.model, after.c.sequence == promotions.c.sequence + 1)
            )
            .where(promotions.c.model == model, promotions.c.version.in_(chosen))
            .order_by(promotions.c.sequence.desc())
        )
        periods: dict[int, list[tuple[datetime, datetime | None]]] = {}
        with self._transaction() as connection:
            for version, since, until in connection.execute(query):
                periods.setdefault(version, []).append((since, until))
        return periods

    def looks_by_position(self, model: str, epoch: int, since: datetime, until: datetime) -> dict[int, int]:
        """Return the number of looks at a champion between two times, by position within their calendar night."""
        query = (
            sa.select(looks.c.position, sa.func.count())
            .where(looks.c.model == model, looks.c.epoch == epoch, looks.c.taken_at.between(since, until))
            .group_by(looks.c.position)
        )
        with self._transaction() as connection:
            return {row[0]: row[1] for row in connection.execute(query)}

    def _count(self, query: sa.Select[int]) -> int:
        with self._transaction() as connection:
            return connection.scalar(query) or 0
