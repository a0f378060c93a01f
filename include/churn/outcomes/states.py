"""What is said of promotions, rows and labels, for code that measures them and for pages that show them. It imports nothing heavy."""

from __future__ import annotations

from datetime import date, timedelta
from enum import StrEnum

from churn.contract import Contract
from churn.foundation.records import Snapshot


class State(StrEnum):
    """What later rows say of a promotion."""

    UNCONFIRMED = "unconfirmed"
    CONFIRMED = "confirmed"
    REFUTED = "refuted"
    UNDECIDED = "undecided"
    NOT_COMPARABLE = "not_comparable"


FINAL = frozenset({State.CONFIRMED, State.REFUTED, State.NOT_COMPARABLE})
"""States that later rows do not change any more."""
PROMOTIONS = ("promotion", "forced", "adopted")
"""Changes of production that later rows can confirm: a rollback is not one, it returns to what is known."""
REASONS = {
    "earlier": "arrived before the promotion",
    "trained": "the customer was trained on",
    "decided": "a decision between the versions used the customer",
    "contacted": "the customer was contacted",
    "waiting": "the label is not known yet",
    "repeated": "a further row of the customer",
}
"""Why rows do not count, in the order in which they are asked."""


def due_dates(snapshot: Snapshot, contract: Contract) -> dict[date, int]:
    """The rows that wait, by the date on which their horizon has passed."""
    if contract.horizon_days is None:
        return {}
    return {
        date.fromisoformat(day) + timedelta(days=contract.horizon_days + 1): rows
        for day, rows in sorted((snapshot.waiting or {}).items())
    }
