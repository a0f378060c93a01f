"""Features that identify a customer, and a feature that knows the answer, are found."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from churn.contract import Column, Contract, Kind, Role
from churn.decision.leaks import find_leaks

KEY, TARGET = Column("key", Kind.INTEGER, Role.KEY), Column("left", Kind.INTEGER, Role.TARGET, 0, 1)
LABELS = [0, 1] * 50


def number(name: str) -> Column:
    return Column(name, Kind.NUMBER, Role.FEATURE)


@pytest.mark.parametrize(
    ("name", "identifies"),
    [
        ("CustomerId", True),
        ("account_no", True),
        ("Surname", True),
        ("Paid", False),
        ("Humid", False),
        ("Balance", False),
    ],
)
def test_identifiers_are_recognised_by_name(name: str, identifies: bool) -> None:
    """Whole words count, not letters inside of one."""
    rows = pd.DataFrame({"key": range(100), "left": LABELS, name: np.arange(100.0)})
    assert find_leaks(rows, Contract("c", (KEY, TARGET, number(name)))).identifiers == ([name] if identifies else [])


def test_the_feature_that_ranks_best_is_named() -> None:
    """In either direction, for a number and for a text; a missing number ranks lowest."""
    text = Column("plan", Kind.TEXT, Role.FEATURE, categories=("x", "y"))
    rows = pd.DataFrame({"key": range(100), "left": LABELS, "noise": [0.5] * 100, "plan": ["y", "x"] * 50})
    leaks = find_leaks(rows, Contract("c", (KEY, TARGET, number("noise"), text)))
    assert (leaks.feature, leaks.feature_auc) == ("plan", 1.0)
    rows = rows.assign(noise=[1.0, np.nan] * 50, plan="x")
    leaks = find_leaks(rows, Contract("c", (KEY, TARGET, number("noise"), text)))
    assert (leaks.feature, leaks.feature_auc) == ("noise", 1.0)


def test_with_one_class_nothing_can_be_ranked() -> None:
    """Names are still looked at."""
    rows = pd.DataFrame({"key": range(3), "left": [0, 0, 0], "AccountId": [1.0, 2.0, 3.0]})
    leaks = find_leaks(rows, Contract("c", (KEY, TARGET, number("AccountId"))))
    assert (leaks.identifiers, leaks.feature, leaks.feature_auc) == (["AccountId"], None, None)


def test_a_text_of_any_value_does_not_rank_by_its_customers() -> None:
    """A text that everybody has for themselves would give each label away; only the frequent ones count."""
    city = Column("city", Kind.TEXT, Role.FEATURE, max_levels=2)
    rows = pd.DataFrame({"key": range(100), "left": LABELS, "city": [f"street {at}" for at in range(100)]})
    assert (find_leaks(rows, Contract("c", (KEY, TARGET, city))).feature_auc or 0) < 0.6
    rows = rows.assign(city=["Bern", "Zug"] * 50)
    assert find_leaks(rows, Contract("c", (KEY, TARGET, city))).feature_auc == 1.0
