"""What a night has measured, as lines of its page: rules, metrics, groups of customers, error budget."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from churn.decision.formatting import METRIC_NAMES, SMALLER_IS_BETTER
from churn.decision.policy_file import Policy
from churn.review.presentation import Interval, interval


@dataclass(frozen=True)
class RuleLine:
    """A rule's result; `decides` says that this is why the challenger is held."""

    name: str
    passed: bool
    value: float | None
    bound: float | None
    sentence: str
    decides: bool


@dataclass(frozen=True)
class MetricLine:
    """A metric of both versions on the same customers; `margin` is the change that "no worse" allows."""

    metric: str
    name: str
    smaller_is_better: bool
    challenger: Interval
    champion: Interval | None
    delta: Interval | None
    margin: float | None


@dataclass(frozen=True)
class SliceLine:
    """A group of customers; `p` is None where there were too few of them to be tested."""

    column: str
    name: str
    rows: int
    events: int
    delta: Interval | None
    p: float | None


@dataclass(frozen=True)
class Budget:
    """What the looks at this champion in the last `nights` nights have spent of the chance to promote an equal model, `total`."""

    spent: float
    total: float
    nights: int
    looks: int


def rule_lines(rules: Sequence[dict[str, Any]], code: str | None) -> list[RuleLine]:
    """Failures first, and of them that which decided: its code is that of the hold."""
    lines = [
        RuleLine(
            rule["name"],
            rule["passed"],
            rule["value"],
            rule["bound"],
            rule["sentence"],
            decides=not rule["passed"] and rule["code"] == code,
        )
        for rule in rules
    ]
    return sorted(lines, key=lambda line: (line.passed, not line.decides))


def unseen_words(stored: dict[str, Any]) -> str:
    """On whom both versions were compared, as a sentence; empty where nobody was."""
    evidence, window = stored.get("evidence", {}), stored.get("case", {}).get("window")
    if not evidence.get("rows"):
        return ""
    when = ""
    if window:
        since, until = (datetime.fromisoformat(window[end]) for end in ("since", "until"))
        wider = ", a window widened to have enough" if window["widened"] else ""
        when = f" that arrived from {since:%Y-%m-%d} to {until:%Y-%m-%d}{wider}"
    return f"{evidence['rows']:,} unseen customers{when}; {evidence['events']:,} of them left."


def metric_lines(evidence: dict[str, Any], policy: Policy | None) -> list[MetricLine]:
    """Each metric of challenger and champion, with their difference."""
    champion, deltas = evidence.get("champion", {}), evidence.get("deltas", {})
    return [
        _metric_line(metric, mine, champion.get(metric), deltas.get(metric), policy)
        for metric, mine in evidence.get("challenger", {}).items()
    ]


def anchor_lines(stored: dict[str, Any], policy: Policy | None) -> list[MetricLine]:
    """Each metric of the challenger, with its difference to the anchor."""
    mine = stored.get("evidence", {}).get("challenger", {})
    return [
        _metric_line(metric, mine[metric], None, delta, policy)
        for metric, delta in stored.get("anchor_deltas", {}).items()
        if metric in mine
    ]


def _metric_line(
    metric: str, mine: dict[str, Any], other: dict[str, Any] | None, delta: dict[str, Any] | None, policy: Policy | None
) -> MetricLine:
    margins = {"roc_auc": -policy.freshness.roc_auc_margin, "brier": policy.freshness.brier_margin} if policy else {}
    return MetricLine(
        metric,
        METRIC_NAMES.get(metric, metric),
        metric in SMALLER_IS_BETTER,
        Interval(mine["value"], mine["lower"], mine["upper"]),
        interval(other),
        interval(delta),
        margins.get(metric),
    )


def slice_lines(stored: dict[str, Any]) -> list[SliceLine]:
    """The worst first, those that are too small to be tested last."""
    lines = [
        SliceLine(one["column"], one["name"], one["rows"], one["events"], interval(one["delta"]), one["p"])
        for one in stored.get("slices", [])
    ]
    return sorted(lines, key=lambda one: (one.p is None or one.delta is None, one.delta.value if one.delta else 0.0))


def budget_of(looks: dict[int, int], policy: Policy | None) -> Budget | None:
    """What looks have spent; `looks` counts them by their position within their calendar night."""
    if policy is None:
        return None
    rule = policy.superiority
    spent = sum(rule.level(position) * count for position, count in looks.items())
    return Budget(spent, rule.error_budget, rule.nights, sum(looks.values()))
