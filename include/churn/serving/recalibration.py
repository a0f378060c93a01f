"""A model whose probabilities are corrected by a curve that was fitted on rows that the model had not seen."""

from __future__ import annotations

from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from scipy.special import logit
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.isotonic import IsotonicRegression
from sklearn.linear_model import LogisticRegression

SIGMOID, ISOTONIC = "sigmoid", "isotonic"
_RISE = 1e-3
"""How much of the way to 0 or 1 the curve goes beyond the outer centres, so that it keeps the order there, too."""
Scores = NDArray[np.float64]


class Recalibrated(ClassifierMixin, BaseEstimator):  # type: ignore[misc]
    """A fitted model, and the curve that corrects its probabilities.

    Args:
        estimator: the fitted model.
        curve: from its scores to probabilities, by `fit_curve`.
    """

    def __init__(self, estimator: Any, curve: Any) -> None:
        self.estimator = estimator
        self.curve = curve
        self.classes_ = np.array([0, 1])

    def fit(self, rows: Any, target: Any = None) -> Self:  # noqa: ARG002 -- scikit-learn's interface
        """Change nothing: model and curve are fitted."""
        return self

    def predict_proba(self, rows: Any) -> Scores:
        """Return the probabilities of both classes, shape (rows, 2)."""
        corrected = apply_curve(self.curve, np.asarray(self.estimator.predict_proba(rows))[:, 1])
        return np.column_stack([1 - corrected, corrected])

    def predict(self, rows: Any) -> NDArray[np.int64]:
        """Return the likelier class of each row."""
        return (self.predict_proba(rows)[:, 1] > 0.5).astype("int64")  # noqa: PLR2004 -- the likelier of two

    def __sklearn_is_fitted__(self) -> bool:
        return True


def fit_curve(method: str, scores: Scores, target: NDArray[np.int64]) -> Any:
    """Fit a curve to scores of rows that the model had not seen.

    `sigmoid` is Platt's method on log-odds, with two parameters. `isotonic` is any curve that does not fall (Zadrozny and Elkan,
    Transforming Classifier Scores into Accurate Multiclass Probability Estimates, 2002), drawn through the centres of its
    steps, so that it ranks customers as the model does (Oron and Flournoy, Centered Isotonic Regression, 2017).
    """
    if method == SIGMOID:
        return LogisticRegression(C=np.inf).fit(_log_odds(scores), target)
    least = 1 / (len(scores) + 2)
    steps = IsotonicRegression(y_min=least, y_max=1 - least).fit_transform(scores, target)
    heights, step_of, sizes = np.unique(steps, return_inverse=True, return_counts=True)
    centres = np.bincount(step_of, scores) / sizes
    low, high = heights[0] * (1 - _RISE), heights[-1] + (1 - heights[-1]) * _RISE
    inner = (centres > 0) & (centres < 1)
    return IsotonicRegression().fit(
        np.concatenate([[0.0], centres[inner], [1.0]]), np.concatenate([[low], heights[inner], [high]])
    )


def apply_curve(curve: Any, scores: Scores) -> Scores:
    """Return the corrected scores."""
    if isinstance(curve, LogisticRegression):
        return np.asarray(curve.predict_proba(_log_odds(scores))[:, 1])
    return np.asarray(curve.predict(scores))


def _log_odds(scores: Scores) -> Scores:
    return np.asarray(logit(np.clip(scores, 1e-12, 1 - 1e-12)))[:, None]
