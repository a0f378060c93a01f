"""How well a version does on rows that came later, with intervals, and whether a held challenger would have done better."""

from __future__ import annotations

from math import sqrt
from typing import Any

import numpy as np
from scipy import stats

from churn.outcomes.confidence import Weighted, auc_difference, brier_difference, roc_auc, weighted_mean
from churn.outcomes.confirmation import LaterRows

FEWEST_ROWS, FEWEST_EVENTS = 200, 30
"""With fewer, no figure is given; the page says how many are missing."""
_LEVEL = 0.95


def measure_health(rows: LaterRows) -> dict[str, Any]:
    """ROC AUC, Brier score, and observed divided by expected events of a version, each with its 95% interval, as plain JSON.

    Args:
        rows: of one version, which is first and second.
    """
    missing = missing_rows(rows)
    found: dict[str, Any] = {
        "rows": len(rows.labels),
        "events": rows.events,
        "missing": missing,
        "contacted": rows.contacted,
        "excluded": rows.excluded,
    }
    if missing["rows"] or missing["events"]:
        return found
    labels, scores, weights = rows.labels, rows.first, rows.weights
    found["roc_auc"] = _interval(roc_auc(labels, scores, weights))
    found["brier"] = _interval(weighted_mean((scores - labels) ** 2, weights))
    found["observed_expected"] = _observed_expected(rows)
    found["calibration"] = _calibration(rows)
    return found


def missing_rows(rows: LaterRows) -> dict[str, int]:
    """How many rows, and rows of the rarer class, are missing until figures are given."""
    rarer = min(rows.events, len(rows.labels) - rows.events)
    return {"rows": max(0, FEWEST_ROWS - len(rows.labels)), "events": max(0, FEWEST_EVENTS - rarer)}


def measure_shadow(version: int, rows: LaterRows, number: int) -> dict[str, Any]:
    """How much better a held challenger did than the champion, with intervals adjusted for the number of challengers (Bonferroni).

    Args:
        version: the challenger.
        rows: first the challenger, second the champion.
        number: of challengers.
    """
    found: dict[str, Any] = {
        "version": version,
        "rows": len(rows.labels),
        "events": rows.events,
        "missing": missing_rows(rows),
    }
    if any(found["missing"].values()):
        return found
    level = 1 - (1 - _LEVEL) / max(number, 1)
    arguments = (rows.labels, rows.first, rows.second, rows.weights)
    found["roc_auc"] = _interval(auc_difference(*arguments), level)
    brier = brier_difference(*arguments)
    found["brier"] = _interval(Weighted(-brier.value, brier.standard_error, brier.rows), level)
    found["better"] = found["roc_auc"]["lower"] > 0 and found["brier"]["lower"] > 0
    return found


def _interval(measured: Weighted, level: float = _LEVEL) -> dict[str, float]:
    half = float(stats.norm.ppf(0.5 + level / 2)) * measured.standard_error
    return {"value": measured.value, "lower": measured.value - half, "upper": measured.value + half}


def _observed_expected(rows: LaterRows) -> dict[str, float]:
    """The ratio of two weighted means, with its standard error by the delta method."""
    labels, scores, weights = rows.labels.astype(np.float64), rows.first, rows.weights
    observed, expected = float(weights @ labels), float(weights @ scores)
    ratio = observed / expected
    error = sqrt(float(((weights * (labels - ratio * scores)) ** 2).sum())) / expected
    return _interval(Weighted(ratio, error, float(len(labels))))


def _calibration(rows: LaterRows, groups: int = 10) -> list[dict[str, float]]:
    """Mean score and share of events of ten groups of rows by score."""
    order = np.argsort(rows.first, kind="stable")
    return [
        {
            "rows": len(part),
            "score": float(np.average(rows.first[part], weights=rows.weights[part])),
            "observed": float(np.average(rows.labels[part], weights=rows.weights[part])),
        }
        for part in np.array_split(order, groups)
        if len(part)
    ]
