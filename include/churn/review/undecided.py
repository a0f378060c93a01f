"""A night without a decision: what it took in, and what failed."""

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
    """A task that has failed at its last try."""

    subject: str
    text: str
    noticed_at: datetime


@dataclass(frozen=True)
class Undecided:
    """The page of such a night."""

    night: str
    headline: str
    sentence: str
    failures: list[Failure]
    batches: list[BatchLine]
    links: list[Link]


def load_undecided(ledger: Ledger, settings: Settings, name: str) -> Undecided | None:
    """Read what is known of a night without a decision; None where nothing is."""
    batches, failures = ledger.batches(night=name), ledger.failures(RETRAINING, name)
    if not (batches or failures):
        return None
    rejected = sum(one.state == "rejected" for one in batches)
    if failures:
        headline = "Nothing is decided: a task failed."
        sentence = "When its cause is mended, its task can be cleared in Airflow, and the night goes on."
    elif rejected == len(batches):
        what = "the file of this night is" if rejected == 1 else f"all {counted(rejected, 'file')} of this night are"
        headline = f"Nothing is decided: {what} rejected."
        sentence = "Mend what was rejected and land it again; the next night takes it in."
    else:
        headline = "Nothing is decided yet."
        sentence = "The night may still run, or was ended before it could decide: its run in Airflow says which."
    return Undecided(
        name,
        headline,
        sentence,
        [Failure(one.subject, one.text, one.noticed_at) for one in failures],
        [batch_line(one, settings) for one in batches],
        [Link("DAG run", run_page(settings, RETRAINING, name))],
    )
