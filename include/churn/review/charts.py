"""The charts of the pages: one run, the latest runs, production and the data."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from markupsafe import Markup

from churn.contract import EventNames
from churn.decision.formatting import caption, difference
from churn.foundation import svg
from churn.foundation.svg import Curve, Mark, Series, Span
from churn.review.data import Heat, Reason
from churn.review.measures import Budget, MetricLine, SliceLine
from churn.review.nights import Night
from churn.review.outcomes import HealthPoint
from churn.review.overview import NightPoint
from churn.review.presentation import Interval, Reign, counted

_NEAR = 0.5
"""Share of its bound above which drift is shown as near."""
_APART = 6
"""With fewer columns, the two dates below a heat map would touch."""
_LONGEST = 34
"""Characters of a label; longer ones are cut."""


def draw_history(points: Sequence[NightPoint]) -> Markup:
    """Draw the ROC AUC of champion and challenger, run by run."""
    heading, reading = caption("history")
    promoted = [f"v{point.challenger}" if point.promoted else "" for point in points]
    series = [
        Series("champion", [_as_triple(point.champion_auc) for point in points]),
        Series("challenger", [_as_triple(point.challenger_auc) for point in points]),
    ]
    return svg.draw_series("history", heading, reading, series, promoted)


def draw_production(reigns: Sequence[Reign], now: datetime) -> Markup:
    """Draw which version was in production when, the oldest on the left."""
    begin = reigns[-1].since
    whole = (now - begin).total_seconds() or 1.0
    spans = [
        Span(
            (reign.since - begin).total_seconds() / whole,
            ((reign.until or now) - begin).total_seconds() / whole,
            f"v{reign.version}" if reign.version is not None else "",
            reign.kind,
        )
        for reign in reversed(reigns)
    ]
    reading = (
        "Each bar is a version's time in production; its mark shows how it got there. The list below has the same data."
    )
    return svg.draw_spans(
        "production", "Versions in production", reading, spans, (f"{begin:%Y-%m-%d}", f"{now:%Y-%m-%d}")
    )


def draw_differences(name: str, title: str, lines: Sequence[MetricLine]) -> Markup:
    """Draw the differences of metrics, challenger minus champion, against 0 and the non-inferiority margin."""
    marks = [
        Mark(
            line.name,
            difference(line.delta.value, line.metric),
            _choose_look(line.delta, line.smaller_is_better),
            line.delta.value,
            line.delta.lower,
            line.delta.upper,
            line.margin,
        )
        for line in lines
        if line.delta
    ]
    return svg.draw_intervals(name, title, caption("differences")[1], marks)


def draw_slices(lines: Sequence[SliceLine], harm: float | None, name: str = "slices") -> Markup:
    """Draw the slices, in the order given; a slice with too few customers has no interval.

    Args:
        lines: the slices.
        harm: the difference in ROC AUC at which a slice counts as harmed.
        name: prefix of the ids of the chart.
    """
    reading = (
        "Difference in ROC AUC, challenger minus champion, in each slice, with 95% intervals. "
        "The dashed tick is the harm limit."
    )
    return svg.draw_intervals(name, "Slices", reading, [_make_slice_mark(line, harm) for line in lines])


def draw_night_curves(night: Night, names: EventNames) -> dict[str, Markup]:
    """Draw ROC, calibration and recall over the capacity of both versions on the same customers; empty if the run recorded no curves."""
    recorded = {role: curves for role in ("champion", "challenger") if (curves := (night.curves or {}).get(role))}
    if not recorded:
        return {}
    roc = [Curve(role, [(x, y) for x, y in curves["roc"]]) for role, curves in recorded.items()]
    calibration = [
        Curve(role, [(x, y) for x, y, _ in curves["calibration"]], [reach for _, _, reach in curves["calibration"]])
        for role, curves in recorded.items()
    ]
    over = {
        role: Curve(role, [(0, 0), *((x, found) for x, _, found, _ in curves["capacity"] if found is not None)])
        for role, curves in recorded.items()
        if curves.get("capacity")
    }
    drawn = {}
    if over:
        drawn["capacity"] = svg.draw_curves(
            "capacity",
            *caption("capacity", names),
            list(over.values()),
            ("Capacity", f"found of those that {names.event}"),
        )
    return drawn | {
        "roc": svg.draw_curves("roc", *caption("roc", names), roc, ("False positive rate", "True positive rate")),
        "calibration": svg.draw_curves("calibration", *caption("calibration"), calibration, ("predicted", names.event)),
    }


def draw_budget(budget: Budget) -> Markup:
    """Draw how much of the error budget the looks at this champion have spent."""
    words = f"{budget.spent:.4f} of {budget.total:g}"
    bars = [
        ("spent", words, budget.spent, "worse" if budget.spent > budget.total else "challenger"),
        ("budget", "", budget.total, "whole"),
    ]
    reading = (
        f"Probability of promoting a model that is not better: {counted(budget.looks, 'comparison')} spent {budget.spent:.4f} "
        f"of the {budget.total:g} allowed in {budget.nights} nights."
    )
    return svg.draw_bars("budget", "Error budget", reading, bars)


def draw_reasons(reasons: Sequence[Reason], longest: int, name: str = "reasons") -> Markup:
    """Draw the rules that rows of a batch broke; newly broken ones are labelled and have another colour.

    Args:
        reasons: the rules.
        longest: the number of rows that fills the width.
        name: prefix of the ids of the chart.
    """
    bars = [
        (
            f"{_shorten(reason.rule)}{' (new)' if reason.new else ''}",
            f"{reason.rows:,}",
            reason.rows,
            "worse" if reason.new else "champion",
        )
        for reason in reasons
    ]
    reading = "A row counts for every rule that it broke."
    return svg.draw_bars(name, "Quarantined rows by rule", reading, bars, longest)


def draw_first_reasons(reasons: Sequence[tuple[str, int]], longest: int, name: str = "reasons") -> Markup:
    """Draw how many customers have each column as their first reason.

    Args:
        reasons: the columns with their numbers of customers.
        longest: the number of customers that fills the width.
        name: prefix of the ids of the chart.
    """
    bars = [(_shorten(column), f"{count:,}", float(count), "champion") for column, count in reasons]
    reading = "The column that adds most to the score of each customer within the capacity."
    return svg.draw_bars(name, "First reasons", reading, bars, longest)


def draw_distribution(counts: Sequence[int]) -> Markup:
    """Draw the number of customers by score, in equal ranges from 0 to 1."""
    highest, width = max(counts) or 1, 1 / len(counts)
    points = [(0.0, 0.0)]
    for place, count in enumerate(counts):
        points += [(place * width, count / highest), ((place + 1) * width, count / highest)]
    reading = "Customers by score, in equal ranges. The table below has the numbers."
    curve = Curve("champion", [*points, (1.0, 0.0)])
    return svg.draw_histograms("scores", "Customers by score", reading, [("customers", [curve])], "score")


def draw_health(points: Sequence[HealthPoint]) -> Markup:
    """Draw ROC AUC of the version in production on all rows since its promotion, look by look."""
    series = [
        (point.roc_auc.value, point.roc_auc.lower, point.roc_auc.upper) if point.roc_auc else None for point in points
    ]
    labels = [f"{point.looked_at:%m-%d}" if place in (0, len(points) - 1) else "" for place, point in enumerate(points)]
    reading = "ROC AUC on all rows that came after the promotion, with its 95% interval, at each run."
    return svg.draw_series(
        "health", "Health of the version in production", reading, [Series("champion", series)], labels
    )


def order_drift(heat: Heat) -> list[int]:
    """Order the rows of a heat map: columns with drift first, otherwise as they are. Returns their positions."""
    return sorted(range(len(heat.columns)), key=lambda row: not any(heat.drifted[row]))


def draw_drift(heat: Heat, rows: Sequence[int], name: str = "drift") -> Markup:
    """Draw how close each column of each batch came to its bound.

    Args:
        heat: the drift of the batches.
        rows: the positions of the columns to draw.
        name: prefix of the ids of the chart.
    """
    cells = [
        [
            _choose_cell(value, bound, drifted)
            for value, bound, drifted in zip(heat.values[row], heat.bounds[row], heat.drifted[row], strict=True)
        ]
        for row in rows
    ]
    columns = [heat.columns[row] for row in rows]
    ends = (f"{heat.times[0]:%Y-%m-%d}", f"{heat.times[-1]:%Y-%m-%d}" if len(heat.times) >= _APART else "")
    return svg.draw_heat(name, "Drift by column and batch", heat.reference, columns, cells, ends)


def _as_triple(estimate: Interval | None) -> tuple[float, float, float] | None:
    return (estimate.value, estimate.lower, estimate.upper) if estimate else None


def _choose_look(delta: Interval, smaller_is_better: bool) -> str:
    if delta.lower <= 0 <= delta.upper:
        return "unsure"
    return "better" if (delta.value < 0) == smaller_is_better else "worse"


def _make_slice_mark(line: SliceLine, harm: float | None) -> Mark:
    label = f"{_shorten(f'{line.column} {line.name}')} (n = {line.rows:,})"
    delta = line.delta
    if line.p is None or delta is None:
        return Mark(label, "too few customers", "untested", None)
    words = difference(delta.value, "roc_auc")
    return Mark(label, words, _choose_look(delta, False), delta.value, delta.lower, delta.upper, harm)


def _choose_cell(value: float | None, bound: float | None, drifted: bool) -> str:
    if value is None or bound is None:
        return "absent"
    if drifted:
        return "drifted"
    return "near" if value > _NEAR * bound else "steady"


def _shorten(text: str) -> str:
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 1]}…"
