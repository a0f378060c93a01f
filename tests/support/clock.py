"""Moves the time of the product by whole weeks, in this process; Airflow and MLflow keep theirs."""

from __future__ import annotations

import datetime as real
import importlib
import pkgutil
import sys
from collections.abc import Sequence
from typing import Any

import pytest


class _AnyDatetime(type):
    """Makes every date with a time an instance."""

    def __instancecheck__(cls, value: object) -> bool:
        return isinstance(value, real.datetime)


class Clock:
    """The time that modules of the product see.

    Args:
        monkeypatch: moves the time of the modules, and back.
        start: the first moment.
        packages: those whose modules are all imported first; of the others, those that are imported already.
    """

    def __init__(
        self,
        monkeypatch: pytest.MonkeyPatch,
        start: real.datetime,
        packages: Sequence[str] = ("churn", "churn_airflow"),
    ) -> None:
        self.ahead = start - real.datetime.now(real.UTC)
        clock = self

        class Moved(real.datetime, metaclass=_AnyDatetime):
            """The present of the clock; otherwise as usual."""

            @classmethod
            def now(cls, tz: real.tzinfo | None = None) -> real.datetime:  # type: ignore[override]
                return real.datetime.now(tz) + clock.ahead

            @classmethod
            def fromisoformat(cls, text: str) -> real.datetime:  # type: ignore[override]
                return real.datetime.fromisoformat(text)

            @classmethod
            def fromtimestamp(cls, stamp: float, tz: real.tzinfo | None = None) -> real.datetime:  # type: ignore[override]
                return real.datetime.fromtimestamp(stamp, tz)

            @classmethod
            def combine(cls, *parts: Any, **options: Any) -> real.datetime:  # type: ignore[override]
                return real.datetime.combine(*parts, **options)

        for package in map(importlib.import_module, packages):
            for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
                if "migrations" not in module.name and not module.name.endswith("__main__"):
                    importlib.import_module(module.name)
        for name, module in list(sys.modules.items()):  # type: ignore[assignment]
            if name.startswith(("churn.", "churn_airflow.")) and getattr(module, "datetime", None) is real.datetime:
                monkeypatch.setattr(module, "datetime", Moved)

    @property
    def now(self) -> real.datetime:
        """The present."""
        return real.datetime.now(real.UTC) + self.ahead

    def move_to(self, moment: real.datetime) -> None:
        """Let it be this moment."""
        self.ahead = moment - real.datetime.now(real.UTC)
