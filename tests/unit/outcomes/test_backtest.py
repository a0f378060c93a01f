"""What each way of promoting would have brought: pure functions."""

from __future__ import annotations

import json
from datetime import UTC, datetime

import numpy as np
import pytest

from churn.outcomes.backtest import (
    ALWAYS,
    NEVER,
    OURS,
    WAYS,
    Figures,
    Period,
    Stake,
    draw,
    due_for_month,
    from_json,
    measure,
    summarise,
    to_json,
)

STAKE = Stake(capacity=0.5, value=100.0, cost=10.0, success_rate=0.5)
JANUARY = datetime(2026, 1, 5, tzinfo=UTC)


def test_the_value_is_that_of_the_customers_at_the_capacity() -> None:
    """Half of four are contacted, one of them would have left: 100 x .5 - 2 x 10. Who is not worth the cost is not contacted."""
    labels, scores = np.array([1, 0, 0, 1]), np.array([0.9, 0.8, 0.3, 0.1])
    found = measure(labels, scores, STAKE)
    assert (found.rows, found.events, found.value) == (4, 2, 30.0)
    assert found.roc_auc == 0.5
    assert found.brier == pytest.approx((0.01 + 0.64 + 0.09 + 0.81) / 4)
    assert measure(labels, scores / 10, STAKE).value == 0.0
    assert measure(np.zeros(3, np.int64), np.ones(3) / 2, STAKE).roc_auc is None
    assert measure(np.zeros(0, np.int64), np.zeros(0), STAKE) == Figures(0, 0, None, None, None)


def period(day: int, versions: dict[str, int], values: dict[str, float]) -> Period:
    figures = {way: Figures(100, 20, 0.8, 0.15, values.get(way, 10.0)) for way in WAYS}
    return Period(f"batch {day}", JANUARY.replace(day=day), dict.fromkeys(WAYS, 1) | versions, figures)


def test_ways_are_compared_by_promotions_value_and_regret() -> None:
    periods = [
        period(5, {}, {}),
        period(6, {OURS: 2, ALWAYS: 2}, {OURS: 30.0, ALWAYS: 20.0}),
        period(7, {OURS: 2, ALWAYS: 3}, {OURS: 30.0, ALWAYS: 50.0}),
    ]
    found = {way.way: way for way in summarise(periods, refuted=1)}
    assert (found[OURS].promotions, found[OURS].refuted, found[OURS].value, found[OURS].regret) == (2, 1, 70.0, 10.0)
    assert (found[ALWAYS].promotions, found[ALWAYS].refuted, found[ALWAYS].regret) == (3, None, 0.0)
    assert found[NEVER].promotions == 1
    assert found[OURS].roc_auc == pytest.approx(0.8)
    picture = str(draw(periods))
    assert picture.startswith("<svg")
    assert OURS in picture
    assert [from_json(json.loads(json.dumps(to_json(each)))) for each in periods] == periods


def test_a_month_begins() -> None:
    assert not due_for_month(JANUARY, JANUARY.replace(day=31))
    assert due_for_month(JANUARY.replace(day=31), JANUARY.replace(month=2, day=1))
