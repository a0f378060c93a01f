"""The figures of a run's page, from the JSON of the ledger."""

from __future__ import annotations

from typing import Any

import pytest

from churn.contract import EventNames
from churn.contracts.bank import BANK_CHURN
from churn.review.measures import describe_customers, metric_lines, rule_lines, slice_lines, sum_budget
from support.evidence_cases import POLICY


def rule(name: str, passed: bool, code: str = "X") -> dict[str, Any]:
    return {"name": name, "passed": passed, "code": code, "value": 1.0, "bound": 2.0, "sentence": "Text."}


def estimate(value: float) -> dict[str, float]:
    return {"value": value, "lower": value - 0.1, "upper": value + 0.1}


def test_the_deciding_rule_comes_first() -> None:
    """Then the other failures, then what passed; without a hold no rule decides."""
    rules = [rule("a", True), rule("b", False, "Y"), rule("c", False, "X"), rule("d", True)]
    assert [line.name for line in rule_lines(rules, "X")] == ["c", "b", "a", "d"]
    assert [line.name for line in rule_lines(rules, "X") if line.decides] == ["c"]
    assert not any(line.decides for line in rule_lines(rules, None))


def test_the_worst_slice_comes_first_and_the_untested_last() -> None:
    """A slice without a p-value was too small to test."""
    slices = [
        {"column": "C", "name": name, "rows": 1, "events": 1, "delta": delta and estimate(delta), "p": p}
        for name, delta, p in (("good", 0.1, 0.5), ("small", None, None), ("bad", -0.1, 0.01))
    ]
    assert [line.name for line in slice_lines({"slices": slices})] == ["bad", "good", "small"]
    assert slice_lines({}) == []


def test_margins_have_the_sign_of_harm() -> None:
    """ROC AUC may decrease by its margin, the Brier score may increase; other metrics have none."""
    evidence = {"challenger": {"roc_auc": estimate(0.8), "brier": estimate(0.1), "pr_auc": estimate(0.5)}}
    lines = {line.metric: line for line in metric_lines(evidence, POLICY)}
    assert lines["roc_auc"].margin == -POLICY.freshness.roc_auc_margin
    assert lines["brier"].margin == POLICY.freshness.brier_margin
    assert (lines["pr_auc"].margin, lines["pr_auc"].champion) == (None, None)


def test_the_customers_are_described() -> None:
    """Their number, their window, and whether it was widened."""
    window = {"since": "2026-01-01T00:00:00+00:00", "until": "2026-02-01T00:00:00+00:00", "widened": True}
    stored = {"evidence": {"rows": 1234, "events": 56}, "case": {"window": window}}
    assert describe_customers(stored, EventNames("cancelled", "stayed")).endswith("; 56 of them cancelled.")
    assert describe_customers(stored, BANK_CHURN.event_names) == (
        "1,234 unseen customers that arrived from 2026-01-01 to 2026-02-01 (window widened to have enough customers); "
        "56 of them left."
    )
    assert describe_customers({"evidence": {"rows": 0}}) == ""


def test_the_budget_is_the_sum_over_the_looks() -> None:
    """Each look spends the level of its position within its calendar night."""
    budget = sum_budget({0: 3, 1: 1}, POLICY)
    assert budget is not None
    level = POLICY.superiority.level
    assert (budget.looks, budget.spent) == (4, pytest.approx(3 * level(0) + level(1)))
    assert sum_budget({0: 3}, None) is None
