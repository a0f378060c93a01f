"""The service: MLflow's protocol on /invocations, /ping, /health and /version, with a clear message for every rejected request.

Each request writes a line of JSON to standard output: counts, times and rule names, never a value.
"""

from __future__ import annotations

import asyncio
import gc
import json
import os
import sys
import time
from importlib.metadata import version as installed
from pathlib import Path
from typing import Any
from urllib.parse import quote

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from churn.contract import Contract
from churn.serving import CONTRACT_FILE, DOES_NOT_LOAD, FOLDER_VARIABLE, MODEL_FOLDER, TYPES_FILE
from churn.serving.batching import Predict, RequestBatcher
from churn.serving.log import log_request
from churn.serving.model import load_model
from churn.serving.protocol import BadRequest, answer, read_rows, require_content_type
from churn.serving.rows import BadRows, Values, check_rows

MOST_BYTES = 4 * 2**20
"""Largest body, about 40,000 rows. The excess is read and discarded, so that the client gets an answer instead of a broken pipe."""
_READ_AT_MOST = 32 * MOST_BYTES
_SECONDS_TO_SEND = 60
_LARGE = 2**16
"""Size in bytes above which a body is handled in a thread, so that other requests are answered in the meantime."""
_PATHS = ("/ping", "/health", "/version", "/invocations")
_CLIENT_GONE = 499
_MOST_IGNORED, _LONGEST_NAME = 20, 100


def create_app() -> ASGIApp:
    """Create the service for the folder that the environment names; the model is loaded before the first answer.

    Raises:
        ValueError: the contract is not valid.
        SystemExit: the model does not load; the last line of the log states the reason.
    """
    folder = Path(os.environ[FOLDER_VARIABLE])
    contract = Contract.from_json((folder / CONTRACT_FILE).read_text())
    try:
        predict = load_model(folder / MODEL_FOLDER, contract, _trusted_types(folder))
    except Exception as error:  # a damaged model may raise anything
        sys.stderr.write(f"The model does not load ({type(error).__name__}): {error}\n")
        raise SystemExit(DOES_NOT_LOAD) from error
    service = make_service(contract, predict)
    gc.collect()
    gc.freeze()  # otherwise every full collection walks the libraries again, a pause of 150 ms
    return service


def make_service(contract: Contract, predict: Predict) -> ASGIApp:
    """Create the service for a loaded model."""
    batcher, one_at_a_time = RequestBatcher(predict), asyncio.Semaphore(1)

    def read(body: bytes, media: str) -> tuple[Values, list[str]]:
        rows = read_rows(body, media, contract)
        return check_rows(rows.columns, contract), rows.ignored

    async def invocations(request: Request) -> Response:
        facts = request.scope["facts"]
        try:
            media = require_content_type(request.headers.get("content-type"), request.headers.get("content-encoding"))
            body = await _body(request)
            if len(body) > _LARGE:
                async with one_at_a_time:  # reading a large body takes up to forty times its size in memory
                    values, ignored = await asyncio.to_thread(read, body, media)
            else:
                values, ignored = read(body, media)
            probabilities = await batcher.score(values)
        except BadRows as error:
            first = error.faults[0]
            facts |= {"refused": first.rule, "refused_rows": error.count}
            named = [
                {"row": fault.row, "column": fault.column, "rule": fault.rule, "message": fault.sentence}
                for fault in error.faults
            ]
            return _error_response(
                400, str(error), row=first.row, column=first.column, rule=first.rule, bad_rows=error.count, faults=named
            )
        except BadRequest as error:
            facts["refused"] = "request"
            return _error_response(error.status, str(error))
        except ClientDisconnect:
            return Response(status_code=_CLIENT_GONE)
        except Exception as error:  # only its type is logged; the message may repeat the rows
            facts["failed"] = type(error).__name__
            return _error_response(
                500,
                "The model failed on this request. The service is still running; its log has the type of the error.",
            )
        facts["rows"] = len(probabilities)
        if ignored:
            facts["ignored_columns"] = len(ignored)
        content = await asyncio.to_thread(answer, probabilities) if len(body) > _LARGE else answer(probabilities)
        return Response(content, headers=_ignored_header(ignored), media_type="application/json")

    routes = [
        Route("/ping", _pong),
        Route("/health", _pong),
        Route("/version", _version),
        Route("/invocations", invocations, methods=["POST"]),
    ]
    service = Starlette(routes=routes, exception_handlers={HTTPException: _not_found})
    service.router.redirect_slashes = False  # a redirect would repeat the query and the host of the request
    return _logged(_closing(service))


def _trusted_types(folder: Path) -> list[str]:
    file = folder / TYPES_FILE
    return list(json.loads(file.read_text())) if file.is_file() else []


def _ignored_header(ignored: list[str]) -> dict[str, str]:
    """The header that names columns that were ignored, percent-encoded; at most `_MOST_IGNORED` of them."""
    named = [quote(name[:_LONGEST_NAME], safe=" ", errors="replace") for name in ignored[:_MOST_IGNORED]]
    more = len(ignored) - len(named)
    return {"X-Ignored-Columns": ", ".join([*named, *([f"and {more} more"] if more else [])])} if ignored else {}


async def _body(request: Request) -> bytes:
    """Read the body.

    Raises:
        BadRequest: 408 if it does not arrive in time, 413 if it is too large.
    """
    chunks, size = [], 0
    try:
        async with asyncio.timeout(_SECONDS_TO_SEND):
            async for chunk in request.stream():
                size += len(chunk)
                if size <= MOST_BYTES:
                    chunks.append(chunk)
                elif size > _READ_AT_MOST:
                    break
    except TimeoutError as error:
        raise BadRequest(
            f"The body did not arrive within {_SECONDS_TO_SEND} s. Send the request again, with fewer rows.", 408
        ) from error
    if size > MOST_BYTES:
        raise BadRequest(f"The body is larger than {MOST_BYTES // 2**20} MiB. Send fewer rows per request.", 413)
    return b"".join(chunks)


async def _pong(_: Request) -> Response:
    return Response("\n", media_type="application/json")


async def _version(_: Request) -> Response:
    return Response(installed("mlflow-skinny"), media_type="application/json")


async def _not_found(_: Request, error: Exception) -> Response:
    status = error.status_code if isinstance(error, HTTPException) else 404
    headers = error.headers if isinstance(error, HTTPException) else None
    message = f"This service answers only on {', '.join(_PATHS)}. Send rows to /invocations with POST."
    return _error_response(status, message, headers=headers)


def _error_response(status: int, message: str, headers: Any = None, **more: Any) -> Response:
    code = "INTERNAL_ERROR" if status >= 500 else "BAD_REQUEST"  # noqa: PLR2004 -- MLflow's names
    body = json.dumps({"error_code": code, "message": message, **more})
    return Response(body, status, headers, media_type="application/json")


def _closing(app: ASGIApp) -> ASGIApp:
    """Close the connection after an answer to a request whose body was not read to its end: a client could go on sending it slowly."""

    async def service(scope: Scope, receive: Receive, send: Send) -> None:
        headers = dict(scope.get("headers", ()))
        unread = b"transfer-encoding" in headers or headers.get(b"content-length", b"0") != b"0"

        async def receive_and_note_end() -> Message:
            nonlocal unread
            message = await receive()
            unread = unread and bool(message.get("more_body", False))
            return message

        async def send_with_close(message: Message) -> None:
            if message["type"] == "http.response.start" and unread:
                message = {**message, "headers": [*message["headers"], (b"connection", b"close")]}
            await send(message)

        await app(scope, receive_and_note_end, send_with_close)

    return service


def _logged(app: ASGIApp) -> ASGIApp:
    """Wrap the service with the access log; an unknown path is logged as `other`."""

    async def service(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await app(scope, receive, send)
            return
        began, status = time.perf_counter(), _CLIENT_GONE
        facts = scope["facts"] = {}

        async def send_and_note_status(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await app(scope, receive, send_and_note_status)
        finally:
            path = scope["path"] if scope["path"] in _PATHS else "other"
            took = round((time.perf_counter() - began) * 1000, 2)
            log_request(method=scope["method"], path=path, status=status, ms=took, **facts)

    return service
