"""An object store that fails now and then, or for good: retried within limits, then one clear error, nothing half taken."""

from __future__ import annotations

import http.client
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

import pytest

from churn.contracts.bank import BANK_CHURN
from churn.foundation.ledger import Ledger
from churn.foundation.storage import Storage, StorageError
from churn.intake.acceptance import accept_batch
from churn.intake.arrival import collect_arrivals
from churn.intake.audit import find_losses
from churn.intake.table_rules import IntakeLimits
from support.basics import S3, small_file

LIMITS = IntakeLimits(max_rejected_share=0.05, memory_limit="300MB")


class Faulty(ThreadingHTTPServer):
    """Hands requests on to the real store, except those that `fails` names: they get a 500, or no answer in time."""

    daemon_threads = True

    def __init__(self, endpoint: str) -> None:
        super().__init__(("127.0.0.1", 0), _Proxy)
        self.upstream = urlsplit(endpoint)
        self.seen = 0
        self.failed = 0
        self.fails = lambda number: False
        self.hangs = 0.0


class _Proxy(BaseHTTPRequestHandler):
    server: Faulty
    protocol_version = "HTTP/1.1"

    def _hand_on(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self.server.seen += 1
        if self.server.fails(self.server.seen):
            self.server.failed += 1
            time.sleep(self.server.hangs)
            self.send_response(500)
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        upstream = http.client.HTTPConnection(self.server.upstream.hostname, self.server.upstream.port, timeout=30)
        upstream.putrequest(self.command, self.path, skip_host=True, skip_accept_encoding=True)
        for name, value in self.headers.items():
            upstream.putheader(name, value)
        upstream.endheaders(body)
        answer = upstream.getresponse()
        content = answer.read()
        self.send_response(answer.status)
        for name, value in answer.getheaders():
            if name.lower() not in ("content-length", "transfer-encoding", "connection", "date", "server"):
                self.send_header(name, value)
        length = answer.getheader("Content-Length") if self.command == "HEAD" else str(len(content))
        self.send_header("Content-Length", length or "0")
        self.end_headers()
        self.wfile.write(content)
        upstream.close()

    do_GET = do_PUT = do_POST = do_DELETE = do_HEAD = _hand_on  # noqa: N815 -- http.server's names

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture
def store(s3: S3) -> Iterator[Faulty]:
    server = Faulty(s3.endpoint)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


@contextmanager
def through(store: Faulty, s3: S3, monkeypatch: pytest.MonkeyPatch, root: str) -> Iterator[Storage]:
    """The data root as it is seen through the faulty way; nothing of it is remembered from another test."""
    for name, value in s3.environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{store.server_port}")
    Storage.open(f"s3://{s3.bucket}/x").fs.clear_instance_cache()
    storage = Storage.open(f"s3://{s3.bucket}/{root}")
    yield storage
    storage.fs.clear_instance_cache()


def take_in(storage: Storage, ledger: Ledger) -> None:
    for batch in collect_arrivals(storage, ledger).batches:
        accept_batch(batch.batch, "night", storage, ledger, BANK_CHURN, LIMITS)


def land(storage: Storage) -> None:
    with storage.writing("landing/day.csv") as stream:
        stream.write(small_file(200, faults=3).encode())


def test_errors_now_and_then_are_retried(
    store: Faulty, s3: S3, ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every fifth request fails once: the batch is taken in all the same."""
    with through(store, s3, monkeypatch, "now-and-then") as storage:
        land(storage)
        store.fails = lambda number: number % 5 == 0
        take_in(storage, ledger)
        store.fails = lambda number: False
        assert store.failed >= 5
        (batch,) = ledger.batches()
        assert (batch.state, batch.accepted_rows, batch.quarantined_rows) == ("accepted", 197, 3)
        assert find_losses(storage, ledger, hashes=True) == []


@pytest.mark.parametrize("after", [0, 4, 12, 20])
def test_a_store_that_fails_for_good_is_one_error_and_nothing_is_half_taken(
    store: Faulty, s3: S3, ledger: Ledger, monkeypatch: pytest.MonkeyPatch, after: int
) -> None:
    """From some request on every answer is a 500: a clear error; when the store is back, the same counts."""
    with through(store, s3, monkeypatch, f"for-good-{after}") as storage:
        land(storage)
        first = store.seen + after
        store.fails = lambda number: number > first
        with pytest.raises(StorageError, match="CHURN_DATA_ROOT"):
            take_in(storage, ledger)
        assert store.failed > 1
        assert ledger.batches(state="accepted") == []
        store.fails = lambda number: False
        take_in(storage, ledger)
        (batch,) = ledger.batches()
        assert (batch.state, batch.accepted_rows, batch.quarantined_rows) == ("accepted", 197, 3)
        assert storage.landed() == []
        assert find_losses(storage, ledger, hashes=True) == []


def test_a_store_that_does_not_answer_is_given_up(
    store: Faulty, s3: S3, ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No answer within the time-out, again and again: an error, not a night that hangs."""
    from churn.foundation import storage as module

    impatient = {"connect_timeout": 1, "read_timeout": 1, "retries": {"mode": "standard", "total_max_attempts": 2}}
    monkeypatch.setattr(module, "_S3", {"config_kwargs": impatient})
    with through(store, s3, monkeypatch, "hanging") as storage:
        land(storage)
        store.hangs, store.fails = 3.0, lambda number: True
        with pytest.raises(StorageError, match="CHURN_DATA_ROOT"):
            take_in(storage, ledger)
        assert ledger.batches() == []
