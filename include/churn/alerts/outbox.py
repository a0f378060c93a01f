"""The outbox: records each event once as an alert, sends each alert once through every channel, and retries failed deliveries."""

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
"""Seconds after which no further delivery is started: the sender has other work, and an unavailable channel fails slowly."""

log = logging.getLogger(__name__)


class AlertsUnsent(Outage):
    """Some alerts could not be sent through every channel; they are retried."""


@dataclass(frozen=True)
class Channel:
    """A notification channel. `kinds` are the kinds of alerts it gets (None: all); `name` is the same in every run."""

    name: str
    kinds: frozenset[str] | None
    send: Callable[[Alert], None]

    def wants(self, alert: Alert) -> bool:
        """Whether this channel gets the alert."""
        return self.kinds is None or alert.kind in self.kinds


def record_alerts(ledger: Ledger, settings: Settings) -> list[Alert]:
    """Record an alert for each new event.

    Returns:
        The new alerts.
    """
    now = datetime.now(UTC)
    silence = find_silence(ledger, settings, now)
    alerts = [*find_events(ledger, settings, now), *([silence] if silence else [])]
    return [alert for alert in alerts if ledger.add_alert(alert)]


def send_unsent(ledger: Ledger, channels: Sequence[Channel]) -> int:
    """Send the alerts that are waiting, oldest first; without a channel they keep waiting.

    Each channel gets an alert once: each delivery is recorded, and only one process at a time sends an alert.

    Returns:
        The number of alerts that have now been sent through all channels that get them.

    Raises:
        AlertsUnsent: some alerts could not be sent; all others were.
    """
    if not channels:
        return 0
    now, deadline = datetime.now(UTC), time.monotonic() + PATIENCE
    waiting = [alert for alert in reversed(ledger.alerts(since=now - NEWS)) if alert.sent_at is None]
    sent_count, failures = 0, []
    for candidate in waiting:
        alert = ledger.claim_alert(candidate.key, datetime.now(UTC))
        if alert is None:
            continue
        failed = _send(alert, channels, ledger, deadline)
        ledger.release_alert(alert.key, None if failed else datetime.now(UTC))
        failures += failed
        sent_count += not failed
    if failures:
        listed = "\n".join(failures)
        raise AlertsUnsent(
            f"Deliveries of alerts failed: {len(failures)}. They are retried for {NEWS.days} days.\n{listed}\n"
            "Check CHURN_NOTIFICATIONS_FILE with `churn alerts --check`, and the Airflow connections that it names."
        )
    return sent_count


def _send(alert: Alert, channels: Sequence[Channel], ledger: Ledger, deadline: float) -> list[str]:
    """Send an alert through the channels that have not sent it yet; returns the failures as lines of text."""
    sent_to, failed = list(alert.sent_to), []
    for channel in channels:
        if channel.name in sent_to or not channel.wants(alert):
            continue
        if time.monotonic() >= deadline:
            failed.append(f"{channel.name}: {alert.subject}: not tried, earlier deliveries took too long")
            continue
        try:
            channel.send(alert)
        except Exception as error:
            first_line = (str(error).splitlines() or [""])[0][:200]
            failed.append(f"{channel.name}: {alert.subject}: {type(error).__name__}: {first_line}")
            continue
        sent_to.append(channel.name)
        ledger.record_sending(alert.key, sent_to)
        log.info("Sent through %s: %s", channel.name, alert.subject)
    return failed
