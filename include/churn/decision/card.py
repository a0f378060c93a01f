"""Renders a comparison as one page, without scripts or anything loaded from elsewhere.

Names and notes come from people and may contain anything. The template escapes and cleans every text, and only web addresses
become links.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from churn.contract import CHURNED, EventNames
from churn.decision.comparison import Comparison, Evidence
from churn.decision.formatting import (
    ABSENT,
    METRIC_NAMES,
    bounds,
    caption,
    describe_compared,
    difference,
    harmless,
    is_web,
    metric_value,
    rule_value,
    share,
)
from churn.decision.inference import Estimate
from churn.decision.operating_point import within_capacity
from churn.decision.slices import Slicing

_DRIFT = "How far each column of the batch is from the accepted history. Beyond its limit, a column has drifted."
_LEAST_P = 0.001
_TALL = frozenset({"differences", "slices"})


@dataclass(frozen=True)
class ParityRow:
    """How one model treats one slice. Shares are None if there is no customer to compute them from.

    `flagged` is the share within the capacity of all customers; `recall` and `precision` are at that capacity.
    """

    column: str
    group: str
    model: str
    rows: int
    observed: float | None
    predicted: float | None
    flagged: float | None
    recall: float | None
    precision: float | None


@dataclass(frozen=True)
class CardFacts:
    """Everything that the page shows.

    `rules` and `watch` are rules as plain JSON. `figures` are charts by title, `links` are URLs by title, and `facts` describe where
    the numbers come from. `names` is what people call the event and its opposite. `curves` are those of `decision.curves`, and
    `capacity` is that of the scoring policy, as a share of the customers (None: unknown).
    """

    title: str
    model: str
    verdict: str
    code: str
    sentence: str
    rules: Sequence[dict[str, Any]]
    watch: Sequence[dict[str, Any]]
    comparison: Comparison
    figures: dict[str, Markup]
    parity: Sequence[ParityRow]
    links: dict[str, str]
    facts: dict[str, str]
    note: str | None
    names: EventNames = CHURNED
    curves: dict[str, Any] | None = None
    capacity: float | None = None


def parity_table(evidence: Evidence, sliced: tuple[Slicing, ...], capacity: float) -> list[ParityRow]:
    """Describe each model in each slice of the slicings marked for parity, on the rows that decide. Pure.

    Args:
        evidence: the scored rows.
        sliced: the slicings.
        capacity: the share of all customers that is flagged, by score.
    """
    used = evidence.used
    y = evidence.labels[used]
    models = {"challenger": evidence.challenger, "champion": evidence.champion}
    weights = np.ones(len(y)) if evidence.weights is None else evidence.weights[used]
    within = {
        model: within_capacity(scores[used], capacity, weights)
        for model, scores in models.items()
        if scores is not None
    }
    rows = []
    for slicing in (slicing for slicing in sliced if slicing.parity):
        codes = evidence.codes[slicing.column][used]
        for code, group in enumerate(slicing.names):
            chosen = codes == code
            for model, scores in models.items():
                if scores is None:
                    continue
                inside, happened, each = scores[used][chosen], y[chosen] == 1, weights[chosen]
                flagged = within[model][chosen]
                rows.append(
                    ParityRow(
                        column=slicing.column,
                        group=group,
                        model=model,
                        rows=len(happened),
                        observed=_mean(happened, each),
                        predicted=_mean(inside, each),
                        flagged=_mean(flagged, each),
                        recall=_mean(flagged[happened], each[happened]),
                        precision=_mean(happened[flagged], each[flagged]),
                    )
                )
    return rows


def render_card(facts: CardFacts) -> str:
    """Render the page as HTML. The same facts give the same bytes."""
    templates = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=harmless,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    templates.filters |= {
        "metric": _metric,
        "delta": _delta,
        "interval": _interval,
        "share": share,
        "value": rule_value,
        "p_value": lambda p: f"{p:.3f}" if p >= _LEAST_P else f"< {_LEAST_P}",
        "count": lambda number: f"{number:,}",
        "metric_name": lambda metric: METRIC_NAMES.get(metric, metric),
    }
    return templates.get_template("card.html.j2").render(
        facts=facts,
        case=facts.comparison.case,
        comparison=facts.comparison,
        compared_on=describe_compared(facts.comparison, facts.names),
        measured=bool(facts.comparison.evidence.challenger),
        rules=sorted(facts.rules, key=lambda rule: bool(rule["passed"])),
        alarms=[rule for rule in facts.watch if not rule["passed"]],
        blocks=_metric_blocks(facts.comparison),
        shown=_shown_rows(facts.comparison, facts.curves),
        untested=[measured for measured in facts.comparison.slices if measured.p is None],
        pictures=[_picture(title, figure, facts.names) for title, figure in facts.figures.items()],
        links={title: url if is_web(url) else None for title, url in facts.links.items()},
    )


def _metric_blocks(comparison: Comparison) -> list[dict[str, Any]]:
    """Title and figures of each set of rows that was measured."""
    whole, undisputed = comparison.whole, comparison.undisputed
    named = [
        ("Unseen customers that decide", comparison.evidence),
        ("Whole holdout of today", whole),
        ("Without the new batches", undisputed),
    ]
    return [{"title": title, "figures": figures} for title, figures in named if figures and figures.challenger]


def _shown_rows(comparison: Comparison, curves: dict[str, Any] | None) -> list[tuple[str, list[str]]]:
    """Figures that no rule reads: a name, and a text for the challenger and the champion."""
    roles = [role for role in ("challenger", "champion") if role in comparison.shown]
    calibrations = {"challenger": comparison.challenger_calibration, "champion": comparison.champion_calibration}
    both = [(comparison.shown[role], calibrations[role]) for role in roles]
    if not both:
        return []
    points = [((curves or {}).get(role) or {}).get("at") for role in roles]
    return [
        *_capacity_rows([point for point in points if point]),
        ("Calibration slope", [_metric(calibration.slope if calibration else None) for _, calibration in both]),
        (
            "Observed / expected",
            [_metric(calibration.observed_expected if calibration else None) for _, calibration in both],
        ),
        ("Calibration error", [f"{shown.calibration_error:.4f}" for shown, _ in both]),
        ("Lift of the top tenth", [f"{shown.lift:.2f}" for shown, _ in both]),
        ("Precision at .5", [share(shown.precision) for shown, _ in both]),
        ("Recall at .5", [share(shown.recall) for shown, _ in both]),
    ]


def _capacity_rows(points: list[list[float | None]]) -> list[tuple[str, list[str]]]:
    """Precision, recall and lift at the capacity of the scoring policy; none if it is unknown."""
    if not points:
        return []
    at = f"at a capacity of {share(points[0][0])}"
    lifts = [ABSENT if lift is None else f"{lift:.2f}" for _, _, _, lift in points]
    return [
        (f"Precision {at}", [share(precision) for _, precision, _, _ in points]),
        (f"Recall {at}", [share(recall) for _, _, recall, _ in points]),
        (f"Lift {at}", lifts),
    ]


def _picture(title: str, figure: Markup, names: EventNames) -> dict[str, Any]:
    drift = f"Drift of batch {title.removeprefix('drift_')}", _DRIFT
    heading, reading = drift if title.startswith("drift_") else caption(title, names)
    return {"heading": heading, "reading": reading, "tall": title in _TALL, "svg": figure}


def _mean(values: np.ndarray[Any, Any], weights: np.ndarray[Any, Any]) -> float | None:
    return float(np.average(values, weights=weights)) if len(values) else None


def _metric(estimate: Estimate | None) -> str:
    return metric_value(estimate.value if estimate else None)


def _delta(estimate: Estimate | None, metric: str) -> str:
    return difference(estimate.value if estimate else None, metric)


def _interval(estimate: Estimate | None, metric: str, sign: str = "+") -> str:
    return bounds(estimate.lower, estimate.upper, metric, sign) if estimate else ABSENT
