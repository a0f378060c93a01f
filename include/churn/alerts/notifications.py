"""Reads the file of notification channels: notifier classes by import path, the kinds of alerts they get, and their arguments.

Arguments are templates, rendered here once and in a sandbox: a template inside an alert's text stays text. A notifier is any
class that takes keyword arguments and has `notify(context)`, as Airflow's notifiers do.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

import yaml
from jinja2 import StrictUndefined, TemplateError
from jinja2.sandbox import SandboxedEnvironment
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from churn.alerts.events import KINDS
from churn.alerts.outbox import Channel
from churn.errors import ChurnError
from churn.foundation.digests import json_digest
from churn.foundation.faults import describe_fault
from churn.foundation.records import Alert

_PLAIN = SandboxedEnvironment(undefined=StrictUndefined, autoescape=False)
_HTML = SandboxedEnvironment(undefined=StrictUndefined, autoescape=True)


class NotificationsInvalid(ChurnError):  # noqa: N818 -- the domain's word for it
    """The file of notification channels is invalid."""


class Notification(BaseModel):
    """One entry of the file: a notifier, the kinds of alerts it gets (None: all), and its arguments."""

    model_config = ConfigDict(frozen=True, extra="allow")

    notifier: str = Field(pattern=r"^[A-Za-z_][\w.]*\.[A-Za-z_]\w*$")
    only: list[str] | None = Field(default=None, min_length=1)

    @property
    def name(self) -> str:
        """The name of the channel. It depends only on the entry, not on its position in the file."""
        return f"{self.notifier.rsplit('.', 1)[1]} {json_digest(self.model_dump(mode='json'))[:8]}"

    def build(self, alert: Alert) -> Any:
        """Make the notifier that sends this alert.

        Raises:
            NotificationsInvalid: the class does not exist or does not accept the arguments, or a template is invalid.
        """
        try:
            arguments = {key: _render(key, value, alert) for key, value in (self.model_extra or {}).items()}
        except TemplateError as error:
            raise NotificationsInvalid(
                f"{self.notifier}: a template is invalid: {error}. Templates may use alert.kind, alert.subject, alert.text and "
                "alert.link."
            ) from error
        module, _, name = self.notifier.rpartition(".")
        try:
            notifier = getattr(import_module(module), name)(**arguments)
        except (ImportError, AttributeError) as error:
            raise NotificationsInvalid(
                f"{self.notifier}: the class cannot be imported: {error}. Check its import path, and that its package is installed."
            ) from error
        except Exception as error:
            raise NotificationsInvalid(
                f"{self.notifier} does not accept the arguments {', '.join(arguments) or 'none'}: {type(error).__name__}: {error}."
            ) from error
        if not callable(getattr(notifier, "notify", None)):
            raise NotificationsInvalid(f"{self.notifier} is not a notifier: it has no method notify(context).")
        return notifier


def read_notifications(path: Path | None) -> list[Notification]:
    """Read the entries of the file; none without a file.

    Raises:
        NotificationsInvalid: the file cannot be read, or an entry is invalid.
    """
    if path is None:
        return []
    try:
        entries = yaml.safe_load(path.read_text())
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise NotificationsInvalid(f"CHURN_NOTIFICATIONS_FILE={path} cannot be read: {error}.") from error
    if not isinstance(entries, list) or not entries:
        raise NotificationsInvalid(
            f"CHURN_NOTIFICATIONS_FILE={path} must be a list of entries with `notifier`. See include/notifications.example.yaml."
        )
    return [_read_entry(entry, f"{path.name}, entry {number}") for number, entry in enumerate(entries, 1)]


def open_channels(notifications: list[Notification], context: Mapping[str, Any]) -> list[Channel]:
    """Open the notification channels.

    Args:
        notifications: the entries of the file.
        context: passed to the notifiers, with the alert added under `alert`.
    """

    def open_channel(notification: Notification) -> Channel:
        def send(alert: Alert) -> None:
            notification.build(alert).notify({**context, "alert": _template_fields(alert)})

        return Channel(notification.name, None if notification.only is None else frozenset(notification.only), send)

    return [open_channel(notification) for notification in notifications]


def _read_entry(entry: object, where: str) -> Notification:
    try:
        notification = Notification.model_validate(entry)
    except ValidationError as error:
        faults = "; ".join(
            f"{'.'.join(map(str, fault['loc'])) or 'entry'} {describe_fault(fault)}" for fault in error.errors()
        )
        raise NotificationsInvalid(f"{where}: {faults}. `notifier` must be the import path of a class.") from error
    unknown = sorted(set(notification.only or []) - set(KINDS))
    if unknown:
        raise NotificationsInvalid(
            f"{where}: `only` has unknown kinds of alerts: {', '.join(unknown)}. Allowed: {', '.join(KINDS)}."
        )
    return notification


def _render(key: str, value: Any, alert: Alert) -> Any:
    """Render all texts within an argument as templates; escape them if the argument is HTML by its name."""
    if isinstance(value, str):
        return (_HTML if "html" in key else _PLAIN).from_string(value).render(alert=_template_fields(alert))
    if isinstance(value, dict):
        return {name: _render(key, item, alert) for name, item in value.items()}
    return [_render(key, item, alert) for item in value] if isinstance(value, list) else value


def _template_fields(alert: Alert) -> dict[str, str]:
    return {"kind": alert.kind, "subject": alert.subject, "text": alert.text, "link": alert.link}
