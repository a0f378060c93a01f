"""What the page Outcomes says before much is known."""

from __future__ import annotations

from datetime import UTC, date, datetime

import pytest

from churn.foundation.records import Promotion
from churn.review.outcomes import Waiting, make_outcomes
from churn.review.pages import render_outcomes
from support.review_ledger import SITE

CHANGE = Promotion("model", 3, 2, None, "promotion", "night", "better", datetime(2026, 1, 1, tzinfo=UTC))


@pytest.mark.parametrize(
    ("waiting", "words"),
    [
        (Waiting(0, 0, []), "Every label is known."),
        (Waiting(12, 0, []), "12 rows wait for their label. The log of the newest run says when the first are due."),
        (
            Waiting(12, 0, [(date(2026, 2, 3), 12)]),
            "12 rows wait for their label. The next labels are due on 2026-02-03.",
        ),
        (
            Waiting(6000, 6000, []),
            "6,000 rows wait for their label. The horizon of 6,000 has passed: their labels, or a file of leavers for that time, have not "
            "arrived or were rejected. `churn batches` shows which files came.",
        ),
    ],
)
def test_what_waits_is_said_in_any_state(waiting: Waiting, words: str) -> None:
    """Also before anything is in production."""
    assert waiting.words == words
    nothing = make_outcomes([], {}, None, None, [], [], {}, waiting)
    assert nothing.headline == "Nothing is in production."
    assert nothing.detail.endswith(words) is bool(waiting.rows)


def test_a_first_promotion_is_not_comparable_before_any_look() -> None:
    view = make_outcomes([CHANGE], {}, CHANGE, None, [], [], {}, None)
    assert render_outcomes(view, SITE).count("no earlier version") >= 2
    (first,) = view.promotions
    assert (first.state, first.before) == ("not_comparable", None)
    (second,) = make_outcomes([CHANGE], {}, CHANGE, 1, [], [], {}, None).promotions
    assert (second.state, second.before) == ("unconfirmed", 1)
