"""Metrics with standard errors, and paired differences of two models on the same rows.

Closed forms: no random numbers, the same input gives the same figures. Every metric is written as a
sum of independent groups of per-row components, so that its variance, and that of a paired
difference, is the sum over groups of variance / size.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import stats

Scores = NDArray[np.float64]
Labels = NDArray[np.int64]
CLIP = 1e-15


class Components(NamedTuple):
    """A metric's value and its per-row components, in independent groups."""

    value: float
    groups: tuple[Scores, ...]


@dataclass(frozen=True)
class Estimate:
    """A value with its standard error and the bounds of its 95 % confidence interval."""

    value: float
    standard_error: float
    lower: float
    upper: float


def roc_auc(y: Labels, scores: Scores) -> Components:
    """Area under the ROC curve with DeLong's structural components.

    DeLong, DeLong and Clarke-Pearson, Biometrics 44 (1988), computed from midranks as in Sun and Xu,
    IEEE Signal Processing Letters 21 (2014): O(n log n).
    """
    positive = y == 1
    cases, controls = int(positive.sum()), int((~positive).sum())
    ranks = stats.rankdata(scores)
    of_cases = (ranks[positive] - stats.rankdata(scores[positive])) / controls
    of_controls = 1 - (ranks[~positive] - stats.rankdata(scores[~positive])) / cases
    return Components(float(of_cases.mean()), (of_cases, of_controls))


def pr_auc(y: Labels, scores: Scores) -> Components:
    """Average precision with its linearised influence function.

    AP = E[y P(s)] / E[y], where P(t) is the precision and S(t) the share at or above threshold t.
    Its influence function follows by the delta method (Hampel, The influence curve and its role in
    robust estimation, 1974); ties share one threshold, as in scikit-learn.
    """
    rows = len(y)
    _, level = np.unique(scores, return_inverse=True)
    counts = np.bincount(level)
    events = np.bincount(level, weights=y, minlength=len(counts))
    above = counts[::-1].cumsum()[::-1] / rows
    precision = events[::-1].cumsum()[::-1] / rows / above
    prevalence = float(y.mean())
    value = float((y * precision[level]).mean() / prevalence)
    weight = (events / above).cumsum() / rows
    weighted = (events * precision / above).cumsum() / rows
    influence = (y * precision[level] + y * weight[level] - weighted[level]) / prevalence - value * y / prevalence
    return Components(value, (influence,))


def brier(y: Labels, scores: Scores) -> Components:
    """Mean squared error of the probability (Brier, 1950); smaller is better."""
    loss = (scores - y) ** 2
    return Components(float(loss.mean()), (loss,))


def log_loss(y: Labels, scores: Scores) -> Components:
    """Mean negative log-likelihood, natural logarithm; smaller is better."""
    clipped = np.clip(scores, CLIP, 1 - CLIP)
    loss = -np.where(y == 1, np.log(clipped), np.log1p(-clipped))
    return Components(float(loss.mean()), (loss,))


METRICS: dict[str, Callable[[Labels, Scores], Components]] = {
    "roc_auc": roc_auc,
    "pr_auc": pr_auc,
    "brier": brier,
    "log_loss": log_loss,
}
SMALLER_IS_BETTER = frozenset({"brier", "log_loss"})


def estimate(y: Labels, scores: Scores, metric: str) -> Estimate:
    """One model's metric.

    Args:
        y: labels 0 or 1, shape (rows,); both classes occur.
        scores: probabilities of class 1, shape (rows,).
        metric: a key of `METRICS`.
    """
    found = METRICS[metric](y, scores)
    return _interval(found.value, _standard_error(found.groups))


def paired_delta(y: Labels, a: Scores, b: Scores, metric: str) -> tuple[float, float]:
    """Difference `a - b` of a metric of two models on the same rows.

    Args:
        y: labels 0 or 1, shape (rows,); both classes occur.
        a: probabilities of the one model, shape (rows,).
        b: probabilities of the other, shape (rows,).
        metric: a key of `METRICS`.

    Returns:
        The difference and its standard error, which the pairing makes smaller; identical scores give (0, 0).
    """
    one, other = METRICS[metric](y, a), METRICS[metric](y, b)
    groups = tuple(mine - theirs for mine, theirs in zip(one.groups, other.groups, strict=True))
    return one.value - other.value, _standard_error(groups)


def paired_estimate(y: Labels, a: Scores, b: Scores, metric: str) -> Estimate:
    """`paired_delta` with its 95 % confidence interval."""
    return _interval(*paired_delta(y, a, b, metric))


def _standard_error(groups: tuple[Scores, ...]) -> float:
    return float(np.sqrt(sum(group.var(ddof=1) / len(group) for group in groups)))


def _interval(value: float, standard_error: float) -> Estimate:
    half = float(stats.norm.ppf(0.975)) * standard_error
    return Estimate(value, standard_error, value - half, value + half)
