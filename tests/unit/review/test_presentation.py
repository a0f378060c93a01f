"""What became of a verdict, durations, and periods in production."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from churn.foundation.records import Promotion
from churn.review.presentation import counted, describe_reversal, find_fate, list_reigns, span_words

START = datetime(2026, 1, 1, 2, tzinfo=UTC)


def change(sequence: int, version: int | None, kind: str, previous: int | None) -> Promotion:
    return Promotion(
        model="churn",
        sequence=sequence,
        version=version,
        previous=previous,
        kind=kind,
        code="SUPERIOR",
        actor="ann",
        night=f"night-{sequence}",
        reason="Because.",
        anchor=version,
        promoted_at=START + timedelta(days=sequence),
        mirrored_at=None,
    )


@pytest.mark.parametrize(
    ("verdict", "asked", "answer", "dry_run", "promoted", "waits", "fate"),
    [
        ("promote", False, None, False, True, False, "promoted"),
        ("promote", False, None, True, False, False, "dry run"),
        ("promote", False, None, False, False, False, "not carried out"),
        ("promote", True, None, False, False, True, "waits"),
        ("promote", True, None, False, False, False, "lapsed"),
        ("promote", True, "rejected", False, False, False, "refused"),
        ("promote", True, "approved", False, False, False, "not carried out"),
        ("hold", False, None, False, False, False, "held"),
        ("hold", True, "approved", False, True, False, "promoted"),
    ],
)
def test_a_verdict_is_not_a_promotion(
    verdict: str, asked: bool, answer: str | None, dry_run: bool, promoted: bool, waits: bool, fate: str
) -> None:
    """Only the ledger's changes of production are."""
    assert find_fate(verdict, asked, answer, dry_run, promoted, waits) == fate


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(0, "less than a minute"), (59, "less than a minute"), (60, "1 minute"), (7200, "2 hours"), (86_400, "1 day")],
)
def test_a_duration_is_in_its_largest_unit(seconds: int, words: str) -> None:
    """Singular for one."""
    assert span_words(timedelta(seconds=seconds)) == words
    assert (counted(1, "row"), counted(1200, "row"), counted(0, "row")) == ("1 row", "1,200 rows", "0 rows")


def test_a_period_ends_with_the_next_change() -> None:
    """The newest has no end."""
    first, second = change(1, 1, "promotion", None), change(2, 2, "promotion", 1)
    assert [(reign.version, reign.until) for reign in list_reigns([second, first])] == [
        (2, None),
        (1, second.promoted_at),
    ]


def test_only_a_rollback_reverses_a_promotion() -> None:
    """By whom, when and why; another promotion is not a reversal."""
    promoted = change(1, 2, "promotion", 1)
    assert describe_reversal(promoted, None) == ""
    assert describe_reversal(promoted, change(2, 3, "promotion", 2)) == ""
    assert describe_reversal(promoted, change(2, 1, "rollback", 2)) == (
        "Version 2 was rolled back by ann on 2026-01-03 02:00 UTC: Because."
    )
