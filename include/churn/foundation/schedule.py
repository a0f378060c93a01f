"""When nights are due, as all who look for a missing one count them."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

from croniter import croniter  # type: ignore[import-untyped]

from churn.settings import Settings

UNFINISHED = timedelta(hours=6)
"""A night that began so recently may still bring something."""
NEWS = timedelta(days=3)
"""What is older is no news: it is neither told nor shown as today's."""


def due_nights(settings: Settings, now: datetime) -> Iterator[datetime]:
    """When the nights were due that must have ended by now, the newest first, without end; none without a schedule."""
    if settings.schedule is None:
        return
    ticks = croniter(settings.schedule, (now - UNFINISHED).astimezone(ZoneInfo(settings.timezone)))
    while True:
        yield ticks.get_prev(datetime)
