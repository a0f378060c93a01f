"""What is noticed is written down once; what is written down is sent once to every channel, and tried again if it could not be."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from churn.alerts.events import find_events
from churn.alerts.silence import find_silence
from churn.errors import Outage
from churn.foundation.ledger import Ledger
from churn.foundation.records import Alert
from churn.foundation.schedule import NEWS
from churn.settings import Settings

PATIENCE = 120
"""Seconds after which nothing more is begun: who sends has other work, and channels that are away are slow to say so."""

log = logging.getLogger(__name__)


class AlertsUnsent(Outage):
    """Some alerts have not reached everybody; they wait, and are tried again."""


@dataclass(frozen=True)
class Channel:
    """One way to people. `kinds` are those that it wants, None all; `name` stays the same from night to night."""

    name: str
    kinds: frozenset[str] | None
    send: Callable[[Alert], None]

    def wants(self, alert: Alert) -> bool:
        """Whether the alert goes here."""
        return self.kinds is None or alert.kind in self.kinds


def notice(ledger: Ledger, settings: Settings) -> list[Alert]:
    """Write down what the ledger says now, each event once.

    Returns:
        The alerts that are new.
    """
    now = datetime.now(UTC)
    silence = find_silence(ledger, settings, now)
    found = [*find_events(ledger, settings, now), *([silence] if silence else [])]
    return [alert for alert in found if ledger.add_alert(alert)]


def send_unsent(ledger: Ledger, channels: Sequence[Channel]) -> int:
    """Send what waits, the oldest first; without a channel it goes on waiting.

    Each channel gets an alert once: it is marked after it was sent, and of two processes one sends.

    Returns:
        How many alerts have reached everybody who wants them.

    Raises:
        AlertsUnsent: some could not be sent; the others were.
    """
    if not channels:
        return 0
    now, deadline = datetime.now(UTC), time.monotonic() + PATIENCE
    waiting = [one for one in reversed(ledger.alerts(since=now - NEWS)) if one.sent_at is None]
    sent, failures = 0, []
    for one in waiting:
        alert = ledger.claim_alert(one.key, datetime.now(UTC))
        if alert is None:
            continue
        failed = _send(alert, channels, ledger, deadline)
        ledger.release_alert(alert.key, None if failed else datetime.now(UTC))
        failures += failed
        sent += not failed
    if failures:
        told = "\n".join(failures)
        raise AlertsUnsent(
            f"{len(failures)} message(s) could not be sent, and are tried again for {NEWS.days} days:\n{told}\n"
            "Check CHURN_NOTIFICATIONS_FILE (`churn alerts --check`) and the Airflow connections that it names."
        )
    return sent


def _send(alert: Alert, channels: Sequence[Channel], ledger: Ledger, deadline: float) -> list[str]:
    """Send to those who want it and do not have it; what failed, in sentences."""
    sent_to, failed = list(alert.sent_to), []
    for channel in channels:
        if channel.name in sent_to or not channel.wants(alert):
            continue
        if time.monotonic() >= deadline:
            failed.append(f"{channel.name}: {alert.subject}: not tried, the others took too long")
            continue
        try:
            channel.send(alert)
        except Exception as error:
            first_line = (str(error).splitlines() or [""])[0][:200]
            failed.append(f"{channel.name}: {alert.subject}: {type(error).__name__}: {first_line}")
            continue
        sent_to.append(channel.name)
        ledger.record_sending(alert.key, sent_to)
        log.info("Told %s: %s", channel.name, alert.subject)
    return failed
