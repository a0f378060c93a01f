"""What is in production: compare-and-set promotions, freezes of automatic promotion, and images.

The primary key of a promotion is the next sequence number of its model, so exactly one of two
processes that read the same champion inserts its row.
"""

from __future__ import annotations

from dataclasses import asdict, replace
from datetime import UTC, datetime

import sqlalchemy as sa

from churn.errors import ChurnError
from churn.foundation.ledger.database import LedgerDatabase
from churn.foundation.records import Confirmation, ImageRecord, Promotion, Thaw
from churn.foundation.schema import confirmations, images, promotions, thaws

FREEZING = ("rollback", "take_back")
"""The kinds of promotions after which automatic promotion is off until a person allows it again."""


class PromotionConflict(ChurnError):  # noqa: N818 -- the term of the domain
    """The version in production has changed since the comparison."""


class ProductionRows(LedgerDatabase):
    """Reads and writes promotions, thaws, confirmations and images."""

    def in_production(self, model: str, at: datetime | None = None) -> Promotion | None:
        """Return the promotion in force at a time (default: now); None before the first."""
        query = sa.select(promotions).where(promotions.c.model == model).order_by(promotions.c.sequence.desc()).limit(1)
        if at:
            query = query.where(promotions.c.promoted_at <= at)
        return self._one(Promotion, query)

    def promotions(self, model: str, limit: int | None = None) -> list[Promotion]:
        """Return every change of production, or at most this number; newest first."""
        query = sa.select(promotions).where(promotions.c.model == model).order_by(promotions.c.sequence.desc())
        return self._all(Promotion, query.limit(limit))

    def promote(self, change: Promotion, expected: int | None) -> Promotion:
        """Put a version into production if `expected` is still there; the commit point of a promotion.

        A run promotes once and takes back once; a repeated call returns the stored row.

        Args:
            change: the change of production; its `sequence` and `previous` are set here.
            expected: the version that the caller read as being in production; None for no version.

        Raises:
            PromotionConflict: production has changed since the caller read it.
        """
        of_model = sa.select(promotions).where(promotions.c.model == change.model)
        query = of_model.order_by(promotions.c.sequence.desc())
        with self._transaction() as connection:
            same_change = query.where(promotions.c.night == change.night, promotions.c.kind == change.kind)
            existing = connection.execute(same_change).mappings().first()
            if existing:
                return Promotion(**existing)
            last = connection.execute(query.limit(1)).mappings().first()
            current = last["version"] if last else None
            if current != expected:
                raise PromotionConflict(_describe_conflict(change, expected, current))
            row = replace(change, sequence=(last["sequence"] if last else 0) + 1, previous=current)
            inserted = connection.execute(
                self._insert(promotions)
                .values(asdict(row))
                .on_conflict_do_nothing(index_elements=["model", "sequence"])
            )
            if not inserted.rowcount:
                raise PromotionConflict(_describe_conflict(change, expected, "another version"))
            return row

    def freeze(self, model: str) -> Promotion | None:
        """Return the promotion that turned automatic promotion off; None if it is on."""
        thawed = sa.select(sa.func.coalesce(sa.func.max(thaws.c.sequence), 0)).where(thaws.c.model == model)
        query = sa.select(promotions).where(
            promotions.c.model == model,
            promotions.c.kind.in_(FREEZING),
            promotions.c.sequence > thawed.scalar_subquery(),
        )
        return self._one(Promotion, query.order_by(promotions.c.sequence.desc()).limit(1))

    def thaw(self, thaw: Thaw) -> None:
        """Allow automatic promotion again; a repeated call changes nothing."""
        with self._transaction() as connection:
            self._insert_once(connection, thaws, thaw)

    def thaws(self, model: str) -> list[Thaw]:
        """Return the occasions on which automatic promotion was allowed again, newest first."""
        return self._all(Thaw, sa.select(thaws).where(thaws.c.model == model).order_by(thaws.c.sequence.desc()))

    def confirm(self, confirmation: Confirmation) -> Confirmation:
        """Store that a very high ROC AUC is plausible for a model; the first confirmation counts, and is returned."""
        with self._transaction() as connection:
            self._insert_once(connection, confirmations, confirmation)
        return self.confirmation(confirmation.model) or confirmation

    def confirmation(self, model: str) -> Confirmation | None:
        """Return who confirmed that a very high ROC AUC is plausible for a model; None if nobody did."""
        return self._one(Confirmation, sa.select(confirmations).where(confirmations.c.model == model))

    def mark_mirrored(self, promotion: Promotion) -> None:
        """Store that the MLflow registry shows a promotion."""
        with self._transaction() as connection:
            connection.execute(
                promotions.update()
                .where(promotions.c.model == promotion.model, promotions.c.sequence == promotion.sequence)
                .where(promotions.c.mirrored_at.is_(None))
                .values(mirrored_at=datetime.now(UTC))
            )

    def record_image(self, image: ImageRecord) -> None:
        """Store the state of the image of a version; the latest record counts."""
        row = asdict(image)
        statement = self._insert(images).values(row)
        with self._transaction() as connection:
            connection.execute(statement.on_conflict_do_update(index_elements=["model", "version"], set_=row))

    def image(self, model: str, version: int) -> ImageRecord | None:
        """Return the state of the image of a version."""
        return self._one(ImageRecord, sa.select(images).where(images.c.model == model, images.c.version == version))

    def images(self, model: str) -> list[ImageRecord]:
        """Return the state of the image of every version, newest version first."""
        return self._all(
            ImageRecord, sa.select(images).where(images.c.model == model).order_by(images.c.version.desc())
        )


def _describe_conflict(change: Promotion, expected: int | None, actual: object) -> str:
    return (
        f"The change of {change.model} from {_describe(expected)} to {_describe(change.version)} was not made: "
        f"{_describe(actual)} is in production now. Nothing was changed. "
        "Check `churn status`, then start the run or the rollback again."
    )


def _describe(version: object) -> str:
    return f"version {version}" if isinstance(version, int) else str(version or "no version")
