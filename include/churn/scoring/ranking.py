"""Ranks customers by expected value, and chooses whom to contact: pure functions of arrays."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from churn.scoring.scoring_policy import Contact

Numbers = NDArray[np.float64]
Flags = NDArray[np.bool_]


@dataclass(frozen=True)
class Ranking:
    """Customers by rank.

    - `order`: the positions of the customers, the first rank first, shape (customers,)
    - `listed`: whether a customer is within the capacity, shape (customers,)
    - `expected`: the sum of the expected values within the capacity
    - `by_probability`: the same if the likeliest customers had been chosen instead, as many of them
    """

    order: NDArray[np.int64]
    listed: Flags
    expected: float
    by_probability: float

    @property
    def ranks(self) -> NDArray[np.int64]:
        """The rank of each customer, from 1, shape (customers,)."""
        ranks = np.empty(len(self.order), np.int64)
        ranks[self.order] = np.arange(1, len(self.order) + 1)
        return ranks


def expected_value(probability: Numbers, value: Numbers | float, contact: Contact) -> Numbers:
    """What contacting each customer brings on average: the share of leavers who are kept, times their value, less the cost.

    Args:
        probability: that the customer leaves, shape (customers,).
        value: of a kept customer, shape (customers,) or one for all.
        contact: success rate and cost.
    """
    return probability * contact.success_rate * value - contact.cost


def rank_customers(expected: Numbers, probability: Numbers, eligible: Flags, capacity: int) -> Ranking:
    """Rank customers by expected value; of equal ones, the first comes first.

    Within the capacity are the first eligible customers, as far as contacting them brings more than it costs.

    Args:
        expected: the expected value of contacting each customer, shape (customers,).
        probability: that the customer leaves, shape (customers,).
        eligible: whether the customer may be contacted, shape (customers,).
        capacity: the number of customers who can be contacted.
    """
    order = np.argsort(-expected, kind="stable")
    listed = np.zeros(len(expected), bool)
    listed[_first(order, eligible & (expected > 0), capacity)] = True
    count = int(listed.sum())
    likeliest = _first(np.argsort(-probability, kind="stable"), eligible, count) if count else order[:0]
    return Ranking(order, listed, float(expected[listed].sum()), float(expected[likeliest].sum()))


def shares_of_rank(ranks: NDArray[np.int64], customers: int, parts: int) -> NDArray[np.int64]:
    """The hundredth (`parts` = 100) or tenth (10) of the ranks that each rank is in; 1 is the top."""
    return -(-ranks * parts // customers)


def _first(order: NDArray[np.int64], eligible: Flags, count: int) -> NDArray[np.int64]:
    return order[eligible[order]][:count]
