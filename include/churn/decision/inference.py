"""Metrics with standard errors, and paired differences of two models on the same rows.

Closed forms: no random numbers, the same input gives the same figures. Every metric is written as a
sum of independent groups of per-row components, so that its variance, and that of a paired
difference, is the sum over groups of variance / size. With weights, components are deviations from the
weighted mean, scaled so that this is the variance of a ratio of weighted sums (Särndal, Swensson and
Wretman, Model Assisted Survey Sampling, 1992, section 5.7).
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
_REACH = float(stats.norm.ppf(0.975))


class Components(NamedTuple):
    """The value of a metric and its per-row components, in independent groups."""

    value: float
    groups: tuple[Scores, ...]


class Ranked(NamedTuple):
    """Scores sorted once, for every metric that needs their order.

    `order` has the rows from the lowest score on; `level` numbers the distinct scores in that order. `weights` say how many customers a
    row stands for; None if each stands for itself. All arrays have shape (rows,).
    """

    scores: Scores
    order: NDArray[np.intp]
    level: NDArray[np.int64]
    weights: Scores | None = None

    def among(self, chosen: NDArray[np.bool_]) -> Ranked:
        """The same for a subset of the rows, without sorting again."""
        order = self.order[chosen[self.order]]
        weights = None if self.weights is None else self.weights[chosen]
        return _leveled(self.scores[chosen], (np.cumsum(chosen) - 1)[order], weights)


@dataclass(frozen=True)
class Estimate:
    """A value with its standard error and the bounds of its 95% confidence interval."""

    value: float
    standard_error: float
    lower: float
    upper: float

    @classmethod
    def of(cls, value: float, standard_error: float) -> Estimate:
        """An estimate that is normal around its true value."""
        half = _REACH * standard_error
        return cls(value, standard_error, value - half, value + half)

    def interval(self, level: float) -> tuple[float, float]:
        """The bounds of a two-sided interval of another level, such as .9."""
        half = float(stats.norm.ppf(0.5 + level / 2)) * self.standard_error
        return self.value - half, self.value + half


def rank(scores: Scores | Ranked, weights: Scores | None = None) -> Ranked:
    """Sort scores, shape (rows,). Scores that are already sorted are returned as they are."""
    return scores if isinstance(scores, Ranked) else _leveled(scores, np.argsort(scores, kind="stable"), weights)


def roc_auc(y: Labels, ranked: Ranked) -> Components:
    """Area under the ROC curve with DeLong's structural components.

    DeLong, DeLong and Clarke-Pearson, Biometrics 44 (1988); from one sort, as in Sun and Xu,
    IEEE Signal Processing Letters 21 (2014): O(n log n). Tied scores count half.
    """
    event = y[ranked.order] == 1
    ordered = None if ranked.weights is None else ranked.weights[ranked.order]
    of_level = np.bincount(ranked.level, weights=ordered)
    cases = np.bincount(ranked.level, weights=event if ordered is None else event * ordered)
    controls = of_level - cases
    below = (controls.cumsum() - controls / 2) / controls.sum()  # share of controls that a case of this level beats
    above = 1 - (cases.cumsum() - cases / 2) / cases.sum()
    of_cases, of_controls = np.empty(len(y)), np.empty(len(y))
    of_cases[ranked.order], of_controls[ranked.order] = below[ranked.level], above[ranked.level]
    groups = of_cases[y == 1], of_controls[y != 1]
    if ranked.weights is None:
        return Components(float(groups[0].mean()), groups)
    left, stayed = (_mean(group, ranked.weights[y == label]) for group, label in zip(groups, (1, 0), strict=True))
    return Components(left.value, left.groups + stayed.groups)


def pr_auc(y: Labels, ranked: Ranked) -> Components:
    """Average precision with its linearised influence function.

    AP = E[y P(s)] / E[y], where P(t) is the precision and S(t) the share at or above threshold t.
    Its influence function follows by the delta method (Hampel, The influence curve and its role in
    robust estimation, 1974); ties share one threshold, as in scikit-learn.
    """
    ordered = np.ones(len(y)) if ranked.weights is None else ranked.weights[ranked.order]
    rows = float(ordered.sum())
    counts = np.bincount(ranked.level, weights=ordered)
    events = np.bincount(ranked.level, weights=y[ranked.order] * ordered)
    above = counts[::-1].cumsum()[::-1] / rows
    precision = events[::-1].cumsum()[::-1] / rows / above
    prevalence = float(events.sum() / rows)
    weight = (events / above).cumsum() / rows
    weighted = (events * precision / above).cumsum() / rows
    value = float((events * precision).sum() / rows / prevalence)
    influence = np.empty(len(y))
    event, of_row = y[ranked.order], ranked.level
    influence[ranked.order] = (event * (precision[of_row] + weight[of_row] - value) - weighted[of_row]) / prevalence
    return Components(value, (influence,) if ranked.weights is None else _mean(influence, ranked.weights).groups)


def brier(y: Labels, ranked: Ranked) -> Components:
    """Mean squared error of the probability (Brier, 1950); smaller is better."""
    return _mean((ranked.scores - y) ** 2, ranked.weights)


def log_loss(y: Labels, ranked: Ranked) -> Components:
    """Mean negative log-likelihood, natural logarithm; smaller is better."""
    clipped = np.clip(ranked.scores, CLIP, 1 - CLIP)
    return _mean(-np.log(np.where(y == 1, clipped, 1 - clipped)), ranked.weights)


def _mean(values: Scores, weights: Scores | None) -> Components:
    """A mean, and components of the same variance."""
    if weights is None:
        return Components(float(values.mean()), (values,))
    total = weights.sum()
    mean = float((weights * values).sum() / total)
    return Components(mean, (len(values) * weights * (values - mean) / total,))


METRICS: dict[str, Callable[[Labels, Ranked], Components]] = {
    "roc_auc": roc_auc,
    "pr_auc": pr_auc,
    "brier": brier,
    "log_loss": log_loss,
}


class Measured(NamedTuple):
    """A metric of two models, and the difference `first - second` on the same rows."""

    first: Estimate
    second: Estimate
    delta: Estimate


def estimate(y: Labels, scores: Scores | Ranked, metric: str) -> Estimate:
    """Estimate a metric of one model.

    Args:
        y: labels 0 or 1, shape (rows,); both classes occur.
        scores: probabilities of class 1, shape (rows,).
        metric: a key of `METRICS`.
    """
    return _estimate(METRICS[metric](y, rank(scores)))


def measure(y: Labels, a: Scores | Ranked, b: Scores | Ranked, metric: str) -> Measured:
    """Estimate a metric of both models and its paired difference. Arguments as for `paired_delta`."""
    first, second = METRICS[metric](y, rank(a)), METRICS[metric](y, rank(b))
    return Measured(_estimate(first), _estimate(second), Estimate.of(*_difference(first, second)))


def paired_delta(y: Labels, a: Scores | Ranked, b: Scores | Ranked, metric: str) -> tuple[float, float]:
    """Estimate the difference `a - b` of a metric of two models on the same rows.

    Args:
        y: labels 0 or 1, shape (rows,); both classes occur.
        a: probabilities of the first model, shape (rows,).
        b: probabilities of the second model, shape (rows,).
        metric: a key of `METRICS`.

    Returns:
        The difference and its standard error, which pairing makes smaller. Identical scores give (0, 0).
    """
    return _difference(METRICS[metric](y, rank(a)), METRICS[metric](y, rank(b)))


def _difference(first: Components, second: Components) -> tuple[float, float]:
    groups = tuple(left - right for left, right in zip(first.groups, second.groups, strict=True))
    return first.value - second.value, _standard_error(groups)


def _estimate(components: Components) -> Estimate:
    return Estimate.of(components.value, _standard_error(components.groups))


def _standard_error(groups: tuple[Scores, ...]) -> float:
    return float(np.sqrt(sum(group.var(ddof=1) / len(group) for group in groups)))


def _leveled(scores: Scores, order: NDArray[np.intp], weights: Scores | None = None) -> Ranked:
    ordered = scores[order]
    level = np.zeros(len(order), np.int64)
    np.cumsum(ordered[1:] != ordered[:-1], out=level[1:])
    return Ranked(scores, order, level, weights)
