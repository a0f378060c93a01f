"""Words that several packages show to people: stored kinds of changes, and a person's words inside a text."""

from __future__ import annotations

import re
from datetime import datetime

from churn.contract import CHURNED, EventNames

KIND_WORDS = {
    "promotion": "promoted",
    "forced": "force-promoted",
    "rollback": "restored in a rollback",
    "take_back": "restored after an automatic rollback",
    "adopted": "adopted from MLflow",
}
"""What happened to the version that a change of production put there, by the stored kind of the change."""
REVERSALS = {"rollback": "rolled back", "take_back": "rolled back automatically"}
"""What happened to the version that was replaced, by the kinds of changes that reverse a promotion."""


_REJECTED = " has been rejected: "
_WHERE_KEPT = re.compile(r" (Its [\d,]+ rows are in|It is kept as) .* Report: .*$")


def rejection(batch: str, name: str, cause: str) -> str:
    """The message about a rejected batch, which the ledger keeps."""
    return f"Batch {batch} ({name}){_REJECTED}{cause}"


def cause_of_rejection(message: str) -> str:
    """The cause alone, for a place that already names the batch and links to its rows and its report."""
    return _WHERE_KEPT.sub("", message.partition(_REJECTED)[2] or message)


_NOT_BUILT, _INSTEAD = "not built, because ", "; the same service was verified in its own environment: "


def not_built(reason: str, verification: str) -> str:
    """The detail that the ledger keeps of an image that could not be built here."""
    return f"{_NOT_BUILT}{reason}{_INSTEAD}{verification}"


def why_not_built(detail: str) -> str:
    """Why there is no image, as the end of a sentence, from the detail that the ledger keeps."""
    return detail.removeprefix(_NOT_BUILT).partition(_INSTEAD)[0]


def describe_evidence(
    rows: int,
    events: int,
    window: tuple[datetime, datetime] | None,
    widened: bool,
    names: EventNames = CHURNED,
) -> str:
    """Say on which customers two versions were compared.

    Args:
        rows: number of unseen customers.
        events: how many of them have the event.
        window: when they arrived; None for all that were accepted.
        widened: whether the usual number of days had too few of them.
        names: what people call the event.
    """
    wider = " (window widened to have enough customers)" if widened else ""
    when = f" that arrived from {window[0]:%Y-%m-%d} to {window[1]:%Y-%m-%d}{wider}" if window else ""
    return f"{rows:,} unseen customers{when}; {events:,} of them {names.event}."


def describe_contact(left_out: int, control: int) -> str:
    """Say how many customers do not count because a list had contacted them, and who counts for them; empty if there are none.

    Args:
        left_out: number of customers whom a list had contacted.
        control: number of customers of control groups.
    """
    if not left_out:
        return ""
    instead = (
        f"{control:,} customers of control groups count for them too"
        if control
        else "no control group counts for them, so the figures are affected by contact"
    )
    return f"{left_out:,} customers whom a list had contacted are left out; {instead}."


def as_sentence_end(text: str) -> str:
    """A person's words with a full stop, so that another sentence may follow."""
    return text if text.rstrip().endswith((".", "!", "?")) else f"{text.rstrip()}."


def as_sentence(text: str) -> str:
    """A text that begins in lower case, as a sentence."""
    return text[:1].upper() + text[1:]


def clear_task(task: str) -> str:
    """The next step after a task that has not done its work, because it failed or was only marked as success."""
    return f"In Airflow, clear the task `{task}` of this run, with its downstream tasks."
