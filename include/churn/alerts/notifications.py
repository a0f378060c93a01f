"""The file that says who is told: notifier classes by import path, what they are told of, and their arguments as templates.

Arguments are rendered here, in a sandbox, and once: an alert whose text holds a template is only text. Any class will do
that is made from keyword arguments and has `notify(context)`, as Airflow's notifiers have.
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
from churn.foundation.records import Alert

_PLAIN = SandboxedEnvironment(undefined=StrictUndefined, autoescape=False)
_HTML = SandboxedEnvironment(undefined=StrictUndefined, autoescape=True)


class NotificationsInvalid(ChurnError):  # noqa: N818 -- the domain's word for it
    """The file of notifications cannot be used."""


class Notification(BaseModel):
    """One entry: a notifier, the kinds of alerts it wants (None: all), and its arguments."""

    model_config = ConfigDict(frozen=True, extra="allow")

    notifier: str = Field(pattern=r"^[A-Za-z_][\w.]*\.[A-Za-z_]\w*$")
    only: list[str] | None = Field(default=None, min_length=1)

    @property
    def name(self) -> str:
        """The same for the same entry, wherever in the file it stands."""
        return f"{self.notifier.rsplit('.', 1)[1]} {json_digest(self.model_dump(mode='json'))[:8]}"

    def build(self, alert: Alert) -> Any:
        """The notifier that tells this alert.

        Raises:
            NotificationsInvalid: there is no such class, it does not take the arguments, or a template is wrong.
        """
        try:
            arguments = {key: _render(key, value, alert) for key, value in (self.model_extra or {}).items()}
        except TemplateError as error:
            raise NotificationsInvalid(
                f"{self.notifier}: the template is wrong: {error}. There are alert.kind, alert.subject, alert.text and alert.link."
            ) from error
        module, _, name = self.notifier.rpartition(".")
        try:
            made = getattr(import_module(module), name)(**arguments)
        except (ImportError, AttributeError) as error:
            raise NotificationsInvalid(f"{self.notifier}: there is no such class: {error}.") from error
        except Exception as error:
            raise NotificationsInvalid(f"{self.notifier} cannot be made: {type(error).__name__}: {error}.") from error
        if not callable(getattr(made, "notify", None)):
            raise NotificationsInvalid(f"{self.notifier} is no notifier: it has no notify(context).")
        return made


def read_notifications(path: Path | None) -> list[Notification]:
    """The entries of the file; none where the setting names no file.

    Raises:
        NotificationsInvalid: the file cannot be read, or an entry is none.
    """
    if path is None:
        return []
    try:
        entries = yaml.safe_load(path.read_text())
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise NotificationsInvalid(f"CHURN_NOTIFICATIONS_FILE={path} cannot be read: {error}.") from error
    if not isinstance(entries, list) or not entries:
        raise NotificationsInvalid(
            f"CHURN_NOTIFICATIONS_FILE={path} must be a list of entries with `notifier`; include/notifications.example.yaml shows one."
        )
    return [_read(entry, f"{path.name}, entry {number}") for number, entry in enumerate(entries, 1)]


def open_channels(notifications: list[Notification], context: Mapping[str, Any]) -> list[Channel]:
    """The ways to people. `context` is what the notifiers are handed, and with it the alert."""

    def channel(notification: Notification) -> Channel:
        def send(alert: Alert) -> None:
            notification.build(alert).notify({**context, "alert": _shown(alert)})

        return Channel(notification.name, None if notification.only is None else frozenset(notification.only), send)

    return [channel(one) for one in notifications]


def _read(entry: object, where: str) -> Notification:
    try:
        found = Notification.model_validate(entry)
    except ValidationError as error:
        said = "; ".join(f"{'.'.join(map(str, one['loc'])) or 'entry'}: {one['msg']}" for one in error.errors())
        raise NotificationsInvalid(f"{where}: {said}. `notifier` is the import path of a class.") from error
    unknown = sorted(set(found.only or []) - set(KINDS))
    if unknown:
        raise NotificationsInvalid(f"{where}: only: {', '.join(unknown)}: there are {', '.join(KINDS)}.")
    return found


def _render(key: str, value: Any, alert: Alert) -> Any:
    """Texts within the argument as templates; what goes into HTML is escaped."""
    if isinstance(value, str):
        return (_HTML if "html" in key else _PLAIN).from_string(value).render(alert=_shown(alert))
    if isinstance(value, dict):
        return {name: _render(key, one, alert) for name, one in value.items()}
    return [_render(key, one, alert) for one in value] if isinstance(value, list) else value


def _shown(alert: Alert) -> dict[str, str]:
    return {"kind": alert.kind, "subject": alert.subject, "text": alert.text, "link": alert.link}
