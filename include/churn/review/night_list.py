"""The nightly runs that reached a decision, newest first, in pages."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from churn.foundation.ledger import Ledger
from churn.foundation.records import NightRow
from churn.review.presentation import ROWS_SHOWN, interval
from churn.settings import Settings

PAGE = ROWS_SHOWN


@dataclass(frozen=True)
class NightLine:
    """A run in the list; `difference` is challenger minus champion in ROC AUC, None without a champion."""

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
    """A page of runs, newest first.

    `older` is the cursor of the next page, None at the end. `left` is a run for which another one is being chosen.
    """

    total: int
    lines: list[NightLine]
    older: str | None
    first: bool
    left: str | None = None


def load_nights(
    ledger: Ledger, settings: Settings, before: datetime | None = None, limit: int = PAGE, left: str | None = None
) -> NightList:
    """Read a page of runs.

    Args:
        ledger: the ledger.
        settings: which model.
        before: the cursor of the page; None for the newest one.
        limit: runs on the page.
        left: a run for which another one is being chosen, to compare the two.
    """
    rows = ledger.night_rows(settings.model_name, limit + 1, before)
    lines = [_make_line(row) for row in rows[:limit]]
    older = lines[-1].decided_at.isoformat() if len(rows) > limit else None
    return NightList(ledger.count_nights(settings.model_name), lines, older, before is None, left)


def _make_line(row: NightRow) -> NightLine:
    challenger = interval((row.challenger_metrics or {}).get("roc_auc"))
    champion = interval((row.champion_metrics or {}).get("roc_auc"))
    return NightLine(
        row.night,
        row.decided_at,
        row.verdict,
        row.code,
        row.sentence,
        row.dry_run,
        row.challenger,
        row.champion,
        challenger.value if challenger else None,
        challenger.value - champion.value if challenger and champion else None,
        row.rows,
        waits=row.asked and row.answer is None and not row.dry_run,
        answer=row.answer,
    )
