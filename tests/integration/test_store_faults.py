"""An object store that fails sometimes or permanently: limited retries, then one clear error, and no batch half accepted."""

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
from support.basics import S3, small_file
from support.divisions import BYTES, limits

LIMITS = limits()


class Faulty(ThreadingHTTPServer):
    """Passes requests on to the real store, except those that `fails` selects: they get a 500, or no answer in time."""

    daemon_threads = True

    def __init__(self, endpoint: str) -> None:
        super().__init__(("127.0.0.1", 0), _Proxy)
        self.upstream = urlsplit(endpoint)
        self.requests = 0
        self.failed = 0
        self.fails = lambda number: False
        self.hangs = 0.0


class _Proxy(BaseHTTPRequestHandler):
    server: Faulty
    protocol_version = "HTTP/1.1"

    def _forward(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self.server.requests += 1
        if self.server.fails(self.server.requests):
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

    do_GET = do_PUT = do_POST = do_DELETE = do_HEAD = _forward  # noqa: N815 -- http.server's names

    def log_message(self, *_: object) -> None:
        """Log nothing."""


@pytest.fixture
def store(s3: S3) -> Iterator[Faulty]:
    server = Faulty(s3.endpoint)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


@contextmanager
def through(store: Faulty, s3: S3, monkeypatch: pytest.MonkeyPatch, root: str) -> Iterator[Storage]:
    """Open the data root through the faulty store, without the file caches of earlier tests."""
    for name, value in s3.environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{store.server_port}")
    Storage.open(f"s3://{s3.bucket}/x").fs.clear_instance_cache()
    storage = Storage.open(f"s3://{s3.bucket}/{root}")
    yield storage
    storage.fs.clear_instance_cache()


def accept_all(storage: Storage, ledger: Ledger) -> None:
    for batch in collect_arrivals(storage, ledger, part_size=BYTES).batches:
        accept_batch(batch.batch, "night", storage, ledger, BANK_CHURN, LIMITS)


def land(storage: Storage) -> None:
    with storage.writing("landing/day.csv") as stream:
        stream.write(small_file(200, faults=3).encode())


def test_occasional_errors_are_retried(store: Faulty, s3: S3, ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every fifth request fails, and the batch is accepted all the same."""
    with through(store, s3, monkeypatch, "now-and-then") as storage:
        land(storage)
        store.fails = lambda number: number % 5 == 0
        accept_all(storage, ledger)
        store.fails = lambda number: False
        assert store.failed >= 5
        (batch,) = ledger.batches()
        assert (batch.state, batch.accepted_rows, batch.quarantined_rows) == ("accepted", 197, 3)
        assert find_losses(storage, ledger, hashes=True) == []


@pytest.mark.parametrize("after", [0, 4, 12, 20])
def test_a_store_that_fails_permanently_is_one_error_and_no_batch_is_half_accepted(
    store: Faulty, s3: S3, ledger: Ledger, monkeypatch: pytest.MonkeyPatch, after: int
) -> None:
    """From some request on, every answer is a 500: one clear error. Once the store works again, the counts are the same."""
    with through(store, s3, monkeypatch, f"for-good-{after}") as storage:
        land(storage)
        last_good = store.requests + after
        store.fails = lambda number: number > last_good
        with pytest.raises(StorageError, match="CHURN_DATA_ROOT"):
            accept_all(storage, ledger)
        assert store.failed > 1
        assert ledger.batches(state="accepted") == []
        store.fails = lambda number: False
        accept_all(storage, ledger)
        (batch,) = ledger.batches()
        assert (batch.state, batch.accepted_rows, batch.quarantined_rows) == ("accepted", 197, 3)
        assert storage.landed() == []
        assert find_losses(storage, ledger, hashes=True) == []


def test_a_store_that_does_not_answer_is_an_error(
    store: Faulty, s3: S3, ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After repeated time-outs the step fails; it does not hang."""
    from churn.foundation import storage as module

    impatient = {"connect_timeout": 1, "read_timeout": 1, "retries": {"mode": "standard", "total_max_attempts": 2}}
    monkeypatch.setattr(module, "_S3", {"config_kwargs": impatient})
    with through(store, s3, monkeypatch, "hanging") as storage:
        land(storage)
        store.hangs, store.fails = 3.0, lambda number: True
        with pytest.raises(StorageError, match="CHURN_DATA_ROOT"):
            accept_all(storage, ledger)
        assert ledger.batches() == []
