"""Customers are ranked by expected value; within the capacity are the first who may be contacted and are worth it."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from churn.scoring.ranking import expected_value, rank_customers, shares_of_rank
from churn.scoring.scoring_policy import Contact

CONTACT = Contact(cost=10.0, success_rate=0.2)


def test_the_expected_value_is_what_is_kept_less_the_cost() -> None:
    assert expected_value(np.array([0.5, 0.0]), np.array([1000.0, 7.0]), CONTACT).tolist() == [90.0, -10.0]


def test_the_first_customers_who_may_be_contacted_are_within_the_capacity() -> None:
    """The second is left out by another campaign, and the fourth costs more than it brings."""
    expected = np.array([5.0, 9.0, 1.0, -1.0])
    ranking = rank_customers(expected, np.array([0.1, 0.9, 0.2, 0.8]), np.array([True, False, True, True]), 3)
    assert ranking.ranks.tolist() == [2, 1, 3, 4]
    assert ranking.listed.tolist() == [True, False, True, False]
    assert ranking.expected == 6.0
    assert ranking.by_probability == 0.0  # the likeliest two who may be contacted are the fourth and the third


def test_of_equal_customers_the_first_comes_first() -> None:
    ranking = rank_customers(np.ones(4), np.full(4, 0.5), np.ones(4, bool), 2)
    assert ranking.ranks.tolist() == [1, 2, 3, 4]
    assert ranking.listed.tolist() == [True, True, False, False]


@given(st.lists(st.floats(-5, 5), min_size=1, max_size=40), st.integers(0, 50))
def test_ranking_by_expected_value_is_never_worse_than_by_probability(values: list[float], capacity: int) -> None:
    """As many customers, chosen in the other order, never bring more."""
    expected = np.array(values)
    probability = np.linspace(0, 1, len(values))
    ranking = rank_customers(expected, probability, np.ones(len(values), bool), capacity)
    assert int(ranking.listed.sum()) == min(capacity, int((expected > 0).sum()))
    assert ranking.expected >= ranking.by_probability - 1e-9
    assert sorted(ranking.ranks.tolist()) == list(range(1, len(values) + 1))


def test_a_tenth_and_a_hundredth_of_the_ranks() -> None:
    ranks = np.arange(1, 1001)
    tenths, hundredths = shares_of_rank(ranks, 1000, 10), shares_of_rank(ranks, 1000, 100)
    assert np.bincount(tenths)[1:].tolist() == [100] * 10
    assert np.bincount(hundredths)[1:].tolist() == [10] * 100
    assert shares_of_rank(np.arange(1, 4), 3, 10).tolist() == [4, 7, 10]
