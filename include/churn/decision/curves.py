"""The points of a model's ROC and calibration curves, and of its precision, recall and lift over the capacity."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import roc_curve

from churn.decision.comparison import Comparison, Evidence
from churn.decision.inference import Labels, Scores
from churn.decision.operating_point import at_capacity, capacity_curve

Curve = NDArray[np.float64]
BINS, KEPT_POINTS = 10, 60


def curves_of(
    comparison: Comparison, evidence: Evidence | None, capacity: float | None = None
) -> dict[str, Any] | None:
    """The curves of the rows that decide, as plain JSON for the ledger: few points, and no customer data.

    Args:
        comparison: what was measured.
        evidence: the scored rows.
        capacity: of the scoring policy, as a share of the customers; None if it is unknown.

    Returns:
        By role: `roc`, pairs of false and true positive rate; `calibration`, triples of predicted share, observed share and
        half its 95% interval; `capacity`, with capacity, precision, recall and lift at each point; and `at`, the same at the
        capacity of the scoring policy. None if nothing was measured.
    """
    if evidence is None or not comparison.evidence.challenger:
        return None
    y = evidence.labels[evidence.used]
    weights = None if evidence.weights is None else evidence.weights[evidence.used]
    models = {"challenger": evidence.challenger, "champion": evidence.champion}
    return {
        role: _curves(y, scores[evidence.used], capacity, weights)
        for role, scores in models.items()
        if scores is not None
    }


def thin(x: Curve, y: Curve, most: int) -> tuple[Curve, Curve]:
    """Reduce a curve to at most `most` points, evenly spaced along it."""
    if len(x) <= most:
        return x, y
    way = np.r_[0.0, np.cumsum(np.abs(np.diff(x)) + np.abs(np.diff(y)))]
    kept = np.unique(np.searchsorted(way, np.linspace(0, way[-1], most - 1)).clip(max=len(x) - 1))
    kept = np.unique(np.r_[kept, len(x) - 1])
    return x[kept], y[kept]


def in_tenths(y: Labels, scores: Scores, weights: Scores | None = None) -> tuple[Curve, Curve, Curve]:
    """Mean score, observed share and half its 95% interval, in ten bins of equal size. A weight says how many customers a row stands for.

    scikit-learn's `calibration_curve` returns no sizes of its bins, which the intervals need.
    """
    parts = [part for part in np.array_split(np.argsort(scores, kind="stable"), BINS) if len(part)]
    each = np.ones(len(y)) if weights is None else weights
    predicted = np.array([np.average(scores[part], weights=each[part]) for part in parts])
    observed = np.array([np.average(y[part], weights=each[part]) for part in parts])
    effective = [
        each[part].sum() ** 2 / (each[part] ** 2).sum() for part in parts
    ]  # rows of equal weight that say as much
    return predicted, observed, 1.96 * np.sqrt(observed * (1 - observed) / effective)


def _curves(y: Labels, scores: Scores, capacity: float | None, weights: Scores | None) -> dict[str, Any]:
    false_positives, true_positives, _ = roc_curve(y, scores, sample_weight=weights, drop_intermediate=False)
    roc = thin(false_positives, true_positives, KEPT_POINTS)
    return {
        "roc": _points(*roc),
        "calibration": _points(*in_tenths(y, scores, weights)),
        "capacity": [point.to_json() for point in capacity_curve(y, scores, weights)],
        "at": None if capacity is None else at_capacity(y, scores, capacity, weights).to_json(),
    }


def _points(*columns: Curve) -> list[list[float]]:
    return [[round(float(value), 4) for value in point] for point in zip(*columns, strict=True)]
