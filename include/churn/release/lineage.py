"""The way back: which version was in production before this one, and which anchor went with it."""

from __future__ import annotations

from collections.abc import Sequence

from churn.foundation.ledger.production import FREEZING
from churn.foundation.records import Promotion


def lineage(rows: Sequence[Promotion]) -> list[int]:
    """The versions on the way to the present champion, which is the last; a way back drops what was passed.

    Args:
        rows: every change of production, newest first.
    """
    way: list[int] = []
    for row in reversed(rows):
        if row.kind in FREEZING and (row.version is None or row.version in way):
            way = [] if row.version is None else way[: way.index(row.version) + 1]
        elif row.version is not None:
            way.append(row.version)
    return way


def predecessor(rows: Sequence[Promotion]) -> int | None:
    """The version that a rollback goes to: before the present champion on the way, None if there is none."""
    way = lineage(rows)
    earlier = [version for version in way if version != way[-1]] if way else []
    return earlier[-1] if earlier else None


def anchor_with(version: int | None, rows: Sequence[Promotion]) -> int | None:
    """The anchor that was in force when a version was last in production."""
    return next((row.anchor for row in rows if version is not None and row.version == version), None)
