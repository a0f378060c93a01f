"""Weighted differences, and bounds that hold however often somebody looks."""

from __future__ import annotations

import numpy as np
import pytest

from churn.decision.inference import paired_delta
from churn.outcomes.confidence import (
    Weighted,
    always_valid,
    auc_difference,
    brier_difference,
    roc_auc,
    weighted_mean,
)

ROWS = 4000


def scored(seed: int = 1) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    random = np.random.default_rng(seed)
    truth = random.normal(-1, 1.5, ROWS)
    labels = (random.random(ROWS) < 1 / (1 + np.exp(-truth))).astype(np.int64)
    first, second = (1 / (1 + np.exp(-(truth + random.normal(0, noise, ROWS)))) for noise in (0.5, 0.8))
    return labels, first.round(3), second.round(3)  # with ties


@pytest.mark.parametrize(("metric", "difference"), [("roc_auc", auc_difference), ("brier", brier_difference)])
def test_with_equal_weights_they_are_those_of_a_decision(metric: str, difference: object) -> None:
    """DeLong's standard error among them; only the divisor differs, by one row."""
    labels, first, second = scored()
    for weight in (1.0, 7.5):
        found = difference(labels, first, second, np.full(ROWS, weight))  # type: ignore[operator]
        value, error = paired_delta(labels, first, second, metric)
        assert found.value == pytest.approx(value, abs=1e-12)
        assert found.standard_error == pytest.approx(error, rel=2e-3)
        assert found.rows == pytest.approx(ROWS)


@pytest.mark.parametrize("difference", [auc_difference, brier_difference])
def test_a_weight_of_three_is_three_rows(difference: object) -> None:
    """In value; the error of three equal rows is that of one, so it is larger than that of three rows."""
    labels, first, second = scored()
    weights = np.random.default_rng(2).integers(1, 4, ROWS).astype(float)
    repeated = np.repeat(np.arange(ROWS), weights.astype(int))
    weighted = difference(labels, first, second, weights)  # type: ignore[operator]
    every = difference(labels[repeated], first[repeated], second[repeated], np.ones(len(repeated)))  # type: ignore[operator]
    assert weighted.value == pytest.approx(every.value, abs=1e-12)
    assert weighted.standard_error > every.standard_error
    assert weighted.rows < ROWS


def test_auc_of_known_rows() -> None:
    """By counting pairs: 3 of 4 in the right order, one of them tied."""
    labels, scores = np.array([1, 0, 1, 0]), np.array([0.9, 0.5, 0.5, 0.1])
    assert roc_auc(labels, scores, np.ones(4)).value == 0.875
    assert weighted_mean(np.array([1.0, 3.0]), np.array([3.0, 1.0])).value == 1.5


def test_bounds_are_valid_at_every_look() -> None:
    """Of 400 lives without any difference, with a look every 50 rows, at most about one in twenty is ever wrong on a side."""
    random = np.random.default_rng(5)
    looks = np.arange(50, 20_001, 50)
    wrong = np.zeros(2)
    for _ in range(400):
        values = random.normal(0, 1, looks[-1])
        means = values.cumsum()[looks - 1] / looks
        bounds = [always_valid(Weighted(mean, rows**-0.5, rows), 0.05) for mean, rows in zip(means, looks, strict=True)]
        wrong += [any(each.lower > 0 for each in bounds), any(each.upper < 0 for each in bounds)]
    assert (wrong / 400 <= 0.05 + 3 * np.sqrt(0.05 * 0.95 / 400)).all()
    assert wrong.sum() > 0


def test_bounds_narrow_with_rows_and_widen_with_certainty() -> None:
    widths = [
        (found := always_valid(Weighted(0.0, rows**-0.5, rows), error)).upper - found.lower
        for rows, error in ((100, 0.05), (1000, 0.05), (10_000, 0.05), (10_000, 0.01))
    ]
    assert widths[0] > widths[1] > widths[2]
    assert widths[3] > widths[2]
    assert always_valid(Weighted(0.0, 0.0, 0.0), 0.05).lower == -np.inf
