"""The page of a run without a decision: what it ingested, and what failed."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from churn.foundation.ledger import Ledger
from churn.foundation.links import RETRAINING, run_page
from churn.review.nights import BatchLine, batch_line
from churn.review.presentation import Link, counted
from churn.settings import Settings


@dataclass(frozen=True)
class Failure:
    """A task whose last attempt failed."""

    subject: str
    text: str
    noticed_at: datetime


@dataclass(frozen=True)
class Undecided:
    """The page of a run without a decision."""

    night: str
    headline: str
    sentence: str
    failures: list[Failure]
    batches: list[BatchLine]
    links: list[Link]


def load_undecided(ledger: Ledger, settings: Settings, name: str) -> Undecided | None:
    """Read what the ledger knows about a run without a decision; None if it knows nothing."""
    batches, failures = ledger.batches(night=name), ledger.failures(RETRAINING, name)
    if not (batches or failures):
        return None
    rejected = sum(batch.state == "rejected" for batch in batches)
    if failures:
        headline = "No decision: a task failed."
        sentence = "Fix the cause, then clear the task in Airflow. The run continues from there."
    elif rejected == len(batches):
        subject = "the file of this run was" if rejected == 1 else f"all {counted(rejected, 'file')} of this run were"
        headline = f"No decision: {subject} rejected."
        sentence = "Fix the rejected files and land them again. The next run ingests them."
    else:
        headline = "No decision yet."
        sentence = (
            "The run is still in progress, or was stopped before it could decide. Its page in Airflow shows which."
        )
    return Undecided(
        name,
        headline,
        sentence,
        [Failure(alert.subject, alert.text, alert.noticed_at) for alert in failures],
        [batch_line(batch, settings) for batch in batches],
        [Link("DAG run", run_page(settings, RETRAINING, name))],
    )
