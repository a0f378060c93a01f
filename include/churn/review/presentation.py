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
OF_A_NIGHT = frozenset({"promotion", "forced"})
"""The kinds of changes that a night of churn_retraining makes; the others bear the id of another run, or a name of their own."""
PROMOTED, WAITS, REFUSED, HELD, DRY, UNDONE, LAPSED = (
    "promoted",
    "waits",
    "refused",
    "held",
    "dry run",
    "not carried out",
    "lapsed",
)
"""What became of a verdict. A verdict is no promotion yet: that is what the ledger's changes of production say."""
NOT_CARRIED_OUT = "No promotion followed: production is not what was compared with any more, or the run was ended before. Its run in Airflow says which."
TAKEN_AWAY = {"rollback": "rolled back", "take_back": "taken back"}
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
    """A version's time in production (None: nothing was); `until` is None for the present one.

    `night` is one only if `of_a_night`: else the id of another run, or a name.
    """

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
    of_a_night: bool


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
            row.kind in OF_A_NIGHT,
        )
        for row, end in zip(rows, ends, strict=False)
    ]


def fate_of(verdict: str, asked: bool, answer: str | None, dry_run: bool, promoted: bool, waits: bool) -> str:
    """What became of a verdict: one of the words above.

    Args:
        verdict: promote or hold; a person may approve a hold too.
        asked: whether a person had to agree.
        answer: what they said.
        dry_run: nothing was to be changed.
        promoted: the ledger has a promotion of this night.
        waits: a person may still answer.
    """
    if promoted:
        return PROMOTED
    if dry_run:
        return DRY
    if answer == "approved" or (verdict == "promote" and not asked):
        return UNDONE
    if verdict == "hold":
        return HELD
    if answer:
        return REFUSED
    return WAITS if waits else LAPSED


def taken_away(change: Promotion, after: Promotion | None) -> str:
    """That a version is in production no more since it was taken back or rolled back; empty if it was not."""
    if after is None or after.kind not in TAKEN_AWAY or after.previous != change.version:
        return ""
    by = f" by {after.actor}" if after.actor else ""
    return f"Version {change.version} was {TAKEN_AWAY[after.kind]} on {after.promoted_at:%Y-%m-%d %H:%M} UTC{by}: {after.reason}"


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
