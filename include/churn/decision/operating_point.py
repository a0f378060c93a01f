"""What a list of a given capacity would find: precision, recall and lift among the customers with the highest scores.

No rule reads these figures. They are given where the bank acts, at the capacity of the scoring policy, and as a curve over it.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import floor

import numpy as np
from numpy.typing import NDArray

from churn.decision.inference import Labels, Scores

SHARES = (0.01, 0.02, 0.03, 0.05, 0.075, 0.1, 0.15, 0.2, 0.25, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)
"""The capacities of the curve, as shares of the customers."""


@dataclass(frozen=True)
class OperatingPoint:
    """What the customers within a capacity are like.

    - `capacity`: their share of all customers
    - `precision`: the share of them with the event; None if there is nobody within the capacity
    - `recall`: the share of the events that is among them; None if there are no events
    - `lift`: precision compared with the share of events among all customers; None if either is unknown
    """

    capacity: float
    precision: float | None
    recall: float | None
    lift: float | None

    def to_json(self) -> list[float | None]:
        """The four figures, rounded to four digits, as plain JSON."""
        return [
            None if one is None else round(one, 4) for one in (self.capacity, self.precision, self.recall, self.lift)
        ]


def within_capacity(scores: Scores, share: float, weights: Scores | None = None) -> NDArray[np.bool_]:
    """Whether each customer is within a capacity: those with the highest scores; of equal ones, the first.

    Args:
        scores: shape (customers,).
        share: the capacity, as a share of the customers.
        weights: how many customers each stands for; None if each stands for itself.
    """
    chosen, order = np.zeros(len(scores), bool), np.argsort(-scores, kind="stable")
    if weights is None:
        chosen[order[: floor(share * len(scores) + 1e-9)]] = True
    else:
        chosen[order] = weights[order].cumsum() <= share * weights.sum() + 1e-9
    return chosen


def at_capacity(target: Labels, scores: Scores, share: float, weights: Scores | None = None) -> OperatingPoint:
    """Precision, recall and lift at a capacity.

    Args:
        target: 1 for the event, shape (customers,).
        scores: shape (customers,).
        share: the capacity, as a share of the customers.
        weights: how many customers each stands for; None if each stands for itself.
    """
    chosen = within_capacity(scores, share, weights)
    each = np.ones(len(scores)) if weights is None else weights
    hits, events, listed = (float(part.sum()) for part in ((each * target)[chosen], each * target, each[chosen]))
    precision = hits / listed if listed else None
    lift = precision / (events / float(each.sum())) if precision is not None and events else None
    return OperatingPoint(share, precision, hits / events if events else None, lift)


def capacity_curve(target: Labels, scores: Scores, weights: Scores | None = None) -> list[OperatingPoint]:
    """The operating point at each of `SHARES`."""
    return [at_capacity(target, scores, share, weights) for share in SHARES]
