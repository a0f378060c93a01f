"""When runs are due, for every check for a missing run."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

from croniter import croniter  # type: ignore[import-untyped]

from churn.settings import Settings

UNFINISHED = timedelta(hours=6)
"""A run that began this recently may still finish."""
NEWS = timedelta(days=3)
"""Older events are not current: no alert is sent for them, and no page shows them as such."""


def due_nights(settings: Settings, now: datetime) -> Iterator[datetime]:
    """Yield when runs were due that must have ended by now, newest first, without end; nothing without a schedule."""
    if settings.schedule is None:
        return
    ticks = croniter(settings.schedule, (now - UNFINISHED).astimezone(ZoneInfo(settings.timezone)))
    while True:
        yield ticks.get_prev(datetime)
