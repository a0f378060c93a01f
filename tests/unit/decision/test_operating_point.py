"""Precision, recall and lift where the bank acts: among the customers with the highest scores, as many as it can contact."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import precision_score, recall_score

from churn.decision.operating_point import SHARES, OperatingPoint, at_capacity, capacity_curve, within_capacity

TARGET = np.array([1, 0, 1, 0, 0, 1, 0, 0, 0, 0])
SCORES = np.array([0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3, 0.2, 0.1, 0.05])


def test_the_figures_by_hand() -> None:
    """Of ten customers the first four are within the capacity, and two of the three leavers are among them."""
    assert at_capacity(TARGET, SCORES, 0.4) == OperatingPoint(0.4, 0.5, pytest.approx(2 / 3), pytest.approx(0.5 / 0.3))


def test_without_capacity_or_events_a_figure_is_unknown() -> None:
    assert at_capacity(TARGET, SCORES, 0.05) == OperatingPoint(0.05, None, 0.0, None)
    assert at_capacity(np.zeros(10, np.int64), SCORES, 0.5) == OperatingPoint(0.5, 0.0, None, None)


@given(st.lists(st.tuples(st.integers(0, 1), st.floats(0, 1)), min_size=1, max_size=60), st.floats(0, 1))
def test_the_figures_are_those_of_scikit_learn(rows: list[tuple[int, float]], share: float) -> None:
    """With the customers within the capacity as the flagged ones."""
    target, scores = np.array([label for label, _ in rows]), np.array([score for _, score in rows])
    chosen = within_capacity(scores, share)
    assert chosen.sum() <= share * len(rows) + 1e-6
    if chosen.any() and not chosen.all():
        assert scores[chosen].min() >= scores[~chosen].max()
    point = at_capacity(target, scores, share)
    if chosen.any():
        assert point.precision == pytest.approx(precision_score(target, chosen, zero_division=0))
    if target.any():
        assert point.recall == pytest.approx(recall_score(target, chosen))


def test_the_curve_ends_with_everybody() -> None:
    """Then every leaver is found, and the lift is 1."""
    curve = capacity_curve(TARGET, SCORES)
    assert [point.capacity for point in curve] == list(SHARES)
    assert curve[-1] == OperatingPoint(1.0, pytest.approx(0.3), 1.0, pytest.approx(1.0))
    recalls = [point.recall for point in curve]
    assert recalls == sorted(recalls)
