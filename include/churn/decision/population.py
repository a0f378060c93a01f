"""What the ledger knows about the customers: how many have the event, how well they are ranked, how many come a night."""

from __future__ import annotations

from dataclasses import dataclass
from statistics import median
from typing import Any

from churn.foundation.ledger import Ledger
from churn.learning.snapshot import HOLDOUT

_RECENT = 50
"""Number of decisions that are looked at for a ROC AUC."""


@dataclass(frozen=True)
class Measured:
    """What was measured: the share of accepted customers with the event, the ROC AUC of a version, unseen customers a night.

    `auc` is None before the first comparison.
    """

    event_rate: float
    auc: float | None
    customers: int


def measure_population(ledger: Ledger, model: str) -> Measured | None:
    """Measure the customers of a ledger; None before its first accepted batch with both outcomes.

    The ROC AUC is that of the champion in the newest comparison, or of the challenger if there was no champion.

    Args:
        ledger: the ledger to read.
        model: the name of the registered model.
    """
    sizes = ledger.accepted_sizes()
    rows, events = sum(rows for rows, _ in sizes), sum(events for _, events in sizes)
    if not 0 < events < rows:
        return None
    a_night = round(median(rows for rows, _ in sizes) * len(HOLDOUT) / 100)
    aucs = (_auc(decision.comparison) for decision in ledger.decisions(limit=_RECENT, model=model))
    return Measured(events / rows, next((auc for auc in aucs if auc is not None), None), max(1, a_night))


def _auc(comparison: dict[str, Any]) -> float | None:
    evidence = comparison.get("evidence", {})
    for role in ("champion", "challenger"):
        estimate = evidence.get(role, {}).get("roc_auc")
        if estimate:
            return float(estimate["value"])
    return None
