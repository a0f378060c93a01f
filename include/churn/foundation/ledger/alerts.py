"""What people are told: an outbox, in which an event stands once, and which one process at a time sends from."""

from __future__ import annotations

from datetime import datetime, timedelta

import sqlalchemy as sa

from churn.foundation.ledger.database import LedgerDatabase
from churn.foundation.records import Alert
from churn.foundation.schema import alerts

FAILURE = "task_failed"
"""The kind of an alert of a task; its key goes on with DAG, run and task."""
CLAIM = timedelta(minutes=10)
"""Who has not finished sending by then has died at it, and another may send."""


def failed_run(alert: Alert) -> str:
    """The run whose task has failed. The id of a run may hold anything, that of a DAG or a task no colon."""
    return alert.key.split(":", 2)[2].rpartition(":")[0]


class AlertRows(LedgerDatabase):
    """The outbox."""

    def add_alert(self, alert: Alert) -> bool:
        """Remember an alert; False when its event was known already."""
        with self._transaction() as connection:
            row = {column.name: getattr(alert, column.name) for column in alerts.c}
            done = connection.execute(self._insert(alerts).values(row).on_conflict_do_nothing(index_elements=["key"]))
            return bool(done.rowcount)

    def alerts(self, since: datetime | None = None, limit: int | None = None) -> list[Alert]:
        """Alerts that were noticed since a time, the latest first."""
        query = sa.select(alerts).order_by(alerts.c.noticed_at.desc(), alerts.c.key).limit(limit)
        return self._all(Alert, query.where(alerts.c.noticed_at >= since) if since else query)

    def failures(self, dag: str, run: str | None = None, since: datetime | None = None) -> list[Alert]:
        """Tasks of a DAG, or of one of its runs, that have failed at their last try; the latest first."""
        query = sa.select(alerts).where(
            alerts.c.kind == FAILURE, alerts.c.key.startswith(f"{FAILURE}:{dag}:{run or ''}", autoescape=True)
        )
        if since:
            query = query.where(alerts.c.noticed_at >= since)
        found = self._all(Alert, query.order_by(alerts.c.noticed_at.desc()))
        return [one for one in found if run is None or failed_run(one) == run]

    def has_alert(self, beginning: str) -> bool:
        """Whether an event is known whose key begins so."""
        query = sa.select(alerts).where(alerts.c.key.startswith(beginning, autoescape=True)).limit(1)
        return self._one(Alert, query) is not None

    def claim_alert(self, key: str, now: datetime) -> Alert | None:
        """Take an alert for sending; None when it is sent, or somebody else is at it."""
        free = sa.or_(alerts.c.claimed_at.is_(None), alerts.c.claimed_at < now - CLAIM)
        claim = alerts.update().where(alerts.c.key == key, alerts.c.sent_at.is_(None), free).values(claimed_at=now)
        with self._transaction() as connection:
            claimed = connection.execute(claim).rowcount
        return self._one(Alert, sa.select(alerts).where(alerts.c.key == key)) if claimed else None

    def record_sending(self, key: str, sent_to: list[str]) -> None:
        """Remember which channels have an alert that is claimed."""
        with self._transaction() as connection:
            connection.execute(alerts.update().where(alerts.c.key == key).values(sent_to=sent_to))

    def release_alert(self, key: str, sent_at: datetime | None) -> None:
        """Give an alert back: sent, or to be tried again."""
        with self._transaction() as connection:
            connection.execute(alerts.update().where(alerts.c.key == key).values(claimed_at=None, sent_at=sent_at))
