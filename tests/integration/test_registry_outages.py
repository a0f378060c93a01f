"""A registry that is away, slow, or no registry at all: no promotion, each with its own reason, never "no champion"."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from churn.foundation.tracking import TrackingUnreachable
from churn.release.mirror import read_registry
from churn.release.promotion import settle_champion
from support.basics import make_workspace


@contextmanager
def answering(body: bytes, kind: str = "application/json", status: int = 200, delay: float = 0) -> Iterator[str]:
    """A server on loopback that says one thing to everybody."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            time.sleep(delay)
            self.send_response(status)
            self.send_header("content-type", kind)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        do_POST = do_GET  # noqa: N815 -- the library's name

        def log_message(self, *_: object) -> None:
            """Quiet."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.handle_error = lambda *_: None  # type: ignore[method-assign] -- who asked may be gone by then
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        (b"<html>welcome to the proxy</html>", "text/html"),
        (b'{"registered_model": {"name": 7, "aliases": "none"}}', "application/json"),
        (b"[1, 2", "application/json"),
        (
            b'{"registered_model": {"name": "x", "aliases": [{"alias": "champion", "version": "seven"}]}}',
            "application/json",
        ),
    ],
    ids=["a page", "wrong types", "half a JSON", "no number"],
)
def test_nonsense_is_no_answer(tmp_path: Path, body: bytes, kind: str) -> None:
    """What is no registry's answer is an outage that says so."""
    with answering(body, kind) as url:
        workspace = make_workspace(tmp_path, url)
        with pytest.raises(TrackingUnreachable, match="Nothing was promoted"):
            settle_champion(workspace.ledger, workspace.tracking)


def test_another_model_s_answer_is_nonsense(tmp_path: Path) -> None:
    """An empty object names no model: not "there is no champion"."""
    with answering(b"{}") as url:
        workspace = make_workspace(tmp_path, url)
        with pytest.raises(TrackingUnreachable, match="is not MLflow"):
            read_registry(workspace.tracking)


def test_too_slow_is_its_own_reason(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A registry that does not answer in time."""
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "1")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    with answering(b"{}", delay=3) as url:
        workspace = make_workspace(tmp_path, url)
        with pytest.raises(TrackingUnreachable, match="timed out"):
            settle_champion(workspace.ledger, workspace.tracking)


def test_an_error_of_the_server_is_not_no_champion(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A 500, and a 404 that is not MLflow's own."""
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    for status in (500, 404):
        with answering(b"gone", "text/plain", status) as url, pytest.raises(TrackingUnreachable):
            workspace = make_workspace(tmp_path, url)
            settle_champion(workspace.ledger, workspace.tracking)
