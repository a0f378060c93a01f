"""The views as charts: what is drawn of a night, of the nights, of production and of the data."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from markupsafe import Markup

from churn.decision.formatting import CAPTIONS, difference
from churn.review import svg
from churn.review.data import BatchLine, Heat
from churn.review.measures import Budget, MetricLine, SliceLine
from churn.review.nights import Night
from churn.review.overview import NightPoint
from churn.review.presentation import Interval, Reign
from churn.review.svg import Curve, Mark, Series, Span

_NEAR = 0.5
_APART = 6
"""With fewer columns the two dates below a heat map would touch."""
_LONGEST = 34


def draw_history(points: Sequence[NightPoint]) -> Markup:
    """ROC AUC of champion and challenger, night by night."""
    heading, reading = CAPTIONS["history"]
    promoted = [f"v{one.challenger}" if one.promoted else "" for one in points]
    series = [
        Series("champion", [_triple(one.champion_auc) for one in points]),
        Series("challenger", [_triple(one.challenger_auc) for one in points]),
    ]
    return svg.draw_series("history", heading, reading, series, promoted)


def draw_production(reigns: Sequence[Reign], now: datetime) -> Markup:
    """Who was in production when, the oldest on the left."""
    begin = reigns[-1].since
    whole = (now - begin).total_seconds() or 1.0
    spans = [
        Span(
            (one.since - begin).total_seconds() / whole,
            ((one.until or now) - begin).total_seconds() / whole,
            f"v{one.version}" if one.version is not None else "",
            one.kind,
        )
        for one in reversed(reigns)
    ]
    reading = (
        "Each stretch is a version's time in production; its mark says how it came there. The list below has the same."
    )
    return svg.draw_spans(
        "production", "Versions in production", reading, spans, (f"{begin:%Y-%m-%d}", f"{now:%Y-%m-%d}")
    )


def draw_differences(name: str, title: str, lines: Sequence[MetricLine]) -> Markup:
    """Differences of metrics, challenger minus champion, against 0 and the margin that "no worse" allows."""
    marks = [
        Mark(
            one.name,
            difference(one.delta.value, one.metric),
            _look(one.delta, one.smaller_is_better),
            one.delta.value,
            one.delta.lower,
            one.delta.upper,
            one.margin,
        )
        for one in lines
        if one.delta
    ]
    return svg.draw_intervals(name, title, CAPTIONS["differences"][1], marks)


def draw_slices(lines: Sequence[SliceLine], harm: float | None) -> Markup:
    """The groups of customers, the worst first; where there are too few, no interval is drawn."""
    reading = (
        "ROC AUC, challenger minus champion, in each group of customers, with 95 % intervals; the dashed tick is harm."
    )
    return svg.draw_intervals("slices", "Groups of customers", reading, [_slice_mark(one, harm) for one in lines])


def draw_night_curves(night: Night) -> dict[str, Markup]:
    """ROC and calibration of both versions on the same customers, where they were recorded."""
    kept = {role: found for role in ("champion", "challenger") if (found := (night.curves or {}).get(role))}
    if not kept:
        return {}
    roc = [Curve(role, [(x, y) for x, y in found["roc"]]) for role, found in kept.items()]
    calibration = [
        Curve(role, [(x, y) for x, y, _ in found["calibration"]], [reach for _, _, reach in found["calibration"]])
        for role, found in kept.items()
    ]
    return {
        "roc": svg.draw_curves("roc", *CAPTIONS["roc"], roc, ("stayers flagged", "leavers found")),
        "calibration": svg.draw_curves("calibration", *CAPTIONS["calibration"], calibration, ("predicted", "left")),
    }


def draw_budget(budget: Budget) -> Markup:
    """How much of the error budget the looks at this champion have spent."""
    words = f"{budget.spent:.4f} of {budget.total:g}"
    bars = [
        ("spent", words, budget.spent, "worse" if budget.spent > budget.total else "challenger"),
        ("budget", "", budget.total, "whole"),
    ]
    reading = f"The chance to promote an equal model that {budget.looks} looks have spent, of {budget.total:g} in {budget.nights} nights."
    return svg.draw_bars("budget", "Error budget", reading, bars)


def draw_reasons(line: BatchLine) -> Markup:
    """The rules that rows of a batch broke; those that were not broken before in another colour, and said so."""
    bars = [
        (
            f"{_short(one.rule)}{' (new)' if one.new else ''}",
            f"{one.rows:,}",
            one.rows,
            "worse" if one.new else "champion",
        )
        for one in line.reasons
    ]
    return svg.draw_bars("reasons", "Rows set aside, by rule", "A row counts for every rule that it broke.", bars)


def draw_drift(heat: Heat) -> Markup:
    """Feature x batch: how near each came to its bound."""
    cells = [
        [_cell(value, bound, beyond) for value, bound, beyond in zip(*rows, strict=True)]
        for rows in zip(heat.values, heat.bounds, heat.drifted, strict=True)
    ]
    ends = (f"{heat.times[0]:%Y-%m-%d}", f"{heat.times[-1]:%Y-%m-%d}" if len(heat.times) >= _APART else "")
    return svg.draw_heat("drift", "Drift, feature by batch", heat.reference, heat.columns, cells, ends)


def _triple(found: Interval | None) -> tuple[float, float, float] | None:
    return (found.value, found.lower, found.upper) if found else None


def _look(delta: Interval, smaller_is_better: bool) -> str:
    if delta.lower <= 0 <= delta.upper:
        return "unsure"
    return "better" if (delta.value < 0) == smaller_is_better else "worse"


def _slice_mark(one: SliceLine, harm: float | None) -> Mark:
    label = f"{_short(f'{one.column} {one.name}')} (n = {one.rows:,})"
    if one.p is None or one.delta is None:
        return Mark(label, "too few customers", "untested", None)
    words = difference(one.delta.value, "roc_auc")
    return Mark(label, words, _look(one.delta, False), one.delta.value, one.delta.lower, one.delta.upper, harm)


def _cell(value: float | None, bound: float | None, beyond: bool) -> str:
    if value is None or bound is None:
        return "absent"
    if beyond:
        return "drifted"
    return "near" if value > _NEAR * bound else "steady"


def _short(text: str) -> str:
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 1]}…"
