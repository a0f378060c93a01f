"""When runs are due, as Airflow's timetable has it; used by every check for missing runs and by the time limit of approvals."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

from croniter import croniter  # type: ignore[import-untyped]

from churn.settings import Settings

UNFINISHED = timedelta(hours=6)
"""A run that began this recently may still finish."""
NEWS = timedelta(days=3)
"""Events older than this are no longer current: no alert is sent for them, and no page shows them as current."""
BEFORE_NEXT_RUN = timedelta(minutes=15)
"""An approval must be given this long before the next run."""
_CLOCK_CHANGE = timedelta(hours=4)
"""More than clocks are ever put forward or back."""


def next_run(schedule: str, timezone: str, moment: datetime) -> datetime:
    """Return the first time after a moment at which Airflow starts a run, in UTC.

    Args:
        schedule: a cron expression.
        timezone: the IANA time zone whose clock it refers to.
        moment: any time, with its time zone.
    """
    local = _local(moment, timezone)
    ticks = croniter(schedule, local)
    if _every_hour(ticks):
        wait: timedelta = ticks.get_next(datetime) - local
        return moment.astimezone(UTC) + wait
    ticks = croniter(schedule, local - _CLOCK_CHANGE)
    later = (_in_utc(tick, timezone) for tick in ticks.all_next(datetime))
    return next(tick for tick in later if tick > moment)


def previous_run(schedule: str, timezone: str, moment: datetime) -> datetime:
    """Return the last time before a moment at which Airflow started a run, in UTC; see `next_run`."""
    local = _local(moment, timezone)
    ticks = croniter(schedule, local)
    if _every_hour(ticks):
        passed: timedelta = local - ticks.get_prev(datetime)
        return moment.astimezone(UTC) - passed
    ticks = croniter(schedule, local + _CLOCK_CHANGE)
    earlier = (_in_utc(tick, timezone) for tick in ticks.all_prev(datetime))
    return next(tick for tick in earlier if tick < moment)


def due_nights(settings: Settings, now: datetime) -> Iterator[datetime]:
    """Yield the due times of runs that must have ended by now, in UTC, newest first, endlessly; nothing if there is no schedule."""
    if settings.schedule is None:
        return
    due = now - UNFINISHED
    while True:
        due = previous_run(settings.schedule, settings.timezone, due)
        yield due


def approval_time(settings: Settings, now: datetime) -> timedelta:
    """How long to wait for an approval that is requested now: until shortly before the next run at the latest.

    Args:
        settings: the schedule, and the longest time.
        now: the time of the request, with its time zone.
    """
    longest = timedelta(hours=settings.approval_hours)
    if settings.schedule is None:
        return longest
    left = next_run(settings.schedule, settings.timezone, now) - now.astimezone(UTC) - BEFORE_NEXT_RUN
    return max(min(longest, left), timedelta(minutes=1))


def _local(moment: datetime, timezone: str) -> datetime:
    """What a clock on the wall shows."""
    return moment.astimezone(ZoneInfo(timezone)).replace(tzinfo=None)


def _every_hour(ticks: croniter) -> bool:
    """Airflow starts such runs every hour of real time, also when clocks are put forward or back."""
    return bool(ticks.expanded[1] == ["*"])


def _in_utc(local: datetime, timezone: str) -> datetime:
    """The moment at which a clock shows a time: the second one if it shows it twice; if it never does, the time after the gap."""
    zone = ZoneInfo(timezone)
    before, after = (local.replace(tzinfo=zone, fold=fold).utcoffset() or timedelta(0) for fold in (0, 1))
    shifted = local + max(after - before, timedelta(0))
    return shifted.replace(tzinfo=zone, fold=1).astimezone(UTC)
