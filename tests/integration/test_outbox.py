"""An alert is sent once to every channel, whoever sends at the same time and whatever fails in between; on SQLite and PostgreSQL."""

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
    """A channel that keeps what it was sent, and fails as often as it is told to."""

    def __init__(self, name: str, kinds: frozenset[str] | None = None) -> None:
        self.got: list[str] = []
        self.failures: set[str] = set()
        self.channel = Channel(name, kinds, self.take)

    def take(self, alert: Alert) -> None:
        if alert.subject in self.failures:
            raise ConnectionError("nobody there")
        self.got.append(alert.subject)


def test_each_channel_gets_what_it_wants_once(ledger: Ledger) -> None:
    """In the order of noticing; a second round sends nothing, and what nobody wants does not wait for ever."""
    mail, topic = Inbox("mail"), Inbox("topic", frozenset({"silence"}))
    for one in (alert("b", noticed_at=NOW - timedelta(hours=1)), alert("a"), alert("c", "silence")):
        assert ledger.add_alert(one)
    assert send_unsent(ledger, [mail.channel, topic.channel]) == 3
    assert send_unsent(ledger, [mail.channel, topic.channel]) == 0
    assert (mail.got[0], sorted(mail.got), topic.got) == ("b", ["a", "b", "c"], ["c"])
    assert all(one.sent_at and one.claimed_at is None for one in ledger.alerts())
    assert ledger.add_alert(alert("d"))
    assert send_unsent(ledger, [topic.channel]) == 1
    assert topic.got == ["c"]


def test_without_a_channel_an_alert_waits(ledger: Ledger) -> None:
    """It is sent when there is one, unless it is no news any more by then."""
    ledger.add_alert(alert("a"))
    ledger.add_alert(alert("old", noticed_at=NOW - NEWS - timedelta(minutes=1)))
    assert send_unsent(ledger, []) == 0
    mail = Inbox("mail")
    assert send_unsent(ledger, [mail.channel]) == 1
    assert mail.got == ["a"]


def test_a_failure_stops_nobody_else_and_is_tried_again(ledger: Ledger) -> None:
    """The other alerts and channels go on, the error says what failed, and who has it does not get it twice."""
    mail, topic = Inbox("mail"), Inbox("topic")
    mail.failures = {"a"}
    for name in ("a", "b"):
        ledger.add_alert(alert(name))
    with pytest.raises(AlertsUnsent, match=r"1 message.*\nmail: a: ConnectionError: nobody there"):
        send_unsent(ledger, [mail.channel, topic.channel])
    assert (mail.got, sorted(topic.got)) == (["b"], ["a", "b"])
    mail.failures = set()
    assert send_unsent(ledger, [mail.channel, topic.channel]) == 1
    assert (sorted(mail.got), sorted(topic.got)) == (["a", "b"], ["a", "b"])


def test_nobody_is_kept_waiting_by_a_channel_that_is_away(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    """After a while nothing more is begun, and what was not tried is tried the next time."""
    monkeypatch.setattr(outbox, "PATIENCE", 0)
    mail = Inbox("mail")
    ledger.add_alert(alert("a"))
    with pytest.raises(AlertsUnsent, match="mail: a: not tried"):
        send_unsent(ledger, [mail.channel])
    monkeypatch.undo()
    assert send_unsent(ledger, [mail.channel]) == 1
    assert mail.got == ["a"]


def test_many_who_notice_and_send_at_once_send_once(url: str) -> None:
    """Eight at once: one row, one message."""
    mail, start = Inbox("mail"), Barrier(8)
    ledgers = [open_ledger(url) for _ in range(8)]

    def work(ledger: Ledger) -> tuple[bool, int]:
        start.wait()
        new = ledger.add_alert(alert("a"))
        return new, send_unsent(ledger, [mail.channel])

    with ThreadPoolExecutor(8) as pool:
        done = list(pool.map(work, ledgers))
    assert sum(new for new, _ in done) == 1
    assert mail.got == ["a"]
    assert len(ledgers[0].alerts()) == 1


def test_who_dies_while_sending_is_followed_by_another(ledger: Ledger) -> None:
    """A claim holds for a while only; what was sent before the death is known."""
    ledger.add_alert(alert("a"))
    mail, topic = Inbox("mail"), Inbox("topic")
    now = datetime.now(UTC)  # a claim is short, and this module may have been read long ago
    assert ledger.claim_alert("promotion:a", now)
    ledger.record_sending("promotion:a", ["mail"])
    assert send_unsent(ledger, [mail.channel, topic.channel]) == 0
    assert ledger.claim_alert("promotion:a", now + CLAIM + timedelta(seconds=1))
    ledger.release_alert("promotion:a", None)
    assert send_unsent(ledger, [mail.channel, topic.channel]) == 1
    assert (mail.got, topic.got) == ([], ["a"])


def test_a_beginning_finds_an_alert(ledger: Ledger) -> None:
    """What has a message is known by the beginning of its key, taken literally."""
    ledger.add_alert(alert("dag:run_1:task"))
    assert ledger.has_alert("promotion:dag:run_1:")
    assert not ledger.has_alert("promotion:dag:run%")
    assert not ledger.has_alert("promotion:dag:run_2:")
