"""Are a model's probabilities right? Slope and observed / expected, with standard errors in closed form."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.special import expit

from churn.decision.inference import CLIP, Estimate, Labels, Ranked, Scores

STEPS, ENOUGH = 200, 1e-9
_BINS = 10


@dataclass(frozen=True)
class Calibration:
    """Both are 1 where the probabilities are right."""

    slope: Estimate
    observed_expected: Estimate


def calibrate(y: Labels, scores: Scores, weights: Scores | None = None) -> Calibration | None:
    """Calibration slope and the ratio of observed to expected events.

    The slope is that of a logistic regression of the label on the score's logit (Cox, Biometrika 45,
    1958), fitted by Newton's method, its variance the inverse of the information. The ratio's variance is that of
    its linearised influence function. With weights, the likelihood is weighted, and the slope's variance is the robust one (Binder,
    International Statistical Review 51, 1983).

    Args:
        y: labels 0 or 1, shape (rows,); both classes occur.
        scores: probabilities of class 1, shape (rows,).
        weights: how many customers a row stands for, shape (rows,); None if each stands for itself.

    Returns:
        None where there is no such fit: the scores part the classes, completely or nearly.
    """
    logit = np.log(np.clip(scores, CLIP, 1 - CLIP)) - np.log1p(-np.clip(scores, CLIP, 1 - CLIP))
    each = np.ones(len(y)) if weights is None else weights * (len(y) / weights.sum())
    slope = _slope(y, logit, each, robust=weights is not None)
    if slope is None:
        return None
    expected = float((each * scores).mean())
    ratio = float((each * y).mean()) / expected
    influence = each * (y - ratio * scores) / expected
    return Calibration(slope, Estimate.of(ratio, float(influence.std(ddof=1) / np.sqrt(len(y)))))


def expected_calibration_error(y: Labels, ranked: Ranked) -> float:
    """Mean distance of predicted from observed share over ten bins of equal size (Naeini et al., AAAI 2015)."""
    parts = [part for part in np.array_split(ranked.order, _BINS) if len(part)]
    weights = np.ones(len(y)) if ranked.weights is None else ranked.weights
    gaps = [abs(float((weights[part] * (y[part] - ranked.scores[part])).sum())) for part in parts]
    return float(sum(gaps) / weights.sum())


def _slope(y: Labels, logit: Scores, each: Scores, robust: bool) -> Estimate | None:
    """Newton's method with damped steps: the likelihood is concave, and no step can overshoot.

    The damping is that of Sun and Tran-Dinh, Mathematical Programming 178 (2019).
    """
    low, high = logit.min(), logit.max()
    left, stayed = logit[y == 1], logit[y != 1]
    if left.min() >= stayed.max() or left.max() <= stayed.min():
        return None  # parted completely, or constant
    intercept, slope = 0.0, 1.0
    for _ in range(STEPS):
        fitted = expit(intercept + slope * logit)
        weight = each * fitted * (1 - fitted)
        a, b, c = weight.sum(), (weight * logit).sum(), (weight * logit**2).sum()
        determinant = a * c - b * b
        if not determinant > 0:
            return None
        left_over = each * (y - fitted)
        gradient, weighted = left_over.sum(), (left_over * logit).sum()
        up, step = (c * gradient - b * weighted) / determinant, (a * weighted - b * gradient) / determinant
        furthest = max(abs(up + step * low), abs(up + step * high))
        damping = np.log1p(furthest) / furthest if furthest else 1.0
        intercept += damping * up
        slope += damping * step
        if furthest < ENOUGH:
            variance = ((left_over * (a * logit - b)) ** 2).sum() / determinant**2 if robust else a / determinant
            return Estimate.of(float(slope), float(np.sqrt(variance)))
    return None
