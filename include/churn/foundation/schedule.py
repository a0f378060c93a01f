"""When runs are due; used by every check for missing runs."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

from croniter import croniter  # type: ignore[import-untyped]

from churn.settings import Settings

UNFINISHED = timedelta(hours=6)
"""A run that began this recently may still finish."""
NEWS = timedelta(days=3)
"""Events older than this are no longer current: no alert is sent for them, and no page shows them as current."""


def due_nights(settings: Settings, now: datetime) -> Iterator[datetime]:
    """Yield the due times of runs that must have ended by now, newest first, endlessly; nothing if there is no schedule."""
    if settings.schedule is None:
        return
    ticks = croniter(settings.schedule, (now - UNFINISHED).astimezone(ZoneInfo(settings.timezone)))
    while True:
        yield ticks.get_prev(datetime)
