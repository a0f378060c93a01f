"""What a run has measured, as lines of its page: rules, metrics, slices, error budget."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from churn.contract import CHURNED, EventNames
from churn.decision.formatting import METRIC_NAMES, SMALLER_IS_BETTER
from churn.decision.policy_file import Policy
from churn.foundation.wording import describe_contact, describe_evidence
from churn.review.presentation import Interval, interval


@dataclass(frozen=True)
class RuleLine:
    """The result of a rule; `decides` marks the rule because of which the challenger is held."""

    name: str
    passed: bool
    value: float | None
    bound: float | None
    sentence: str
    decides: bool


@dataclass(frozen=True)
class MetricLine:
    """A metric of both versions on the same customers; `margin` is the difference that non-inferiority allows."""

    metric: str
    name: str
    smaller_is_better: bool
    challenger: Interval
    champion: Interval | None
    delta: Interval | None
    margin: float | None


@dataclass(frozen=True)
class SliceLine:
    """A group of customers; `p` is None if there were too few of them to test."""

    column: str
    name: str
    rows: int
    events: int
    delta: Interval | None
    p: float | None


@dataclass(frozen=True)
class Budget:
    """The error budget of a champion: `total` is the allowed probability of promoting a model that is not better.

    `spent` is how much of it the `looks` of the last `nights` nights have used.
    """

    spent: float
    total: float
    nights: int
    looks: int


def rule_lines(rules: Sequence[dict[str, Any]], code: str | None) -> list[RuleLine]:
    """List the rules, failures first, and the one that decided before the others.

    Args:
        rules: the rules as the ledger keeps them.
        code: the code of the hold; None if the challenger is not held.
    """
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


def describe_customers(stored: dict[str, Any], names: EventNames = CHURNED) -> str:
    """Say on which customers both versions were compared; empty if there were none."""
    evidence, window = stored.get("evidence", {}), stored.get("case", {}).get("window")
    if not evidence.get("rows"):
        return ""
    ends = (datetime.fromisoformat(window["since"]), datetime.fromisoformat(window["until"])) if window else None
    about = describe_evidence(evidence["rows"], evidence["events"], ends, bool(window and window["widened"]), names)
    contact = stored["case"].get("contact", {}) if "case" in stored else {}
    said = describe_contact(contact.get("left_out", 0), contact.get("control", 0))
    return " ".join(filter(None, [about, said]))


def metric_lines(evidence: dict[str, Any], policy: Policy | None) -> list[MetricLine]:
    """List each metric of challenger and champion, with their difference."""
    champion, deltas = evidence.get("champion", {}), evidence.get("deltas", {})
    return [
        _metric_line(metric, estimate, champion.get(metric), deltas.get(metric), policy)
        for metric, estimate in evidence.get("challenger", {}).items()
    ]


def baseline_lines(stored: dict[str, Any], policy: Policy | None) -> list[MetricLine]:
    """List each metric of the challenger, with its difference from the baseline version."""
    challenger = stored.get("evidence", {}).get("challenger", {})
    return [
        _metric_line(metric, challenger[metric], None, delta, policy)
        for metric, delta in stored.get("anchor_deltas", {}).items()
        if metric in challenger
    ]


def _metric_line(
    metric: str,
    challenger: dict[str, Any],
    champion: dict[str, Any] | None,
    delta: dict[str, Any] | None,
    policy: Policy | None,
) -> MetricLine:
    margins = {"roc_auc": -policy.freshness.roc_auc_margin, "brier": policy.freshness.brier_margin} if policy else {}
    return MetricLine(
        metric,
        METRIC_NAMES.get(metric, metric),
        metric in SMALLER_IS_BETTER,
        Interval(challenger["value"], challenger["lower"], challenger["upper"]),
        interval(champion),
        interval(delta),
        margins.get(metric),
    )


def slice_lines(stored: dict[str, Any]) -> list[SliceLine]:
    """List the slices, the worst first and those too small to test last."""
    lines = [
        SliceLine(group["column"], group["name"], group["rows"], group["events"], interval(group["delta"]), group["p"])
        for group in stored.get("slices", [])
    ]
    return sorted(
        lines, key=lambda line: (line.p is None or line.delta is None, line.delta.value if line.delta else 0.0)
    )


def sum_budget(looks: dict[int, int], policy: Policy | None) -> Budget | None:
    """Sum up what the looks have spent; None without a policy.

    Args:
        looks: the number of looks by their position within their calendar night.
        policy: the policy that decided.
    """
    if policy is None:
        return None
    rule = policy.superiority
    spent = sum(rule.level(position) * count for position, count in looks.items())
    return Budget(spent, rule.error_budget, rule.nights, sum(looks.values()))
