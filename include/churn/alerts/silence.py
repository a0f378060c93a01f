"""Detects silence: nothing was accepted, or nothing decided, for `CHURN_SILENCE_NIGHTS` nights.

Counting starts with the first file that was seen, because an empty landing zone may simply not be in use yet. From then
on, a night without data, without a verdict or without any run counts the same.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from itertools import islice

from churn.alerts.events import SILENCE, make_alert
from churn.foundation.ledger import Ledger
from churn.foundation.links import RETRAINING, run_page
from churn.foundation.records import Alert
from churn.foundation.schedule import due_nights
from churn.settings import Settings


def find_silence(ledger: Ledger, settings: Settings, now: datetime) -> Alert | None:
    """Find the current silence, if there is one. It is one event until something is accepted or decided again."""
    first_seen, limit = ledger.first_seen(), silence_limit(settings, now)
    if first_seen is None or limit is None:
        return None
    batch, decision = ledger.last_accepted(), ledger.last_decision(settings.model_name)
    accepted_at = (batch.judged_at if batch else None) or first_seen
    decided_at = decision.decided_at if decision else first_seen
    if accepted_at < limit:
        missing, last, since = "accepted", batch.batch if batch else "nothing", accepted_at
    elif decided_at < limit:
        missing, last, since = "decided", decision.night if decision else "nothing", decided_at
    else:
        return None
    return make_alert(
        f"{SILENCE}:{settings.model_name}:{missing}:{last}",
        f"Silence: nothing was {missing} for {settings.silence_nights} nights",
        f"Nothing has been {missing} since {since:%Y-%m-%d %H:%M} UTC, which is {settings.silence_nights} nights or more.",
        "Check whether files arrive in landing (`churn status`), and whether they are rejected (`churn batches`). Check that the DAG "
        f"{RETRAINING} is not paused, failing or without a worker. CHURN_SILENCE_NIGHTS sets how long silence may last.",
        run_page(settings, RETRAINING),
        now,
    )


def silence_limit(settings: Settings, now: datetime) -> datetime | None:
    """Compute since when silence is an event: the start of the last N nights, without those still in progress.

    Without a schedule, days count as nights. Returns None if the check is off.
    """
    if not settings.silence_nights:
        return None
    if settings.schedule is None:
        return now - timedelta(days=settings.silence_nights)
    return next(islice(due_nights(settings, now), settings.silence_nights - 1, None))
