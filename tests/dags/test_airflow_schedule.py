"""The core computes the same schedule as Airflow's timetable, also when clocks are put forward or back."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest

from churn.foundation.schedule import next_run, previous_run

ZONES = (
    "UTC",
    "Europe/Berlin",
    "Europe/London",
    "America/New_York",
    "America/Sao_Paulo",
    "America/Santiago",
    "Asia/Kolkata",
    "Australia/Sydney",
    "Australia/Lord_Howe",
    "Pacific/Auckland",
)
BEGIN, END = datetime(2026, 1, 1, tzinfo=UTC), datetime(2031, 1, 1, tzinfo=UTC)
AROUND = timedelta(days=3)


def changes(zone: str) -> list[datetime]:
    """The days of five years on which the clocks of a zone change; the first day, if there are none."""
    days = [BEGIN + timedelta(days=day) for day in range((END - BEGIN).days)]
    offsets = [day.astimezone(ZoneInfo(zone)).utcoffset() for day in days]
    return [day for day, before, after in zip(days[1:], offsets, offsets[1:], strict=False) if before != after] or days[
        :1
    ]


@pytest.mark.parametrize("zone", ZONES)
@pytest.mark.parametrize("schedule", ["0 2 * * *", "30 2 * * *"])
def test_the_nights_around_each_change_of_clocks_are_due_when_airflow_says(zone: str, schedule: str) -> None:
    """2026 to 2030: the next run after each run, and the run before it."""
    from airflow.timetables.trigger import CronTriggerTimetable
    from pendulum import instance

    timetable = CronTriggerTimetable(schedule, timezone=zone)
    for change in changes(zone):
        moment, runs = change - AROUND, 0
        while moment < change + AROUND:
            following = next_run(schedule, zone, moment)
            assert following == timetable._get_next(instance(moment)), moment
            assert previous_run(schedule, zone, following + timedelta(seconds=1)) == following
            assert runs == 0 or previous_run(schedule, zone, following) == moment
            moment, runs = following, runs + 1
        assert runs in (6, 7)  # one for each night


@pytest.mark.parametrize("schedule", ["*/30 * * * *", "15 * * * *"])
def test_a_run_every_hour_is_not_stopped_by_the_clock(schedule: str) -> None:
    """On the two days of 2026 on which Berlin changes its clocks."""
    from airflow.timetables.trigger import CronTriggerTimetable
    from pendulum import instance

    timetable = CronTriggerTimetable(schedule, timezone="Europe/Berlin")
    for day in (datetime(2026, 3, 28, 22, tzinfo=UTC), datetime(2026, 10, 24, 22, tzinfo=UTC)):
        moment = day
        while moment < day + timedelta(hours=8):
            following = next_run(schedule, "Europe/Berlin", moment)
            assert following == timetable._get_next(instance(moment))
            assert previous_run(schedule, "Europe/Berlin", following) == timetable._get_prev(instance(following))
            moment = following
