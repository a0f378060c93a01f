"""Curves that correct probabilities, and keep the order of the customers."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.special import expit

from churn.serving.recalibration import ISOTONIC, SIGMOID, Recalibrated, apply_curve, fit_curve

RNG = np.random.default_rng(2)
LOGITS = RNG.normal(-1, 1.5, 20_000)
TARGET = (RNG.random(len(LOGITS)) < expit(LOGITS)).astype("int64")


class TooExtreme:
    def predict_proba(self, rows: np.ndarray) -> np.ndarray:
        scores = expit(3 * rows)
        return np.column_stack([1 - scores, scores])


@pytest.mark.parametrize("method", [SIGMOID, ISOTONIC])
def test_a_curve_restores_probabilities_and_keeps_the_order(method: str) -> None:
    """The true probabilities are found again within .03 on average; no two different scores become equal."""
    curve = fit_curve(method, expit(3 * LOGITS), TARGET)
    corrected = apply_curve(curve, expit(3 * LOGITS))
    assert np.abs(corrected - expit(LOGITS)).mean() < 0.03
    scores = np.linspace(0.001, 0.999, 500)
    assert (np.diff(apply_curve(curve, scores)) > 0).all()
    assert ((corrected > 0) & (corrected < 1)).all()


@pytest.mark.parametrize("scores", [np.full(50, 0.2), np.r_[np.zeros(25), np.ones(25)]], ids=["constant", "certain"])
@pytest.mark.parametrize("method", [SIGMOID, ISOTONIC])
def test_scores_without_a_shape_give_a_curve_too(method: str, scores: np.ndarray) -> None:
    target = np.tile([0, 0, 0, 0, 1], 10)
    corrected = apply_curve(fit_curve(method, scores, target), scores)
    assert np.isfinite(corrected).all()
    np.testing.assert_allclose(corrected, 0.2, atol=0.01)


def test_a_recalibrated_model_returns_both_classes() -> None:
    model = Recalibrated(TooExtreme(), fit_curve(SIGMOID, expit(3 * LOGITS), TARGET))
    probabilities = model.predict_proba(LOGITS)
    np.testing.assert_allclose(probabilities.sum(axis=1), 1)
    assert list(model.classes_) == [0, 1]
    np.testing.assert_array_equal(model.predict(LOGITS), (probabilities[:, 1] > 0.5).astype(int))
