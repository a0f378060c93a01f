"""The file of notifications: what it may say, how its templates are filled, and what is said of a wrong one."""

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
told: list[tuple[dict[str, Any], dict[str, Any]]] = []


class Notifier:
    """Takes any arguments, as notifiers do."""

    def __init__(self, **arguments: Any) -> None:
        self.arguments = arguments

    def notify(self, context: dict[str, Any]) -> None:
        told.append((self.arguments, context))


class Particular(Notifier):
    def __init__(self, *, to: str) -> None:
        super().__init__(to=to)


class Mute:
    """No notifier."""


@pytest.fixture
def tell(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Write the file, and send an alert to all that it names."""
    monkeypatch.syspath_prepend(str(Path(__file__).parent))
    told.clear()

    def run(text: str, alert: Any = ALERT) -> list[tuple[dict[str, Any], dict[str, Any]]]:
        file = tmp_path / "notifications.yaml"
        file.write_text(text)
        for channel in open_channels(read_notifications(file), {"run": 1}):
            if channel.wants(alert):
                channel.send(alert)
        import test_notifications

        return test_notifications.told

    return run


def test_arguments_are_templates_at_any_depth(tell: Any) -> None:
    """Texts are filled, other values are left; the notifier is handed the context and the alert."""
    said = """
- notifier: test_notifications.Notifier
  subject: "[churn] {{ alert.subject }}"
  to: [a@example.com, "{{ alert.kind }}@example.com"]
  extra: {link: "{{ alert.link }}", times: 3}
"""
    ((arguments, context),) = tell(said)
    assert arguments == {
        "subject": "[churn] Version 2 is held",
        "to": ["a@example.com", "hold@example.com"],
        "extra": {"link": "https://x.example/?a=1&b=2", "times": 3},
    }
    assert (context["run"], context["alert"]["kind"]) == (1, "hold")


def test_html_is_escaped_and_plain_text_is_not(tell: Any) -> None:
    """By the name of the argument."""
    ((arguments, _),) = tell(
        "- {notifier: test_notifications.Notifier, html_content: '<p>{{ alert.text }}</p>', message: '{{ alert.text }}'}"
    )
    assert arguments["html_content"].startswith("<p>a &lt; b &amp; c")
    assert arguments["message"].startswith("a < b & c")


def test_a_template_within_an_alert_is_only_text(tell: Any) -> None:
    """What a file is called or a person gives as a reason is never run."""
    nasty = replace(ALERT, text="{{ 7 * 7 }} {% raw %} {{ alert.link }}")
    ((arguments, _),) = tell("- {notifier: test_notifications.Notifier, message: '{{ alert.text }}'}", nasty)
    assert arguments["message"] == nasty.text


def test_an_entry_may_want_some_kinds_only(tell: Any) -> None:
    assert tell("- {notifier: test_notifications.Notifier, only: [promotion, silence]}") == []
    assert len(tell("- {notifier: test_notifications.Notifier, only: [hold]}")) == 1


def test_a_channel_keeps_its_name_wherever_it_stands(tmp_path: Path) -> None:
    """An entry that is added before it does not make it get its messages again."""
    one, other = "- {notifier: a.One, to: x}\n", "- {notifier: a.One, to: y}\n"
    names = []
    for text in (one + other, other + one):
        (tmp_path / "n.yaml").write_text(text)
        names.append([entry.name for entry in read_notifications(tmp_path / "n.yaml")])
    assert names[0] == names[1][::-1]
    assert len(set(names[0])) == 2


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "must be a list of entries"),
        ("notifier: a.B", "must be a list of entries"),
        ("- [", "cannot be read"),
        ("- {to: x}", "entry 1: notifier: Field required"),
        ("- {notifier: Class}", "entry 1: notifier"),
        ("- a.B", "entry 1"),
        ("- {notifier: a.B, only: [promotions]}", "only: promotions: there are promotion, hold"),
        ("- {notifier: a.B, only: []}", "entry 1: only"),
        ("- {notifier: nowhere.B}", "there is no such class"),
        ("- {notifier: test_notifications.Nobody}", "there is no such class"),
        ("- {notifier: test_notifications.Mute}", "is no notifier: it has no notify"),
        ("- {notifier: test_notifications.Particular, frm: x}", "cannot be made: TypeError"),
        ("- {notifier: test_notifications.Notifier, to: '{{ alert.subjct }}'}", "subjct.*There are alert.kind"),
        ("- {notifier: test_notifications.Notifier, to: '{{ alert'}", "template is wrong"),
        ("- {notifier: test_notifications.Notifier, to: \"{{ ''.__class__.__mro__ }}\"}", "template is wrong"),
    ],
)
def test_a_wrong_file_is_named_and_sends_nothing(tell: Any, text: str, said: str) -> None:
    """The entry, what is wrong, and what there is."""
    with pytest.raises(NotificationsInvalid, match=said):
        tell(text)
    assert told == []


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(NotificationsInvalid, match=r"CHURN_NOTIFICATIONS_FILE=.*cannot be read"):
        read_notifications(tmp_path / "nowhere.yaml")
    assert read_notifications(None) == []


def test_the_example_is_made_of_airflows_own_notifiers() -> None:
    """Both entries can be built with their arguments; nothing is sent."""
    entries = read_notifications(ROOT / "include/notifications.example.yaml")
    assert [type(entry.build(ALERT)).__name__ for entry in entries] == ["SmtpNotifier", "SnsNotifier"]
