"""The lineage of production: which version a rollback returns to, and which baseline version belongs to it."""

from __future__ import annotations

from collections.abc import Container, Sequence

from churn.foundation.ledger.production import FREEZING
from churn.foundation.records import Promotion


def lineage(rows: Sequence[Promotion]) -> list[int]:
    """The versions that led to the present champion, which is the last. A rollback drops the versions that it skips.

    Args:
        rows: every change of production, newest first.
    """
    versions: list[int] = []
    for row in reversed(rows):
        if row.kind in FREEZING and (row.version is None or row.version in versions):
            versions = [] if row.version is None else versions[: versions.index(row.version) + 1]
        elif row.version is not None:
            versions.append(row.version)
    return versions


def predecessor(rows: Sequence[Promotion], existing: Container[int] | None = None) -> int | None:
    """The version that a rollback returns to: the last one before the present champion; None if there is none.

    Args:
        rows: every change of production, newest first.
        existing: the versions that still exist; None counts all.
    """
    versions = lineage(rows)
    earlier = [version for version in versions if version != versions[-1] and (existing is None or version in existing)]
    return earlier[-1] if earlier else None


def anchor_with(version: int | None, rows: Sequence[Promotion]) -> int | None:
    """The baseline version that was valid when a version was last in production."""
    return next((row.anchor for row in rows if version is not None and row.version == version), None)
