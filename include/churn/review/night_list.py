"""The nights, newest first, so many on a page."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from churn.foundation.ledger import Ledger
from churn.foundation.records import NightRow
from churn.review.presentation import interval
from churn.settings import Settings

PAGE = 25


@dataclass(frozen=True)
class NightLine:
    """A night in the list; `difference` is the change of ROC AUC, None where there was nobody to compare with."""

    night: str
    decided_at: datetime
    verdict: str
    code: str
    sentence: str
    dry_run: bool
    challenger: int
    champion: int | None
    challenger_auc: float | None
    difference: float | None
    rows: int | None
    waits: bool
    answer: str | None


@dataclass(frozen=True)
class NightList:
    """A page of nights, newest first; `older` is where the next page begins, None at the end; `left` is to be compared with one of them."""

    total: int
    lines: list[NightLine]
    older: str | None
    first: bool
    left: str | None = None


def load_nights(
    ledger: Ledger, settings: Settings, before: datetime | None = None, limit: int = PAGE, left: str | None = None
) -> NightList:
    """Read a page of nights; `left` is one that another is to be chosen for."""
    rows = ledger.night_rows(settings.model_name, limit + 1, before)
    lines = [_line(row) for row in rows[:limit]]
    older = lines[-1].decided_at.isoformat() if len(rows) > limit else None
    return NightList(ledger.count_nights(settings.model_name), lines, older, before is None, left)


def _line(row: NightRow) -> NightLine:
    mine, theirs = (interval((found or {}).get("roc_auc")) for found in (row.challenger_metrics, row.champion_metrics))
    return NightLine(
        row.night,
        row.decided_at,
        row.verdict,
        row.code,
        row.sentence,
        row.dry_run,
        row.challenger,
        row.champion,
        mine.value if mine else None,
        mine.value - theirs.value if mine and theirs else None,
        row.rows,
        waits=row.asked and row.answer is None and not row.dry_run,
        answer=row.answer,
    )
