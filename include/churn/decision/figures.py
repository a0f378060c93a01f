"""Draws a comparison: differences first, then slices, curves, scores, and the runs before.

Only what was measured is drawn. The charts are those of the review (`foundation.svg`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple

import numpy as np
from markupsafe import Markup
from sklearn.metrics import precision_recall_curve, roc_curve

from churn.contract import CHURNED, EventNames
from churn.decision.comparison import Comparison, Evidence
from churn.decision.curves import in_tenths, thin
from churn.decision.formatting import METRIC_NAMES, SMALLER_IS_BETTER, caption, difference
from churn.decision.inference import Estimate, Labels, Scores
from churn.decision.policy import Verdict
from churn.decision.slices import Slice
from churn.foundation.svg import Curve, Mark, Series, draw_curves, draw_histograms, draw_intervals, draw_series

HARM = -0.02
MOST_RUNS, MOST_POINTS, MOST_SLICES = 30, 200, 20
_SCORE_BINS, _LONGEST_LABEL = 40, 34


@dataclass(frozen=True)
class PastRun:
    """One decision in the history. The ROC AUCs are None if nothing was measured."""

    night: str
    decided_at: datetime
    verdict: str
    code: str
    challenger: int
    champion: int | None
    challenger_auc: Estimate | None
    champion_auc: Estimate | None


class _Model(NamedTuple):
    """A model in the charts: its role, which is its CSS class, and its scores."""

    role: str
    scores: Scores


def draw_figures(
    comparison: Comparison,
    evidence: Evidence | None,
    past: Sequence[PastRun],
    harm: float = HARM,
    names: EventNames = CHURNED,
) -> dict[str, Markup]:
    """Draw what was measured, by title. Pure.

    Args:
        comparison: what was measured.
        evidence: the scored rows; without them there are no curves.
        past: earlier decisions in any order, of which the newest `MOST_RUNS` are shown.
        harm: the change of ROC AUC below which a slice counts as harmed.
        names: what people call the event and its opposite.

    Returns:
        Of `differences`, `slices`, `roc`, `precision_recall`, `calibration`, `scores` and `history`, those that can be drawn.
    """
    drawn = {}
    if comparison.evidence.deltas:
        drawn["differences"] = draw_intervals("differences", *caption("differences"), _metric_marks(comparison))
    if comparison.slices:
        drawn["slices"] = draw_intervals("slices", *caption("slices"), _slice_marks(comparison.slices, harm))
    if comparison.evidence.challenger and evidence is not None:
        drawn |= _draw_models(evidence.labels[evidence.used], _models(evidence), names, _weights(evidence))
    shown = sorted(past, key=lambda run: run.decided_at)[-MOST_RUNS:]
    if any(run.challenger_auc or run.champion_auc for run in shown):
        drawn["history"] = _draw_history(shown)
    return drawn


def _models(evidence: Evidence) -> list[_Model]:
    scores = {"champion": evidence.champion, "challenger": evidence.challenger}
    return [_Model(role, scored[evidence.used]) for role, scored in scores.items() if scored is not None]


def _weights(evidence: Evidence) -> Scores | None:
    return None if evidence.weights is None else evidence.weights[evidence.used]


def _draw_models(y: Labels, models: list[_Model], names: EventNames, weights: Scores | None) -> dict[str, Markup]:
    roc, precision_recall, calibration = [], [], []
    for role, scores in models:
        false_positives, true_positives, _ = roc_curve(y, scores, sample_weight=weights, drop_intermediate=False)
        precision, recall, _ = precision_recall_curve(y, scores, sample_weight=weights)
        roc.append(Curve(role, list(zip(*thin(false_positives, true_positives, MOST_POINTS), strict=True))))
        precision_recall.append(Curve(role, list(zip(*thin(recall[::-1], precision[::-1], MOST_POINTS), strict=True))))
        predicted, observed, reach = in_tenths(y, scores, weights)
        calibration.append(Curve(role, list(zip(predicted, observed, strict=True)), list(reach)))
    share = float(np.average(y, weights=weights))
    no_skill = ((0.0, share), (1.0, share))
    return {
        "roc": draw_curves("roc", *caption("roc", names), roc, ("false positive rate", "true positive rate")),
        "precision_recall": draw_curves(
            "precision_recall", *caption("precision_recall", names), precision_recall, ("recall", "precision"), no_skill
        ),
        "calibration": draw_curves(
            "calibration",
            *caption("calibration"),
            calibration,
            ("predicted probability", f"observed share that {names.event}"),
        ),
        "scores": _draw_scores(y, models, names, weights),
    }


def _draw_scores(y: Labels, models: list[_Model], names: EventNames, weights: Scores | None) -> Markup:
    edges, each = np.linspace(0, 1, _SCORE_BINS + 1), np.ones(len(y)) if weights is None else weights
    panels = []
    for label, outcome in ((0, names.non_event), (1, names.event)):
        chosen = y == label
        total = each[chosen].sum()
        shares = {role: np.histogram(scores[chosen], edges, weights=each[chosen])[0] / total for role, scores in models}
        highest = max(share.max() for share in shares.values()) or 1.0
        curves = [Curve(role, _outline(edges, share / highest)) for role, share in shares.items()]
        panels.append((f"Customers that {outcome} (n = {chosen.sum():,})", curves))
    return draw_histograms("scores", *caption("scores", names), panels, "predicted probability")


def _outline(edges: np.ndarray, heights: np.ndarray) -> list[tuple[float, float]]:
    """The corners of a histogram's outline."""
    return [
        (float(x), float(height))
        for left, right, height in zip(edges[:-1], edges[1:], heights, strict=True)
        for x in (left, right)
    ]


def _metric_marks(comparison: Comparison) -> list[Mark]:
    """For each metric the difference on the evidence, then on other rows and against the baseline version."""
    evidence, whole, undisputed = comparison.evidence, comparison.whole, comparison.undisputed
    sources = [("", evidence.rows, evidence.deltas)]
    if whole:
        sources.append((", whole holdout", whole.rows, whole.deltas))
    if undisputed:
        sources.append((", without the new batches", undisputed.rows, undisputed.deltas))
    if comparison.anchor_deltas:
        against = f", against baseline v{comparison.case.anchor}"
        sources.append((against, evidence.rows, comparison.anchor_deltas))
    return [
        _mark(f"{METRIC_NAMES[metric]}{source} (n = {rows:,})", deltas[metric], metric)
        for metric in METRIC_NAMES
        for source, rows, deltas in sources
        if metric in deltas
    ]


def _slice_marks(slices: Sequence[Slice], harm: float) -> list[Mark]:
    """The worst slices first, and those that are too small to test last."""

    def order(measured: Slice) -> tuple[bool, float]:
        untested = measured.p is None or measured.delta is None
        return untested, measured.delta.value if measured.delta else 0.0

    marks = []
    for measured in sorted(slices, key=order)[:MOST_SLICES]:
        name = f"{measured.column} {measured.name}"
        label = f"{name if len(name) <= _LONGEST_LABEL else name[: _LONGEST_LABEL - 1] + '…'} (n = {measured.rows:,})"
        if measured.p is None or measured.delta is None:
            marks.append(Mark(label, "too few customers", "untested"))
        else:
            marks.append(_mark(label, measured.delta, "roc_auc", harm))
    return marks


def _mark(label: str, delta: Estimate, metric: str, margin: float | None = None) -> Mark:
    if delta.lower <= 0 <= delta.upper:
        look = "unsure"
    else:
        look = "better" if (delta.value < 0) == (metric in SMALLER_IS_BETTER) else "worse"
    return Mark(label, difference(delta.value, metric), look, delta.value, delta.lower, delta.upper, margin)


def _draw_history(runs: Sequence[PastRun]) -> Markup:
    labels = [f"v{run.challenger}" if run.verdict == Verdict.PROMOTE else "" for run in runs]
    series = [
        Series("champion", [_bounds(run.champion_auc) for run in runs]),
        Series("challenger", [_bounds(run.challenger_auc) for run in runs]),
    ]
    return draw_series("history", *caption("history"), series, labels)


def _bounds(estimate: Estimate | None) -> tuple[float, float, float] | None:
    return (estimate.value, estimate.lower, estimate.upper) if estimate else None
