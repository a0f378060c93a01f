"""The outbox of alerts: each event appears once, and one process at a time sends an alert."""

from __future__ import annotations

from datetime import datetime, timedelta

import sqlalchemy as sa

from churn.foundation.ledger.database import LedgerDatabase
from churn.foundation.records import Alert
from churn.foundation.schema import alerts

FAILURE = "task_failed"
"""The kind of an alert about a failed task; its key continues with DAG, run and task."""
CLAIM = timedelta(minutes=10)
"""A sender that has not finished after this time is presumed dead, and another process may send."""


def failed_run(alert: Alert) -> str:
    """Return the run whose task failed. A run id may contain any character; DAG and task ids contain no colon."""
    return alert.key.split(":", 2)[2].rpartition(":")[0]


class AlertRows(LedgerDatabase):
    """Reads and writes the outbox of alerts."""

    def add_alert(self, alert: Alert) -> bool:
        """Store an alert; return False if its event already has one."""
        with self._transaction() as connection:
            row = {column.name: getattr(alert, column.name) for column in alerts.c}
            result = connection.execute(self._insert(alerts).values(row).on_conflict_do_nothing(index_elements=["key"]))
            return bool(result.rowcount)

    def alerts(self, since: datetime | None = None, limit: int | None = None) -> list[Alert]:
        """Return the alerts noticed since a time, newest first."""
        query = sa.select(alerts).order_by(alerts.c.noticed_at.desc(), alerts.c.key).limit(limit)
        return self._all(Alert, query.where(alerts.c.noticed_at >= since) if since else query)

    def failures(self, dag: str, run: str | None = None, since: datetime | None = None) -> list[Alert]:
        """Return the alerts about tasks of a DAG, or of one of its runs, that failed on their last try; newest first."""
        query = sa.select(alerts).where(
            alerts.c.kind == FAILURE, alerts.c.key.startswith(f"{FAILURE}:{dag}:{run or ''}", autoescape=True)
        )
        if since:
            query = query.where(alerts.c.noticed_at >= since)
        rows = self._all(Alert, query.order_by(alerts.c.noticed_at.desc()))
        return [alert for alert in rows if run is None or failed_run(alert) == run]

    def has_alert(self, prefix: str) -> bool:
        """Return whether there is an event whose key has this prefix."""
        query = sa.select(alerts).where(alerts.c.key.startswith(prefix, autoescape=True)).limit(1)
        return self._one(Alert, query) is not None

    def claim_alert(self, key: str, now: datetime) -> Alert | None:
        """Claim an alert for sending; None if it has been sent or another process is sending it."""
        free = sa.or_(alerts.c.claimed_at.is_(None), alerts.c.claimed_at < now - CLAIM)
        claim = alerts.update().where(alerts.c.key == key, alerts.c.sent_at.is_(None), free).values(claimed_at=now)
        with self._transaction() as connection:
            claimed = connection.execute(claim).rowcount
        return self._one(Alert, sa.select(alerts).where(alerts.c.key == key)) if claimed else None

    def record_sending(self, key: str, sent_to: list[str]) -> None:
        """Store which channels have received a claimed alert."""
        with self._transaction() as connection:
            connection.execute(alerts.update().where(alerts.c.key == key).values(sent_to=sent_to))

    def release_alert(self, key: str, sent_at: datetime | None) -> None:
        """Release a claimed alert, as sent or, if `sent_at` is None, to be retried."""
        with self._transaction() as connection:
            connection.execute(alerts.update().where(alerts.c.key == key).values(claimed_at=None, sent_at=sent_at))
