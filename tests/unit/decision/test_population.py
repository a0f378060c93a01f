"""What the ledger knows of its customers is what a simulation begins with."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest

from churn.decision.population import measure_population
from churn.foundation.ledger import Ledger, open_ledger
from churn.foundation.records import BatchVerdict
from support.review_ledger import NOW, fill_ledger


def accepted(ledger: Ledger, name: str, rows: int, events: int) -> None:
    batch = name * 64
    ledger.add_batch(batch, f"{name}.csv", 1, datetime(2026, 1, 1, tzinfo=UTC))
    verdict = BatchVerdict("accepted", rows, rows, 0, events=events)
    ledger.judge_batch(batch, "night", verdict, [])


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    return open_ledger(f"sqlite:///{tmp_path}/ledger.db")


def test_nothing_is_known_before_the_first_batch(ledger: Ledger) -> None:
    """Nor while all customers have the same label."""
    assert measure_population(ledger, "churn") is None
    accepted(ledger, "a", 100, 0)
    assert measure_population(ledger, "churn") is None


def test_shares_and_sizes_are_those_of_the_accepted_batches(ledger: Ledger) -> None:
    """The median batch counts, so that a first load of the whole history is not taken for a night."""
    for name, rows, events in (("a", 10_000, 2000), ("b", 200, 60), ("c", 300, 40)):
        accepted(ledger, name, rows, events)
    measured = measure_population(ledger, "churn")
    assert measured is not None
    assert (measured.event_rate, measured.customers, measured.auc) == (pytest.approx(0.2), 60, None)


def test_the_roc_auc_is_that_of_the_newest_comparison(tmp_path: Path) -> None:
    """Of the champion, on the customers of the newest run."""
    ledger = fill_ledger(f"sqlite:///{tmp_path}/full.db", 6, until=NOW)
    measured = measure_population(ledger, "churn")
    newest = next(iter(ledger.decisions(limit=1, model="churn"))).comparison["evidence"]
    assert measured is not None
    assert measured.auc == newest["champion"]["roc_auc"]["value"]
    assert measure_population(ledger, "another").auc is None  # type: ignore[union-attr]
