"""What the review needs of others, asked for no longer than a person waits: the ledger, and whether MLflow and the data root answer."""

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
"""Both waits together end before a person has counted to two."""
_asking = BoundedSemaphore(8)
"""Who waits for a ledger that hangs, in this process: nobody more begins to."""


_SILENT = f"The ledger has not answered within {LEDGER_SECONDS:g} s. Check that its database is up, then load this page again."


class LedgerAway(LedgerError):  # noqa: N818 -- it says what is the matter
    """The ledger has nothing to show; the message says why, and `holds` what is true all the same."""

    holds = (
        "What is in production stays there: the serving image and MLflow's alias `champion` do not need the ledger. "
        "Nothing is promoted until it answers."
    )


def begin(call: Callable[[], T]) -> Future[T]:
    """Start something in a thread that nobody has to wait for."""
    answer: Future[T] = Future()

    def run() -> None:
        try:
            answer.set_result(call())
        except BaseException as error:
            answer.set_exception(error)  # raised where the answer is asked for

    Thread(target=run, daemon=True).start()
    return answer


def read(ledger: Ledger, call: Callable[[Ledger], T]) -> T:
    """What a call reads from a ledger of this code's schema.

    Raises:
        LedgerAway: it does not answer within `LEDGER_SECONDS`, is not there, or has another schema.
    """

    def ask() -> T:
        try:
            require_schema(ledger)
            return call(ledger)
        finally:
            _asking.release()

    if not _asking.acquire(timeout=LEDGER_SECONDS / 4):
        raise LedgerAway(_SILENT)
    try:
        return begin(ask).result(LEDGER_SECONDS)
    except TimeoutError as error:
        raise LedgerAway(_SILENT) from error
    except LedgerAway:
        raise
    except LedgerError as error:
        raise LedgerAway(str(error)) from error


def require_schema(ledger: Ledger) -> None:
    """The tables are those that this code knows.

    Raises:
        LedgerAway: they are not there yet, or older, or newer.
    """
    found = ledger.schema()
    if found == HEAD:
        return
    if found is None:
        raise LedgerAway(
            "The ledger is not there yet: the first night makes it. Land a file (`churn land FILE`) and trigger churn_retraining. "
            "If nights have run already, CHURN_LEDGER_URL names another ledger than theirs."
        )
    if found < HEAD:
        raise LedgerAway(
            f"The ledger is at {found}, and this page needs {HEAD}: the next night, or `churn status`, brings it there."
        )
    raise LedgerAway(f"The ledger is at {found}, and this page knows {HEAD}: restart Airflow's API server.")


@dataclass
class Reach:
    """Whether MLflow and the data root answer; asked at most every `FRESH_SECONDS`, both at once, and never again while one hangs.

    `open_filesystem` gives the data root's filesystem with its credentials. Its libraries take longer to load than it may take to
    answer: they are loaded beside the first pages, which ask MLflow alone.
    """

    settings: Settings
    open_filesystem: Callable[[Settings], Any]
    _asked: float = -FRESH_SECONDS
    _away: tuple[str, ...] = ()
    _hanging: dict[str, Future[None]] = field(default_factory=dict)
    _lock: Lock = field(default_factory=Lock)

    def __post_init__(self) -> None:
        self._storage = begin(lambda: import_module("churn.foundation.storage").Storage)

    def away(self) -> tuple[str, ...]:
        """A sentence for each that does not answer: which, what follows, and what holds."""
        with self._lock:
            if time.monotonic() - self._asked >= FRESH_SECONDS:
                self._away = self._ask()
                self._asked = time.monotonic() if self._storage.done() else -FRESH_SECONDS
            return self._away

    def _ask(self) -> tuple[str, ...]:
        began = time.monotonic()
        calls = {
            f"MLflow ({self.settings.mlflow_ui}) does not answer: its pages cannot be opened, and no night can train. "
            "What this page says is the ledger's, and holds.": self._ask_mlflow,
        }
        if self._storage.done():
            calls |= {
                f"The data root ({masked(self.settings.data_root)}) does not answer: Data Docs cannot be opened, and no night can run. "
                "What this page says is the ledger's, and holds.": self._ask_storage,
            }
        asked = {words: self._hanging.get(words) or begin(call) for words, call in calls.items()}
        away = tuple(words for words, answer in asked.items() if not _answered(answer, began))
        self._hanging = {words: answer for words, answer in asked.items() if not answer.done()}
        return away

    def _ask_mlflow(self) -> None:
        uri = self.settings.mlflow_tracking_uri
        if uri.startswith(("http://", "https://")):
            httpx.get(f"{uri.rstrip('/')}/health", timeout=PROBE_SECONDS).raise_for_status()

    def _ask_storage(self) -> None:
        root = self._storage.result().open(self.settings.data_root, self.open_filesystem(self.settings))
        if root.local:
            root.fs.info(root.root)
            return
        try:
            root.fs.info(root.root, refresh=True)
        except FileNotFoundError:
            return  # it answers, and is empty


def _answered(answer: Future[None], began: float) -> bool:
    """Whether it did, in time and well: why it did not is the log's of whoever needs it."""
    try:
        answer.result(max(0.0, began + PROBE_SECONDS - time.monotonic()))
    except Exception:
        return False
    return True
