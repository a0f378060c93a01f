"""What `churn replay` concludes."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import pytest

from churn.cli.decisions import _differs, _outcome


@pytest.mark.parametrize(
    ("code", "differs"), [("SUPERIOR", False), ("NO_CHAMPION", True)], ids=["the same", "another reason"]
)
def test_another_policy_differs_by_verdict_or_reason(code: str, differs: bool) -> None:
    """Whether the stored rows are unchanged is another question."""
    record, decision = (
        SimpleNamespace(verdict="promote", code=code),
        SimpleNamespace(verdict="promote", code="SUPERIOR"),
    )
    assert _differs(cast("Any", SimpleNamespace(record=record, decision=decision))) is differs


def test_the_conclusion_counts_what_differs() -> None:
    """One decision is not "all", and another policy is named as the cause."""
    assert _outcome(0, 1, other_policy=False) == "the same result"
    assert _outcome(0, 4, other_policy=False) == "all with the same result"
    assert _outcome(2, 4, other_policy=True) == "2 with a different verdict or reason under this policy"
