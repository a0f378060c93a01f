"""The outbox of alerts: each event appears once, and one process at a time sends from it."""

from __future__ import annotations

from datetime import datetime, timedelta

import sqlalchemy as sa

from churn.foundation.ledger.database import LedgerDatabase
from churn.foundation.records import Alert
from churn.foundation.schema import alerts

FAILURE = "task_failed"
"""The kind of an alert about a task; its key continues with DAG, run and task."""
CLAIM = timedelta(minutes=10)
"""A sender that has not finished after this time is taken for dead, and another process may send."""


def failed_run(alert: Alert) -> str:
    """Return the run whose task failed. The id of a run may hold any character, that of a DAG or task no colon."""
    return alert.key.split(":", 2)[2].rpartition(":")[0]


class AlertRows(LedgerDatabase):
    """The outbox."""

    def add_alert(self, alert: Alert) -> bool:
        """Store an alert; False if its event was known already."""
        with self._transaction() as connection:
            row = {column.name: getattr(alert, column.name) for column in alerts.c}
            done = connection.execute(self._insert(alerts).values(row).on_conflict_do_nothing(index_elements=["key"]))
            return bool(done.rowcount)

    def alerts(self, since: datetime | None = None, limit: int | None = None) -> list[Alert]:
        """Return the alerts noticed since a time, newest first."""
        query = sa.select(alerts).order_by(alerts.c.noticed_at.desc(), alerts.c.key).limit(limit)
        return self._all(Alert, query.where(alerts.c.noticed_at >= since) if since else query)

    def failures(self, dag: str, run: str | None = None, since: datetime | None = None) -> list[Alert]:
        """Return the alerts about tasks of a DAG, or of one of its runs, that failed at their last try; newest first."""
        query = sa.select(alerts).where(
            alerts.c.kind == FAILURE, alerts.c.key.startswith(f"{FAILURE}:{dag}:{run or ''}", autoescape=True)
        )
        if since:
            query = query.where(alerts.c.noticed_at >= since)
        rows = self._all(Alert, query.order_by(alerts.c.noticed_at.desc()))
        return [alert for alert in rows if run is None or failed_run(alert) == run]

    def has_alert(self, beginning: str) -> bool:
        """Return whether there is an event whose key has this prefix."""
        query = sa.select(alerts).where(alerts.c.key.startswith(beginning, autoescape=True)).limit(1)
        return self._one(Alert, query) is not None

    def claim_alert(self, key: str, now: datetime) -> Alert | None:
        """Claim an alert for sending; None if it is sent or another process is sending it."""
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
        """Release a claimed alert: sent, or to be retried."""
        with self._transaction() as connection:
            connection.execute(alerts.update().where(alerts.c.key == key).values(claimed_at=None, sent_at=sent_at))
