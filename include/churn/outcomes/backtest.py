"""What each way of promoting would have brought on the bank's own history: pure functions of scores that were made batch by batch.

A period is what arrives between two runs. Its rows are scored by the version that each way has in production at that time, which was trained
on earlier batches only.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import pairwise
from typing import Any

import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray
from sklearn.metrics import roc_auc_score

from churn.foundation import svg

OURS, ALWAYS, NEVER, POINT, MONTHLY = "ours", "always promote", "never retrain", "point estimate", "monthly retrain"
WAYS = (OURS, ALWAYS, NEVER, POINT, MONTHLY)
_LOOKS = ("challenger", "champion", "unsure")


@dataclass(frozen=True)
class Stake:
    """What a list is worth: the share of customers that can be contacted, what a kept customer is worth, cost and success rate of a contact."""

    capacity: float
    value: float
    cost: float
    success_rate: float


@dataclass(frozen=True)
class Figures:
    """How well a version did in a period: figures are None where a class is missing."""

    rows: int
    events: int
    roc_auc: float | None
    brier: float | None
    value: float | None


@dataclass(frozen=True)
class Period:
    """A period: the batch that begins it, when, and the version that each way had in production, with what it realised."""

    batch: str
    at: datetime
    versions: dict[str, int]
    figures: dict[str, Figures]


@dataclass(frozen=True)
class WayResult:
    """What a way of promoting came to: changes of production, refuted ones (ours only), means over rows, and regret against the best way."""

    way: str
    promotions: int
    refuted: int | None
    roc_auc: float | None
    brier: float | None
    value: float
    regret: float


def measure(labels: NDArray[np.int64], scores: NDArray[np.float64], stake: Stake) -> Figures:
    """How well scores did: ROC AUC, Brier score, and what contacting the customers at the capacity would have brought.

    Args:
        labels: 0 or 1, shape (rows,).
        scores: probabilities, shape (rows,).
        stake: what a list is worth.
    """
    rows, events = len(labels), int(labels.sum())
    if not rows:
        return Figures(0, 0, None, None, None)
    auc = float(roc_auc_score(labels, scores)) if 0 < events < rows else None
    chosen = np.argsort(-scores, kind="stable")[: int(stake.capacity * rows)]
    chosen = chosen[scores[chosen] * stake.success_rate * stake.value > stake.cost]
    value = float((labels[chosen] * stake.success_rate * stake.value - stake.cost).sum())
    return Figures(rows, events, auc, float(((scores - labels) ** 2).mean()), value)


def summarise(periods: Sequence[Period], refuted: int) -> list[WayResult]:
    """Compare the ways over all periods that each of them could serve.

    Args:
        periods: in order.
        refuted: the promotions of ours that later rows refuted.
    """
    totals = {way: sum(period.figures[way].value or 0.0 for period in periods) for way in WAYS}
    best = max(totals.values(), default=0.0)
    return [
        WayResult(
            way,
            _changes([period.versions[way] for period in periods]),
            refuted if way == OURS else None,
            _mean(periods, way, "roc_auc"),
            _mean(periods, way, "brier"),
            totals[way],
            best - totals[way],
        )
        for way in WAYS
    ]


def due_for_month(last: datetime, now: datetime) -> bool:
    """Whether a month has begun since the last retraining."""
    return (now.year, now.month) != (last.year, last.month)


def draw(periods: Sequence[Period]) -> Markup:
    """Draw the value that each way has brought so far, period by period, above that of never retraining."""
    base = np.cumsum([period.figures[NEVER].value or 0.0 for period in periods])
    series = []
    for place, way in enumerate(way for way in WAYS if way != NEVER):
        gained = np.cumsum([period.figures[way].value or 0.0 for period in periods]) - base
        points = [(float(value), float(value), float(value)) for value in gained]
        series.append(svg.Series(_LOOKS[place % len(_LOOKS)], points, label=way))
    labels = [
        f"{period.at:%Y-%m}" if place % max(1, len(periods) // 6) == 0 else "" for place, period in enumerate(periods)
    ]
    reading = (
        "Value of contacting the customers at the capacity, added up, above what the first version would have brought."
    )
    return svg.draw_series("backtest", "What each way of promoting would have brought", reading, series, labels)


def to_json(period: Period) -> dict[str, Any]:
    """A period as plain JSON."""
    figures = {way: vars(found) for way, found in period.figures.items()}
    return {"batch": period.batch, "at": period.at.isoformat(), "versions": period.versions, "figures": figures}


def from_json(text: Mapping[str, Any]) -> Period:
    """The inverse of `to_json`."""
    figures = {way: Figures(**found) for way, found in text["figures"].items()}
    return Period(text["batch"], datetime.fromisoformat(text["at"]), dict(text["versions"]), figures)


def _changes(versions: Sequence[int]) -> int:
    return sum(now != before for before, now in pairwise(versions)) + bool(versions)


def _mean(periods: Sequence[Period], way: str, name: str) -> float | None:
    """The mean of a figure over periods, by their rows."""
    found = [(getattr(period.figures[way], name), period.figures[way].rows) for period in periods]
    known = [(value, rows) for value, rows in found if value is not None]
    return float(np.average([value for value, _ in known], weights=[rows for _, rows in known])) if known else None
