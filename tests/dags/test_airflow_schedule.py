"""The core computes the same schedule as Airflow's timetable, also when clocks are put forward or back."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

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


@pytest.mark.parametrize("zone", ZONES)
@pytest.mark.parametrize("schedule", ["0 2 * * *", "30 2 * * *"])
def test_every_night_of_five_years_is_due_when_airflow_says(zone: str, schedule: str) -> None:
    """2026 to 2030: the next run after each run, and the run before it."""
    from airflow.timetables.trigger import CronTriggerTimetable
    from pendulum import instance

    timetable = CronTriggerTimetable(schedule, timezone=zone)
    moment, runs = BEGIN, 0
    while moment < END:
        following = next_run(schedule, zone, moment)
        assert following == timetable._get_next(instance(moment)), moment
        assert previous_run(schedule, zone, following + timedelta(seconds=1)) == following
        assert runs == 0 or previous_run(schedule, zone, following) == moment
        moment, runs = following, runs + 1
    assert runs in (1826, 1827)  # one for each night


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
