"""A comparison as pictures: differences first, then curves, scores, and the nights before.

Nothing is drawn of what was not measured. The pictures are plain `Figure` objects, without pyplot
and its global state; black is the ink, so that a page can set it to its own.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, NamedTuple

import numpy as np
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from churn.decision.comparison import Comparison, Evidence
from churn.decision.curves import in_tenths, sweep, thin
from churn.decision.formatting import METRIC_NAMES, SMALLER_IS_BETTER
from churn.decision.inference import Estimate, Labels, Scores
from churn.decision.policy import Verdict
from churn.decision.slices import Slice

CHALLENGER_COLOUR, CHAMPION_COLOUR, GUIDE = "#0072b2", "#d55e00", "#6b6b6b"  # told apart by the colour-blind
WIDTH = 5.2  # inches; small enough for the letters to stay legible on a telephone
MOST_POINTS, MOST_NIGHTS = 2000, 30
HARM = -0.02
_SCORE_BINS, _MOST_LETTERS = 50, 30
_SMALL = 8.5
_BETTER, _WORSE, _UNCERTAIN = (CHALLENGER_COLOUR, "o"), (CHAMPION_COLOUR, "s"), (GUIDE, "D")
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff\u202a-\u202e\u2066-\u2069\ufffe\uffff]")

Axes = Any  # matplotlib's own annotations know no keyword properties


@dataclass(frozen=True)
class PastNight:
    """One decision as the history shows it; the ROC AUCs are None where nothing was measured."""

    night: str
    decided_at: datetime
    verdict: str
    code: str
    challenger: int
    champion: int | None
    challenger_auc: Estimate | None
    champion_auc: Estimate | None


@dataclass(frozen=True)
class _Row:
    """A line of the forest plot; `delta` is None where a class is missing, `tested` says whether it means something."""

    label: str
    delta: Estimate | None
    smaller_is_better: bool = False
    tested: bool = True
    decides: bool = False


class _Model(NamedTuple):
    """A model as the curves show it."""

    label: str
    colour: str
    style: str
    marker: str
    scores: Scores


def draw_figures(
    comparison: Comparison, evidence: Evidence | None, past: Sequence[PastNight], harm: float = HARM
) -> dict[str, Figure]:
    """Draw what was measured, by title; pure.

    Args:
        comparison: what was measured.
        evidence: the scored rows behind it, None where they are gone: then there are no curves.
        past: the nights to show with their ROC AUC, in any order; the newest `MOST_NIGHTS` count.
        harm: the difference of ROC AUC below which a group of customers counts as harmed.

    Returns:
        Of `differences`, `roc`, `precision_recall`, `calibration`, `scores` and `history`, those that there is something for.
    """
    drawn = {}
    if comparison.evidence.deltas:
        drawn["differences"] = _draw_differences(comparison, harm)
    if comparison.evidence.challenger and evidence is not None:
        drawn |= _draw_models(evidence.labels[evidence.used], _models(comparison, evidence))
    shown = sorted(past, key=lambda one: one.decided_at)[-MOST_NIGHTS:]
    if any(one.challenger_auc or one.champion_auc for one in shown):
        drawn["history"] = _draw_history(shown)
    return drawn


def _models(comparison: Comparison, evidence: Evidence) -> list[_Model]:
    case, used = comparison.case, evidence.used
    models = [_Model(f"challenger v{case.challenger}", CHALLENGER_COLOUR, "-", "o", evidence.challenger[used])]
    if evidence.champion is not None:
        models.append(_Model(f"champion v{case.champion}", CHAMPION_COLOUR, "--", "s", evidence.champion[used]))
    return models


def _draw_models(y: Labels, models: list[_Model]) -> dict[str, Figure]:
    roc, roc_axes = _square("ROC", "false positive rate", "true positive rate")
    pr, pr_axes = _square("Precision and recall", "recall", "precision")
    calibration, calibration_axes = _square("Calibration", "predicted probability", "observed share that left")
    for axes in (roc_axes, calibration_axes):
        axes.plot([0, 1], [0, 1], color=GUIDE, linewidth=1, linestyle=":")
    pr_axes.axhline(float(y.mean()), color=GUIDE, linewidth=1, linestyle=":", label="no skill")
    for model in models:
        look = {"color": model.colour, "linestyle": model.style, "label": model.label}
        rows, hits = sweep(y, model.scores)
        roc_axes.plot(*thin((rows - hits) / (len(y) - y.sum()), hits / y.sum(), MOST_POINTS), **look)
        pr_axes.plot(*thin(hits[1:] / y.sum(), hits[1:] / rows[1:], MOST_POINTS), **look)
        predicted, observed, reach = in_tenths(y, model.scores)
        calibration_axes.errorbar(
            predicted, observed, yerr=reach, marker=model.marker, markersize=4.5, elinewidth=1, capsize=2, **look
        )
    for axes in (roc_axes, pr_axes, calibration_axes):
        axes.legend(frameon=False)
    return {"roc": roc, "precision_recall": pr, "calibration": calibration, "scores": _draw_scores(y, models)}


def _draw_scores(y: Labels, models: list[_Model]) -> Figure:
    figure = Figure(figsize=(WIDTH, 4.2), layout="constrained")
    both = figure.subplots(2, 1, sharex=True)
    edges = np.linspace(0, 1, _SCORE_BINS + 1)
    for axes, label, name in zip(both, (0, 1), ("stayed", "left"), strict=True):
        chosen = y == label
        for model in models:
            share = np.histogram(model.scores[chosen], edges)[0] / chosen.sum()
            axes.stairs(100 * share, edges, color=model.colour, linestyle=model.style, linewidth=1.4, label=model.label)
        axes.set(title=f"customers that {name} (n = {chosen.sum():,})", ylabel="% of them", xlim=(0, 1))
        axes.title.set_fontsize(10)
        _open(axes)
    both[0].legend(frameon=False)
    both[1].set_xlabel("predicted probability")
    return figure


def _draw_differences(comparison: Comparison, harm: float) -> Figure:
    panels = [
        ("ROC AUC and PR AUC (right is better)", _metric_rows(comparison, ("roc_auc", "pr_auc"))),
        ("Brier score and log loss (left is better)", _metric_rows(comparison, ("brier", "log_loss"))),
        ("ROC AUC of each group (right is better)", _slice_rows(comparison.slices)),
    ]
    panels = [(title, rows) for title, rows in panels if rows]
    heights = [len(rows) + 1.0 for _, rows in panels]
    figure = Figure(figsize=(WIDTH, 0.6 + 0.2 * sum(heights) + 0.45 * len(panels)), layout="constrained")
    for axes, (title, rows) in zip(
        figure.subplots(len(panels), 1, squeeze=False, height_ratios=heights)[:, 0], panels, strict=True
    ):
        _draw_forest(axes, rows, harm if comparison.slices and rows is panels[-1][1] else None)
        axes.set_title(title, fontsize=10, loc="left")
    axes.set_xlabel("challenger minus champion, 95 % interval", fontsize=_SMALL, loc="right")
    marks = [
        _mark(*_BETTER, "challenger better"),
        _mark(*_WORSE, "challenger worse"),
        _mark(*_UNCERTAIN, "cannot tell"),
    ]
    if comparison.slices:
        marks += [
            _mark(GUIDE, "o", "not tested", markerfacecolor="none"),
            Line2D([], [], color="black", linewidth=1, linestyle=":", label=f"harm ({harm:+g})"),
        ]
    figure.legend(handles=marks, loc="outside lower center", ncols=3, frameon=False, fontsize=_SMALL)
    return figure


def _metric_rows(comparison: Comparison, metrics: Sequence[str]) -> list[_Row]:
    """Of each metric: on the evidence, and below it on other rows and against the anchor."""
    evidence, whole, undisputed = comparison.evidence, comparison.whole, comparison.undisputed
    found = []
    for metric in metrics:
        by = [(METRIC_NAMES[metric], evidence.rows, evidence.deltas)]
        if whole:
            by.append(("whole holdout", whole.rows, whole.deltas))
        if undisputed:
            by.append(("without new batches", undisputed.rows, undisputed.deltas))
        by.append((f"against anchor v{comparison.case.anchor}", evidence.rows, comparison.anchor_deltas))
        found += [
            _Row(
                f"{name} (n = {rows:,})",
                deltas[metric],
                smaller_is_better=metric in SMALLER_IS_BETTER,
                decides=deltas is evidence.deltas,
            )
            for name, rows, deltas in by
            if metric in deltas
        ]
    return found


def _slice_rows(slices: list[Slice]) -> list[_Row]:
    """The worst first, those that are too small to be tested last."""

    def order(one: Slice) -> tuple[bool, float]:
        return one.p is None or one.delta is None, one.delta.value if one.delta else 0.0

    return [
        _Row(f"{_short(f'{one.column} {one.name}')} (n = {one.rows:,})", one.delta, tested=one.p is not None)
        for one in sorted(slices, key=order)
    ]


def _draw_forest(axes: Axes, rows: list[_Row], harm: float | None) -> None:
    left, right = _limits(rows)
    axes.set(xlim=(left, right), ylim=(len(rows) - 0.4, -0.6))
    ends = [-0.6, sum(row.tested for row in rows) - 0.5]  # no line through the words beside the untested
    axes.plot([0, 0], ends, color="black", linewidth=1)
    if harm is not None:
        axes.plot([harm, harm], ends, color="black", linewidth=1, linestyle=":")
    axes.set_yticks(range(len(rows)), [row.label for row in rows], fontsize=_SMALL, parse_math=False)
    axes.tick_params(axis="y", length=0)
    axes.tick_params(axis="x", labelsize=_SMALL)
    axes.locator_params(axis="x", nbins=5)
    for place, row in enumerate(rows):
        axes.get_yticklabels()[place].set_fontweight("bold" if row.decides else "normal")
        if not row.tested:
            _draw_untested(axes, place, row, (left + right) / 2)
        elif row.delta:
            colour, marker = _who_wins(row.delta, row.smaller_is_better)
            axes.plot([row.delta.lower, row.delta.upper], [place, place], color=colour, linewidth=1.4)
            axes.plot([row.delta.value], [place], color=colour, marker=marker, markersize=5)
    _open(axes, "left")


def _draw_untested(axes: Axes, place: int, row: _Row, middle: float) -> None:
    axes.get_yticklabels()[place].set_color(GUIDE)
    if row.delta:
        axes.plot([row.delta.value], [place], color=GUIDE, marker="o", markersize=5, markerfacecolor="none")
    at_left = row.delta is not None and row.delta.value > middle
    axes.annotate(
        "too few customers",
        (0.02 if at_left else 0.98, place),
        xycoords=("axes fraction", "data"),
        ha="left" if at_left else "right",
        va="center",
        color=GUIDE,
        fontsize=_SMALL,
    )


def _limits(rows: list[_Row]) -> tuple[float, float]:
    """Room for every interval that means something, and for zero."""
    bounds = [bound for row in rows if row.tested and row.delta for bound in (row.delta.lower, row.delta.upper)]
    low, high = min([0.0, *bounds]), max([0.0, *bounds])
    margin = 0.06 * (high - low) or -2 * HARM
    return low - margin, high + margin


def _who_wins(delta: Estimate, smaller_is_better: bool) -> tuple[str, str]:
    if delta.lower <= 0 <= delta.upper:
        return _UNCERTAIN
    return _BETTER if (delta.value < 0) == smaller_is_better else _WORSE


def _draw_history(nights: list[PastNight]) -> Figure:
    figure = Figure(figsize=(WIDTH, 3.6), layout="constrained")
    axes: Axes = figure.subplots()
    found = [
        (-0.12, "champion", CHAMPION_COLOUR, "--", "s", [one.champion_auc for one in nights]),
        (0.12, "challenger", CHALLENGER_COLOUR, "-", "o", [one.challenger_auc for one in nights]),
    ]
    for shift, name, colour, style, marker, aucs in found:
        if not any(aucs):
            continue
        value, lower, upper = (
            np.array([getattr(one, what) if one else np.nan for one in aucs]) for what in ("value", "lower", "upper")
        )
        axes.errorbar(
            np.arange(len(nights)) + shift,
            value,
            yerr=(value - lower, upper - value),
            label=name,
            color=colour,
            linestyle=style,
            linewidth=1,
            marker=marker,
            markersize=4.5,
            elinewidth=1,
        )
    for place in [place for place, one in enumerate(nights) if one.verdict == Verdict.PROMOTE]:
        axes.axvline(place, color=GUIDE, linewidth=1, linestyle=":", zorder=0)
        axes.annotate(
            f"v{nights[place].challenger}",
            (place, 1.01),
            xycoords=("data", "axes fraction"),
            ha="center",
            fontsize=_SMALL,
        )
    handles, _ = axes.get_legend_handles_labels()
    if any(one.verdict == Verdict.PROMOTE for one in nights):
        handles.append(Line2D([], [], color=GUIDE, linewidth=1, linestyle=":", label="promoted"))
    step = -(-len(nights) // 7)
    ticks = range(len(nights) - 1, -1, -step)
    axes.set_xticks(ticks, [f"{nights[tick].decided_at:%m-%d}" for tick in ticks])
    axes.set(xlim=(-0.6, len(nights) - 0.4), ylabel="ROC AUC", xlabel="night")
    _open(axes)
    figure.legend(handles=handles, loc="outside lower center", ncols=3, frameon=False)
    return figure


def _square(title: str, x: str, y: str) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(WIDTH, 4.2), layout="constrained")
    axes: Axes = figure.subplots()
    axes.set(title=title, xlabel=x, ylabel=y, xlim=(0, 1), ylim=(0, 1.02))
    _open(axes)
    return figure, axes


def _open(axes: Axes, *more: str) -> None:
    axes.spines[["top", "right", *more]].set_visible(False)


def _mark(colour: str, marker: str, label: str, **more: str) -> Line2D:
    return Line2D([], [], color=colour, marker=marker, markersize=5, linestyle="none", label=label, **more)  # type: ignore[arg-type]


def _short(text: str) -> str:
    plain = _CONTROL.sub("�", text)
    return plain if len(plain) <= _MOST_LETTERS else f"{plain[: _MOST_LETTERS - 1]}…"
