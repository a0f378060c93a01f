"""Silence: nothing was accepted, or nothing decided, for so many nights.

Nobody can tell an empty landing zone from one that has not been set up yet: counting begins when the first file
was seen. From then on a night without data, without a verdict or without a run at all counts the same.
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
    """The silence that is, if there is one. It is one event until something is heard again."""
    begun, quiet_since = ledger.first_seen(), silent_since(settings, now)
    if begun is None or quiet_since is None:
        return None
    batch, decision = ledger.last_accepted(), ledger.last_decision()
    accepted_at = (batch.judged_at if batch else None) or begun
    decided_at = decision.decided_at if decision else begun
    if accepted_at < quiet_since:
        what, last, since = "accepted", batch.batch if batch else "nothing", accepted_at
    elif decided_at < quiet_since:
        what, last, since = "decided", decision.night if decision else "nothing", decided_at
    else:
        return None
    return make_alert(
        f"{SILENCE}:{settings.model_name}:{what}:{last}",
        f"Silence: nothing was {what} for {settings.silence_nights} nights",
        f"Nothing was {what} since {since:%Y-%m-%d %H:%M} UTC, for {settings.silence_nights} nights or more.",
        "See whether files arrive in landing (`churn status`), whether they are rejected (`churn batches`), and whether the DAG "
        f"{RETRAINING} runs: paused, red or without a worker. CHURN_SILENCE_NIGHTS says how long silence may last.",
        run_page(settings, RETRAINING),
        now,
    )


def silent_since(settings: Settings, now: datetime) -> datetime | None:
    """The beginning of the first of the last N nights, those in the making left out; days without a schedule; None when off."""
    if not settings.silence_nights:
        return None
    if settings.schedule is None:
        return now - timedelta(days=settings.silence_nights)
    return next(islice(due_nights(settings, now), settings.silence_nights - 1, None))
