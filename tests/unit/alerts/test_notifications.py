"""The file of notification channels: valid entries, their templates, and the errors of an invalid file."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from churn.alerts.events import make_alert
from churn.alerts.notifications import NotificationsInvalid, open_channels, read_notifications
from support.basics import ROOT

ALERT = make_alert("hold:n", "Version 2 is held", "a < b & c", "look", "https://x.example/?a=1&b=2", datetime.now(UTC))
sent: list[tuple[dict[str, Any], dict[str, Any]]] = []


class Notifier:
    """Accepts any arguments."""

    def __init__(self, **arguments: Any) -> None:
        self.arguments = arguments

    def notify(self, context: dict[str, Any]) -> None:
        sent.append((self.arguments, context))


class StrictNotifier(Notifier):
    def __init__(self, *, to: str) -> None:
        super().__init__(to=to)


class NotANotifier:
    """Has no `notify`."""


@pytest.fixture
def send(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Write the file, and send an alert through all its channels."""
    monkeypatch.syspath_prepend(str(Path(__file__).parent))
    sent.clear()

    def run(text: str, alert: Any = ALERT) -> list[tuple[dict[str, Any], dict[str, Any]]]:
        file = tmp_path / "notifications.yaml"
        file.write_text(text)
        for channel in open_channels(read_notifications(file), {"run": 1}):
            if channel.wants(alert):
                channel.send(alert)
        import test_notifications

        return test_notifications.sent

    return run


def test_arguments_are_templates_at_any_depth(send: Any) -> None:
    """Texts are rendered, other values are kept; the notifier gets the context and the alert."""
    text = """
- notifier: test_notifications.Notifier
  subject: "[churn] {{ alert.subject }}"
  to: [a@example.com, "{{ alert.kind }}@example.com"]
  extra: {link: "{{ alert.link }}", times: 3}
"""
    ((arguments, context),) = send(text)
    assert arguments == {
        "subject": "[churn] Version 2 is held",
        "to": ["a@example.com", "hold@example.com"],
        "extra": {"link": "https://x.example/?a=1&b=2", "times": 3},
    }
    assert (context["run"], context["alert"]["kind"]) == (1, "hold")


def test_html_is_escaped_and_plain_text_is_not(send: Any) -> None:
    """The name of the argument decides."""
    ((arguments, _),) = send(
        "- {notifier: test_notifications.Notifier, html_content: '<p>{{ alert.text }}</p>', message: '{{ alert.text }}'}"
    )
    assert arguments["html_content"].startswith("<p>a &lt; b &amp; c")
    assert arguments["message"].startswith("a < b & c")


def test_a_template_within_an_alert_stays_text(send: Any) -> None:
    """A template in the name of a file, or in a reason that a person gave, is never rendered."""
    hostile = replace(ALERT, text="{{ 7 * 7 }} {% raw %} {{ alert.link }}")
    ((arguments, _),) = send("- {notifier: test_notifications.Notifier, message: '{{ alert.text }}'}", hostile)
    assert arguments["message"] == hostile.text


def test_an_entry_may_be_limited_to_some_kinds_of_alerts(send: Any) -> None:
    assert send("- {notifier: test_notifications.Notifier, only: [promotion, silence]}") == []
    assert len(send("- {notifier: test_notifications.Notifier, only: [hold]}")) == 1


def test_the_name_of_a_channel_does_not_depend_on_its_position(tmp_path: Path) -> None:
    """Otherwise a new entry before it would send all its alerts again."""
    first, second = "- {notifier: a.One, to: x}\n", "- {notifier: a.One, to: y}\n"
    names = []
    for text in (first + second, second + first):
        (tmp_path / "n.yaml").write_text(text)
        names.append([entry.name for entry in read_notifications(tmp_path / "n.yaml")])
    assert names[0] == names[1][::-1]
    assert len(set(names[0])) == 2


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "must be a list of entries"),
        ("notifier: a.B", "must be a list of entries"),
        ("- [", "cannot be read"),
        ("- {to: x}", "entry 1: notifier is missing"),
        ("- {notifier: Class}", "entry 1: notifier"),
        ("- a.B", "entry 1"),
        ("- {notifier: a.B, only: [promotions]}", "promotions.*: promotion, hold"),
        ("- {notifier: a.B, only: []}", "entry 1: only"),
        ("- {notifier: nowhere.B}", "nowhere.B: .* cannot be imported"),
        ("- {notifier: test_notifications.Nobody}", "Nobody: .* cannot be imported"),
        ("- {notifier: test_notifications.NotANotifier}", r"not a notifier.*notify\(context\)"),
        ("- {notifier: test_notifications.StrictNotifier, frm: x}", "arguments frm: TypeError"),
        ("- {notifier: test_notifications.Notifier, to: '{{ alert.subjct }}'}", "subjct.* alert.kind, alert.subject"),
        ("- {notifier: test_notifications.Notifier, to: '{{ alert'}", "template is invalid"),
        ("- {notifier: test_notifications.Notifier, to: \"{{ ''.__class__.__mro__ }}\"}", "template is invalid"),
    ],
)
def test_an_invalid_file_is_explained_and_sends_nothing(send: Any, text: str, message: str) -> None:
    """The error names the entry, what is wrong, and what is allowed."""
    with pytest.raises(NotificationsInvalid, match=message):
        send(text)
    assert sent == []


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(NotificationsInvalid, match=r"CHURN_NOTIFICATIONS_FILE=.*cannot be read"):
        read_notifications(tmp_path / "nowhere.yaml")
    assert read_notifications(None) == []


def test_the_example_uses_notifiers_of_airflow() -> None:
    """Both notifiers accept their arguments; nothing is sent."""
    entries = read_notifications(ROOT / "include/notifications.example.yaml")
    assert [type(entry.build(ALERT)).__name__ for entry in entries] == ["SmtpNotifier", "SnsNotifier"]
