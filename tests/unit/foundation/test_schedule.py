"""Runs are due by the clock of a time zone, and times between them are measured in real hours."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import islice

import pytest

from churn.foundation.schedule import approval_time, due_nights, next_run
from churn.settings import Settings

BERLIN = Settings(schedule="30 2 * * *", timezone="Europe/Berlin", approval_hours=20)


def utc(*parts: int) -> datetime:
    return datetime(*parts, tzinfo=UTC)  # type: ignore[arg-type]


def test_an_approval_in_the_night_when_clocks_change_ends_before_the_next_run() -> None:
    """On 29 March 2026 the night in Berlin is an hour shorter, on 25 October an hour longer."""
    night = Settings(schedule="30 4 * * *", timezone="Europe/Berlin", approval_hours=48)
    spring, autumn = utc(2026, 3, 28, 20, 0), utc(2026, 10, 24, 20, 0)
    assert approval_time(night, spring) == timedelta(hours=6, minutes=15)
    assert approval_time(night, autumn) == timedelta(hours=7, minutes=15)
    assert approval_time(BERLIN, utc(2026, 6, 1, 1, 0)) == timedelta(hours=20)
    assert approval_time(night.model_copy(update={"schedule": None}), spring) == timedelta(hours=48)


def test_a_time_that_the_clock_shows_twice_is_one_night() -> None:
    """25 October 2026, 2:30: the run is the second one, and the night is counted once."""
    due = list(islice(due_nights(BERLIN, utc(2026, 10, 27, 12, 0)), 4))
    assert due == [
        utc(2026, 10, 27, 1, 30),
        utc(2026, 10, 26, 1, 30),
        utc(2026, 10, 25, 1, 30),
        utc(2026, 10, 24, 0, 30),
    ]


@pytest.mark.parametrize("minutes", [0, 29, 31, 59, 89])
def test_between_the_two_times_the_run_is_still_to_come(minutes: int) -> None:
    """From 0:00 UTC on, Berlin's clock shows 2:00 to 3:00 twice; the run is at 1:30 UTC."""
    assert next_run("30 2 * * *", "Europe/Berlin", utc(2026, 10, 25, 0, 0) + timedelta(minutes=minutes)) == utc(
        2026, 10, 25, 1, 30
    )


def test_a_time_that_the_clock_never_shows_comes_after_the_gap() -> None:
    """29 March 2026, 2:30 does not exist in Berlin: the run is at 3:30, which is 1:30 UTC."""
    assert next_run("30 2 * * *", "Europe/Berlin", utc(2026, 3, 28, 12, 0)) == utc(2026, 3, 29, 1, 30)
