"""What the views have in common: intervals, links, and a time in words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from churn.foundation.records import Promotion

GOOD, LOOK, BAD, UNMONITORED = "good", "look", "bad", "not monitored"
"""The states of a tile: nothing is shown as good that was not looked at."""
LINEAGE = 200
"""So many changes of production are read: for the way back, and for who was in production when."""
IMAGE_STATES = {
    "published": (GOOD, "published", "Its answers are the model's."),
    "not_built": (GOOD, "verified, not built", "No container engine; the same service gave the model's answers."),
    "mismatch": (BAD, "not the model", ""),
    "faulty": (BAD, "not published", ""),
    "failed": (BAD, "could not be built", ""),
    "pruned": (LOOK, "removed here", "It was published, and is removed on this machine."),
}
KIND_WORDS = {
    "promotion": "promoted",
    "forced": "promoted by force",
    "rollback": "brought back",
    "take_back": "brought back, since the version before was taken back",
    "adopted": "adopted from MLflow",
}
_DAY, _HOUR, _MINUTE = timedelta(days=1), timedelta(hours=1), timedelta(minutes=1)


@dataclass(frozen=True)
class Interval:
    """A value with the bounds of its 95 % interval."""

    value: float
    lower: float
    upper: float


@dataclass(frozen=True)
class Link:
    """A page elsewhere."""

    title: str
    url: str


@dataclass(frozen=True)
class Reign:
    """A version's time in production (None: nothing was); `until` is None for the present one."""

    sequence: int
    version: int | None
    previous: int | None
    since: datetime
    until: datetime | None
    kind: str
    code: str
    actor: str
    night: str
    reason: str


def interval(estimate: Mapping[str, Any] | None) -> Interval | None:
    """An estimate of the ledger's JSON."""
    return Interval(estimate["value"], estimate["lower"], estimate["upper"]) if estimate else None


def reigns(rows: Sequence[Promotion]) -> list[Reign]:
    """From each change of production to the next.

    Args:
        rows: changes of production, the newest first.
    """
    ends = [None, *(row.promoted_at for row in rows)]
    return [
        Reign(
            row.sequence,
            row.version,
            row.previous,
            row.promoted_at,
            end,
            row.kind,
            row.code,
            row.actor,
            row.night,
            row.reason,
        )
        for row, end in zip(rows, ends, strict=False)
    ]


def span_words(span: timedelta) -> str:
    """How long, in the largest unit that fits."""
    for unit, name in ((_DAY, "day"), (_HOUR, "hour"), (_MINUTE, "minute")):
        if span >= unit:
            count = int(span / unit)
            return f"{count} {name}{'' if count == 1 else 's'}"
    return "less than a minute"


def counted(count: int, noun: str) -> str:
    """A number with its noun."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def plain(value: object) -> str:
    """What JSON has no form for: a time as ISO 8601."""
    return value.isoformat() if isinstance(value, datetime) else str(value)
