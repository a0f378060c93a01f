"""What the views share: states, intervals, links, and numbers and durations in words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from churn.foundation.records import Promotion
from churn.foundation.wording import REVERSALS

GOOD, LOOK, BAD, UNMONITORED = "good", "look", "bad", "not monitored"
"""The states of a tile. Nothing that could not be checked is shown as good."""
ROWS_SHOWN = 20
"""Rows that a list of a page shows before it folds the rest."""
LINEAGE = 200
"""How many of the newest changes of production are read, to offer a rollback and to draw the timeline."""
IMAGE_STATES = {
    "published": (GOOD, "published", "Its answers equal the model's."),
    "not_built": (GOOD, "verified, not built", ""),
    "mismatch": (BAD, "differs from the model", ""),
    "faulty": (BAD, "not published", ""),
    "failed": (BAD, "build failed", ""),
    "pruned": (LOOK, "deleted here", "It was published, and has been deleted from this machine."),
}
"""For each state of an image in the ledger: the tile's state, the answer, and a sentence if the ledger has no detail."""
KINDS_OF_RUNS = frozenset({"promotion", "forced"})
"""The kinds of changes that a run of churn_retraining makes. Other kinds carry the id of another run, or a generated name."""
PROMOTED, WAITS, REFUSED, HELD, DRY, UNDONE, LAPSED = (
    "promoted",
    "waits",
    "refused",
    "held",
    "dry run",
    "not carried out",
    "lapsed",
)
"""What became of a verdict. A verdict is not a promotion: only the ledger's changes of production are."""
NOT_CARRIED_OUT = (
    "No promotion followed: either production has changed since the comparison, or the run was stopped early. "
    "Its run in Airflow shows which."
)
_DAY, _HOUR, _MINUTE = timedelta(days=1), timedelta(hours=1), timedelta(minutes=1)


@dataclass(frozen=True)
class Interval:
    """A value with the bounds of its 95% interval."""

    value: float
    lower: float
    upper: float


@dataclass(frozen=True)
class Link:
    """A page outside the review."""

    title: str
    url: str


@dataclass(frozen=True)
class Reign:
    """A period in which a version was in production (`version` None: nothing was). `until` is None for the current one.

    `night` is the name of a nightly run only if `of_a_night`; otherwise it is the id of another run, or a generated name.
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
    """Read an estimate from the ledger's JSON."""
    return Interval(estimate["value"], estimate["lower"], estimate["upper"]) if estimate else None


def list_reigns(changes: Sequence[Promotion]) -> list[Reign]:
    """List the periods in production, each from one change of production to the next.

    Args:
        changes: changes of production, newest first.
    """
    ends = [None, *(change.promoted_at for change in changes)]
    return [
        Reign(
            change.sequence,
            change.version,
            change.previous,
            change.promoted_at,
            end,
            change.kind,
            change.code,
            change.actor,
            change.night,
            change.reason,
            change.kind in KINDS_OF_RUNS,
        )
        for change, end in zip(changes, ends, strict=False)
    ]


def find_fate(verdict: str, asked: bool, answer: str | None, dry_run: bool, promoted: bool, waits: bool) -> str:
    """Determine what became of a verdict: one of `PROMOTED` to `LAPSED`.

    Args:
        verdict: promote or hold; a person may approve a hold too.
        asked: whether the promotion needed a person's approval.
        answer: that person's answer, if there is one.
        dry_run: whether the run was to change nothing.
        promoted: whether the ledger has a promotion by this run.
        waits: whether a person may still answer.
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


def describe_answer(answer: str) -> str:
    """Put a stored answer to an approval into words."""
    return "no answer" if answer == "expired" else answer


def describe_reversal(change: Promotion, following: Promotion | None) -> str:
    """Say when, by whom and why a promotion was rolled back; empty if it was not.

    Args:
        change: the promotion.
        following: the change of production after it.
    """
    if following is None or following.kind not in REVERSALS or following.previous != change.version:
        return ""
    by = f" by {following.actor}" if following.actor else ""
    when = f"{following.promoted_at:%Y-%m-%d %H:%M} UTC"
    return f"Version {change.version} was {REVERSALS[following.kind]}{by} on {when}: {following.reason}"


def span_words(span: timedelta) -> str:
    """Express a duration in the largest unit that fits."""
    for unit, name in ((_DAY, "day"), (_HOUR, "hour"), (_MINUTE, "minute")):
        if span >= unit:
            count = int(span / unit)
            return f"{count} {name}{'' if count == 1 else 's'}"
    return "less than a minute"


def counted(count: int, noun: str) -> str:
    """Write a number with its noun, in the plural unless the number is 1."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def encode_for_json(value: object) -> str:
    """Encode a value that JSON has no type for; a time as ISO 8601."""
    return value.isoformat() if isinstance(value, datetime) else str(value)
