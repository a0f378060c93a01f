"""An object store that fails when a test wants it to: a proxy in front of the real one."""

from __future__ import annotations

import http.client
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

import pytest

from churn.foundation.storage import Storage
from support.basics import S3


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


@contextmanager
def faulty_store(s3: S3) -> Iterator[Faulty]:
    """Run the proxy."""
    server = Faulty(s3.endpoint)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


@contextmanager
def through(
    store: Faulty, s3: S3, monkeypatch: pytest.MonkeyPatch, root: str, many_machines: bool = False
) -> Iterator[Storage]:
    """Open the data root through the faulty store, without the file caches of earlier tests."""
    for name, value in s3.environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{store.server_port}")
    Storage.open(f"s3://{s3.bucket}/x").fs.clear_instance_cache()
    storage = Storage.open(f"s3://{s3.bucket}/{root}", many_machines=many_machines)
    yield storage
    storage.fs.clear_instance_cache()
