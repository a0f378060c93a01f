"""Differences of two versions on later rows, with weights, and bounds that hold however often somebody looks.

Closed forms: no random numbers, the same input gives the same figures.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import inf, log, sqrt

import numpy as np
from numpy.typing import NDArray

Scores = NDArray[np.float64]
Labels = NDArray[np.int64]
BEST_AT = 10_000
"""The number of rows at which a bound is tightest. It is valid at every number."""


@dataclass(frozen=True)
class Weighted:
    """A figure of weighted rows: its value, its standard error, and how many rows of equal weight would tell as much."""

    value: float
    standard_error: float
    rows: float


@dataclass(frozen=True)
class Bounds:
    """A lower and an upper bound. Each is wrong at any time, however often it is computed, with at most the given chance."""

    lower: float
    upper: float


def always_valid(measured: Weighted, error: float, best_at: int = BEST_AT) -> Bounds:
    """Bounds that may be looked at every night, as rows come in.

    The asymptotic confidence sequence of Waudby-Smith, Arbour, Sinha, Kennedy and Ramdas, Time-uniform central limit theory and
    asymptotic confidence sequences (Annals of Statistics 52, 2024), theorem 2.2, with the boundary of the normal mixture.

    Args:
        measured: of all rows so far.
        error: the chance that a bound is ever wrong, for each side.
        best_at: the number of rows at which the bounds are tightest; it must not depend on the rows.
    """
    both = 2 * error
    spread = (-2 * log(both) + log(-2 * log(both) + 1)) / best_at
    information = measured.rows * spread
    if information <= 0:
        return Bounds(-inf, inf)
    reach = sqrt(2 * (information + 1) / information * log(sqrt(information + 1) / both))
    half = measured.standard_error * reach
    return Bounds(measured.value - half, measured.value + half)


def brier_difference(labels: Labels, first: Scores, second: Scores, weights: Scores) -> Weighted:
    """The Brier score of the first version less that of the second; below zero, the first one is better.

    Args:
        labels: 0 or 1, shape (rows,).
        first: probabilities of the first version, shape (rows,).
        second: those of the second.
        weights: of the rows, shape (rows,).
    """
    return weighted_mean((first - labels) ** 2 - (second - labels) ** 2, weights)


def auc_difference(labels: Labels, first: Scores, second: Scores, weights: Scores) -> Weighted:
    """ROC AUC of the first version less that of the second; above zero, the first one is better.

    DeLong, DeLong and Clarke-Pearson, Biometrics 44 (1988), with weighted rows. Arguments as for `brier_difference`; both classes occur.
    """
    one, other = (_placements(labels, scores, weights) for scores in (first, second))
    return _from_placements(labels, one - other, weights)


def roc_auc(labels: Labels, scores: Scores, weights: Scores) -> Weighted:
    """ROC AUC of weighted rows; both classes occur."""
    return _from_placements(labels, _placements(labels, scores, weights), weights)


def weighted_mean(values: Scores, weights: Scores) -> Weighted:
    """A weighted mean, with the standard error of a ratio of sums (Hajek, 1971)."""
    total = float(weights.sum())
    mean = float(values @ weights / total)
    error = sqrt(float(((weights * (values - mean)) ** 2).sum())) / total
    return Weighted(mean, error, _effective(weights))


def _effective(weights: Scores) -> float:
    """How many rows of equal weight tell as much (Kish, Survey Sampling, 1965)."""
    return float(weights.sum() ** 2 / (weights @ weights))


def _placements(labels: Labels, scores: Scores, weights: Scores) -> Scores:
    """The share of the other class that each row is on the right side of; shape (rows,). Written to need little memory."""
    order = np.argsort(scores, kind="stable").astype(np.int32)
    level = np.zeros(len(order), np.int32)
    np.cumsum(_changes(scores, order), out=level[1:])
    event = labels[order] == 1
    weight = weights[order]
    placed = np.empty(len(scores))
    stayed = ~event
    for own, others in ((event, stayed), (stayed, event)):
        passed: Scores = np.bincount(level[others], weights=weight[others], minlength=level[-1] + 1).astype(
            np.float64, copy=False
        )
        half = passed / 2
        np.cumsum(passed, out=passed)
        total = passed[-1]
        passed -= half
        del half
        passed /= total
        if others is event:  # an own row that stayed is right to be below
            np.subtract(1, passed, out=passed)
        placed[order[own]] = passed[level[own]]
        del passed
    return placed


def _changes(scores: Scores, order: NDArray[np.int32]) -> NDArray[np.bool_]:
    ordered = scores[order]
    return np.asarray(ordered[1:] != ordered[:-1])


def _from_placements(labels: Labels, placed: Scores, weights: Scores) -> Weighted:
    event = labels == 1
    cases, controls = weighted_mean(placed[event], weights[event]), weighted_mean(placed[~event], weights[~event])
    error = sqrt(cases.standard_error**2 + controls.standard_error**2)
    return Weighted(cases.value, error, _effective(weights))
