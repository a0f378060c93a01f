"""What pages, alerts and the terminal say of a list: counts and sums, and no customer."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from churn.scoring.ranking import Numbers, Ranking
from churn.scoring.scored_rows import Scored

_BINS = 20
_BLOCK = 1_000_000  # customers


def distribution_of(probability: Numbers) -> list[int]:
    """The number of customers by score, in 20 equal ranges from 0 to 1."""
    counts, _ = np.histogram(probability, bins=_BINS, range=(0.0, 1.0))
    return [int(count) for count in counts]


def estimate_quality(probability: Numbers) -> dict[str, float | None]:
    """ROC AUC and Brier score that are expected if the scores are calibrated; no label is needed.

    Each customer counts as an event with the probability of the score: Brier is the mean of p (1 - p), and ROC AUC is the
    probability that of an event and a non-event, drawn by these weights, the event has the higher score, ties counting half.

    Args:
        probability: shape (customers,).
    """
    customers = len(probability)
    if not customers:
        return {"roc_auc": None, "brier": None}
    ordered = np.sort(probability)
    events = float(ordered.sum())
    brier = (events - float(ordered @ ordered)) / customers
    total = events * (customers - events)
    return {"roc_auc": _ordered_pairs(ordered) / total if total > 0 else None, "brier": brier}


def _ordered_pairs(ordered: Numbers) -> float:
    """The expected number of pairs of an event and a non-event with a lower score, ties counting half; block by block, for the memory."""
    pairs, below, begin = 0.0, 0.0, 0
    while begin < len(ordered):
        end = int(np.searchsorted(ordered, ordered[min(begin + _BLOCK, len(ordered)) - 1], side="right"))
        block = ordered[begin:end]
        _, starts = np.unique(block, return_index=True)
        events, others = np.add.reduceat(block, starts), np.add.reduceat(1.0 - block, starts)
        lower = below + np.cumsum(others) - others
        pairs += float((events * (lower + others / 2)).sum())
        below += float(others.sum())
        begin = end
    return pairs


def summarise(
    scored: Scored,
    ranking: Ranking,
    capacity: int,
    excluded: int,
    checked: int,
    differences: Mapping[str, float],
    drift: dict[str, Any],
) -> dict[str, Any]:
    """Count and sum what a list contains, as plain JSON.

    Args:
        scored: the scores.
        ranking: who is within the capacity.
        capacity: the number of customers who can be contacted.
        excluded: the number of customers who are left out because of another campaign.
        checked: the number of customers that were scored again.
        differences: the largest difference of their scores, by where they were scored again.
        drift: of `scoring.drift`, as plain JSON.

    Returns:
        - `capacity`, `listed`, `excluded`: customers who can be contacted, are to be contacted or left alone, are left out
        - `expected_value`, `by_probability`: sums of the expected values of those listed, and of as many of the likeliest
        - `mean_probability`: of all customers; `deciles`: by tenth of the ranks, the top first
        - `distribution`: customers by score, in 20 equal ranges from 0 to 1
        - `estimated`: ROC AUC and Brier score, if the scores are calibrated
        - `drift`: as given
        - `checked`, `scored_again`, `largest_difference`: customers that were scored again, where, and the largest difference
    """
    tenths = np.array_split(scored.probability[ranking.order], 10)
    return {
        "capacity": capacity,
        "listed": int(ranking.listed.sum()),
        "excluded": excluded,
        "expected_value": ranking.expected,
        "by_probability": ranking.by_probability,
        "mean_probability": float(scored.probability.mean()),
        "deciles": [float(tenth.mean()) if len(tenth) else None for tenth in tenths],
        "distribution": distribution_of(scored.probability),
        "estimated": estimate_quality(scored.probability),
        "drift": drift,
        "checked": checked,
        "scored_again": list(differences),
        "largest_difference": max(differences.values()),
    }
