"""Read the ledger, and check whether MLflow and the data root answer, within the time that a person waits for a page."""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field
from importlib import import_module
from threading import BoundedSemaphore, Lock, Thread
from typing import Any, TypeVar

import httpx

from churn.foundation.ledger import Ledger, LedgerError
from churn.foundation.schema import HEAD
from churn.settings import Settings, masked

T = TypeVar("T")
LEDGER_SECONDS, PROBE_SECONDS, FRESH_SECONDS = 1.2, 0.7, 10.0
"""Time-outs of the ledger and of the checks, together under two seconds; and how long the result of a check is reused."""
_ledger_slots = BoundedSemaphore(8)
"""Limits how many requests of this process wait for a ledger that hangs."""


_SILENT = (
    f"The ledger has not answered within {LEDGER_SECONDS:g} s. Check that its database is up, then reload this page."
)


class LedgerUnavailable(LedgerError):  # noqa: N818 -- named after the condition
    """The ledger cannot be shown; the message says why, and `unaffected` what works all the same."""

    unaffected = (
        "Production is not affected: the serving image and MLflow's alias `champion` do not need the ledger. "
        "Nothing is promoted until it answers."
    )


def start(call: Callable[[], T]) -> Future[T]:
    """Start a call in a daemon thread, which the caller may abandon."""
    answer: Future[T] = Future()

    def run() -> None:
        try:
            answer.set_result(call())
        except BaseException as error:
            answer.set_exception(error)  # raised by `result()`

    Thread(target=run, daemon=True).start()
    return answer


def read(ledger: Ledger, call: Callable[[Ledger], T]) -> T:
    """Read from a ledger with the schema of this code.

    Args:
        ledger: the ledger.
        call: what to read.

    Raises:
        LedgerUnavailable: the ledger does not answer within `LEDGER_SECONDS`, does not exist, or has another schema.
    """

    def read_and_release() -> T:
        try:
            require_schema(ledger)
            return call(ledger)
        finally:
            _ledger_slots.release()

    if not _ledger_slots.acquire(timeout=LEDGER_SECONDS / 4):
        raise LedgerUnavailable(_SILENT)
    try:
        return start(read_and_release).result(LEDGER_SECONDS)
    except TimeoutError as error:
        raise LedgerUnavailable(_SILENT) from error
    except LedgerUnavailable:
        raise
    except LedgerError as error:
        raise LedgerUnavailable(str(error)) from error


def require_schema(ledger: Ledger) -> None:
    """Check that the ledger's schema is the one of this code.

    Raises:
        LedgerUnavailable: the ledger does not exist yet, or its schema is older or newer.
    """
    schema = ledger.schema()
    if schema == HEAD:
        return
    if schema is None:
        raise LedgerUnavailable(
            "The ledger does not exist yet; the first run creates it. Land a file (`churn land FILE`) and trigger churn_retraining. "
            "If there have been runs already, check CHURN_LEDGER_URL: it may name a different ledger from the one those runs used."
        )
    if schema < HEAD:
        raise LedgerUnavailable(
            f"The ledger has schema {schema}, and this page needs {HEAD}. The next run or `churn status` upgrades it."
        )
    raise LedgerUnavailable(
        f"The ledger has schema {schema}, and this page needs {HEAD}. Restart Airflow's API server to load the newer code."
    )


@dataclass
class Reach:
    """Checks whether MLflow and the data root answer: both at once, at most every `FRESH_SECONDS`, and not while a check hangs.

    `open_filesystem` opens the data root's filesystem with its credentials. Its libraries take longer to load than the data root
    may take to answer. They are therefore loaded in the background, and the first pages check MLflow only.
    """

    settings: Settings
    open_filesystem: Callable[[Settings], Any]
    _checked_at: float = -FRESH_SECONDS
    _unavailable: tuple[str, ...] = ()
    _hanging: dict[str, Future[None]] = field(default_factory=dict)
    _lock: Lock = field(default_factory=Lock)

    def __post_init__(self) -> None:
        self._storage = start(lambda: import_module("churn.foundation.storage").Storage)

    def list_unavailable(self) -> tuple[str, ...]:
        """Describe each service that does not answer: its name, the consequences, and what is not affected."""
        with self._lock:
            if time.monotonic() - self._checked_at >= FRESH_SECONDS:
                self._unavailable = self._check()
                self._checked_at = time.monotonic() if self._storage.done() else -FRESH_SECONDS
            return self._unavailable

    def _check(self) -> tuple[str, ...]:
        started_at = time.monotonic()
        checks = {
            f"MLflow ({self.settings.mlflow_ui}) does not answer. Its pages cannot be opened, and no run can train. "
            "This page is read from the ledger and is up to date.": self._check_mlflow,
        }
        if self._storage.done():
            checks |= {
                f"The data root ({masked(self.settings.data_root)}) does not answer. Data Docs cannot be opened, and no run can start. "
                "This page is read from the ledger and is up to date.": self._check_storage,
            }
        answers = {sentence: self._hanging.get(sentence) or start(check) for sentence, check in checks.items()}
        unavailable = tuple(sentence for sentence, answer in answers.items() if not _has_succeeded(answer, started_at))
        self._hanging = {sentence: answer for sentence, answer in answers.items() if not answer.done()}
        return unavailable

    def _check_mlflow(self) -> None:
        uri = self.settings.mlflow_tracking_uri
        if uri.startswith(("http://", "https://")):
            httpx.get(f"{uri.rstrip('/')}/health", timeout=PROBE_SECONDS).raise_for_status()

    def _check_storage(self) -> None:
        root = self._storage.result().open(self.settings.data_root, self.open_filesystem(self.settings))
        if root.local:
            root.fs.info(root.root)
            return
        try:
            root.fs.info(root.root, refresh=True)
        except FileNotFoundError:
            return  # it answers; nothing has been written to it yet


def _has_succeeded(answer: Future[None], started_at: float) -> bool:
    """Whether a check has succeeded in time. The reason for a failure is in the log of the task that needs the service."""
    try:
        answer.result(max(0.0, started_at + PROBE_SECONDS - time.monotonic()))
    except Exception:
        return False
    return True
