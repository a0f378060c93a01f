"""An alert is sent once through every channel, despite concurrent senders and failures; on SQLite and PostgreSQL."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from itertools import count
from pathlib import Path
from threading import Barrier

import pytest

from churn.alerts import outbox
from churn.alerts.events import NEWS, make_alert
from churn.alerts.outbox import AlertsUnsent, Channel, send_unsent
from churn.foundation.ledger import Ledger, open_ledger
from churn.foundation.ledger.alerts import CLAIM
from churn.foundation.records import Alert

NOW = datetime.now(UTC)
numbers = count()


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path}/ledger.db"
    else:
        database: Callable[[str], str] = request.getfixturevalue("postgres")
        yield database(f"outbox_{next(numbers)}")


@pytest.fixture
def ledger(url: str) -> Ledger:
    return open_ledger(url)


def alert(name: str, kind: str = "promotion", noticed_at: datetime = NOW) -> Alert:
    return make_alert(f"{kind}:{name}", name, "text", "step", "http://link.example", noticed_at)


class Inbox:
    """A channel that keeps the subjects of its alerts, and fails for those in `failures`."""

    def __init__(self, name: str, kinds: frozenset[str] | None = None) -> None:
        self.received: list[str] = []
        self.failures: set[str] = set()
        self.channel = Channel(name, kinds, self.take)

    def take(self, alert: Alert) -> None:
        if alert.subject in self.failures:
            raise ConnectionError("nobody there")
        self.received.append(alert.subject)


def test_each_channel_gets_its_kinds_of_alerts_once(ledger: Ledger) -> None:
    """The oldest first; a second round sends nothing, and an alert that no channel gets does not wait for ever."""
    mail, topic = Inbox("mail"), Inbox("topic", frozenset({"silence"}))
    for event in (alert("b", noticed_at=NOW - timedelta(hours=1)), alert("a"), alert("c", "silence")):
        assert ledger.add_alert(event)
    assert send_unsent(ledger, [mail.channel, topic.channel]) == 3
    assert send_unsent(ledger, [mail.channel, topic.channel]) == 0
    assert (mail.received[0], sorted(mail.received), topic.received) == ("b", ["a", "b", "c"], ["c"])
    assert all(alert.sent_at and alert.claimed_at is None for alert in ledger.alerts())
    assert ledger.add_alert(alert("d"))
    assert send_unsent(ledger, [topic.channel]) == 1
    assert topic.received == ["c"]


def test_without_a_channel_an_alert_waits(ledger: Ledger) -> None:
    """It is sent once there is a channel, unless it is too old by then."""
    ledger.add_alert(alert("a"))
    ledger.add_alert(alert("old", noticed_at=NOW - NEWS - timedelta(minutes=1)))
    assert send_unsent(ledger, []) == 0
    mail = Inbox("mail")
    assert send_unsent(ledger, [mail.channel]) == 1
    assert mail.received == ["a"]


def test_a_failed_delivery_is_retried_and_does_not_affect_others(ledger: Ledger) -> None:
    """Other alerts and channels are sent, the error names the failure, and no channel gets an alert twice."""
    mail, topic = Inbox("mail"), Inbox("topic")
    mail.failures = {"a"}
    for name in ("a", "b"):
        ledger.add_alert(alert(name))
    with pytest.raises(AlertsUnsent, match=r"1\b.*\nmail: a: ConnectionError: nobody there"):
        send_unsent(ledger, [mail.channel, topic.channel])
    assert (mail.received, sorted(topic.received)) == (["b"], ["a", "b"])
    mail.failures = set()
    assert send_unsent(ledger, [mail.channel, topic.channel]) == 1
    assert (sorted(mail.received), sorted(topic.received)) == (["a", "b"], ["a", "b"])


def test_an_unavailable_channel_does_not_hold_up_the_sender(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    """After a while no further delivery is started; the remaining ones are tried the next time."""
    monkeypatch.setattr(outbox, "PATIENCE", 0)
    mail = Inbox("mail")
    ledger.add_alert(alert("a"))
    with pytest.raises(AlertsUnsent, match="mail: a: not tried"):
        send_unsent(ledger, [mail.channel])
    monkeypatch.undo()
    assert send_unsent(ledger, [mail.channel]) == 1
    assert mail.received == ["a"]


def test_concurrent_senders_send_an_alert_once(url: str) -> None:
    """Eight processes at once: one row in the ledger, one delivery."""
    mail, start = Inbox("mail"), Barrier(8)
    ledgers = [open_ledger(url) for _ in range(8)]

    def work(ledger: Ledger) -> tuple[bool, int]:
        start.wait()
        is_new = ledger.add_alert(alert("a"))
        return is_new, send_unsent(ledger, [mail.channel])

    with ThreadPoolExecutor(8) as pool:
        results = list(pool.map(work, ledgers))
    assert sum(is_new for is_new, _ in results) == 1
    assert mail.received == ["a"]
    assert len(ledgers[0].alerts()) == 1


def test_another_process_takes_over_from_a_sender_that_was_killed(ledger: Ledger) -> None:
    """A claim expires; deliveries before the sender was killed are recorded."""
    ledger.add_alert(alert("a"))
    mail, topic = Inbox("mail"), Inbox("topic")
    now = datetime.now(UTC)  # not NOW: a claim is short, and this module may have been imported long ago
    assert ledger.claim_alert("promotion:a", now)
    ledger.record_sending("promotion:a", ["mail"])
    assert send_unsent(ledger, [mail.channel, topic.channel]) == 0
    assert ledger.claim_alert("promotion:a", now + CLAIM + timedelta(seconds=1))
    ledger.release_alert("promotion:a", None)
    assert send_unsent(ledger, [mail.channel, topic.channel]) == 1
    assert (mail.received, topic.received) == ([], ["a"])


def test_an_alert_is_found_by_the_prefix_of_its_key(ledger: Ledger) -> None:
    """The prefix is taken literally."""
    ledger.add_alert(alert("dag:run_1:task"))
    assert ledger.has_alert("promotion:dag:run_1:")
    assert not ledger.has_alert("promotion:dag:run%")
    assert not ledger.has_alert("promotion:dag:run_2:")
