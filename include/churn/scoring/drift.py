"""How far the customers of a list are from the training rows, and its scores from those of the list before."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from churn.contract import Kind
from churn.foundation import columnar
from churn.foundation.clients import Clients
from churn.foundation.records import Drift, ScoreList, Snapshot
from churn.foundation.scratch import given
from churn.intake.drift import SAMPLE, compare_columns, index_by_chance, stability_index
from churn.learning.snapshot import TRAINING, scan_counted
from churn.scoring.ranking import Numbers
from churn.scoring.scoring_policy import ScoredDrift
from churn.scoring.summary import distribution_of


@dataclass(frozen=True)
class ListDrift:
    """The drift of a list: its columns against the training rows, and its scores against the list before (None: there is none).

    `bound` is the limit that the scores were compared with. `refuses` says whether the list may not be published.
    """

    columns: list[Drift]
    scores: float | None
    bound: float | None
    refuses: bool

    @property
    def drifted(self) -> list[str]:
        """The columns that drifted, and `the scores` if they did."""
        names = [column.column for column in self.columns if column.drifted]
        return [*names, "the scores"] if self.scores is not None and self.scores > (self.bound or 0.0) else names

    @property
    def sentence(self) -> str:
        """What drifted, in words."""
        return (
            f"Customers or scores differ from what the version was trained on, or from the list before: {', '.join(self.drifted)}. "
            "Check the file, and whether a retraining is due."
        )

    def to_json(self) -> dict[str, Any]:
        """The drift as plain JSON."""
        return {
            "columns": [asdict(column) for column in self.columns],
            "scores": self.scores,
            "bound": self.bound,
            "drifted": self.drifted,
        }


def measure_scored_drift(
    clients: Clients,
    files: Sequence[Path],
    trained: Snapshot,
    probability: Numbers,
    limits: ScoredDrift,
    before: ScoreList | None,
) -> ListDrift:
    """Measure the drift of a list by the population stability index, with the bound that chance alone may reach.

    Args:
        clients: data root, ledger and settings.
        files: Parquet files of the customers.
        trained: the snapshot that the version was trained on.
        probability: the scores, shape (customers,).
        limits: of the scoring policy.
        before: the list before, of the same campaign.

    Raises:
        PartFault: a part of the snapshot is missing or has been changed.
    """
    columns = _measure_columns(clients, files, trained, limits.psi)
    scores, bound = None, None
    if before and before.rows:
        then, now = np.array(before.summary["distribution"]), np.array(distribution_of(probability))
        used = (then + now) > 0
        scores = stability_index(then[used], now[used])
        bound = max(limits.psi, index_by_chance(int(then.sum()), int(now.sum()), int(used.sum())))
    drift = ListDrift(columns, scores, bound, False)
    return ListDrift(columns, scores, bound, bool(drift.drifted) and limits.action == "refuse")


def _measure_columns(clients: Clients, files: Sequence[Path], trained: Snapshot, limit: float) -> list[Drift]:
    contract = clients.contract
    with clients.storage.scratch() as scratch, columnar.engine(clients.settings.duckdb_memory_limit) as connection:
        scan_counted(connection, "snapshot", clients.storage, trained, contract, TRAINING, scratch)
        there = set(connection.view("snapshot").columns)
        columns = [column for column in contract.attributes if column.kind is not Kind.DATE and column.name in there]
        names = [column.name for column in columns]
        columnar.select_buckets(connection, "trained", "snapshot", TRAINING)
        now = columnar.sample_rows(connection, [given(file) for file in files], names, contract, SAMPLE)
        before = columnar.sample_rows(connection, "trained", names, contract, SAMPLE)
    return compare_columns(columns, before, now, limit)
