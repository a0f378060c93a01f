"""The service of the image: odd requests, given to it in process, and odd bytes, sent to its server on loopback."""

from __future__ import annotations

import asyncio
import copy
import io
import json
import random
import re
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout, suppress
from functools import cache
from itertools import pairwise
from typing import Any

import numpy as np
import uvicorn

from churn.contract import Contract
from churn.contracts.bank import BANK_CHURN
from churn.release.probes import contract_rows, rows_body
from churn.serving.app import make_service
from churn.serving.levels import KnownLevels
from churn.serving.log import SERVER_LOG
from churn.serving.rows import Values, frame_of
from support.coded_contract import CODED
from support.fuzzing.cases import Defect, Target
from support.fuzzing.mutations import ODD_CELLS, ODD_NAMES, change_bytes, change_text
from support.fuzzing.promises import CANARY, require_plain
from support.fuzzing.trees import change_tree
from support.ports import free_port

CONTRACTS = {"bank": BANK_CHURN, "coded": CODED}
_DOCUMENTED = {200, 400, 404, 405, 408, 413, 415, 499}
_HONEST = 25
"""After this number of cases, an honest request follows, and after each one that was not answered with 200."""


@cache
def _rows(name: str) -> dict[str, Any]:
    body: dict[str, Any] = json.loads(json.dumps(rows_body(contract_rows(CONTRACTS[name]).iloc[:4])))
    return body


def _forms(name: str) -> list[Any]:
    split = _rows(name)
    records = [dict(zip(split["columns"], row, strict=True)) for row in split["data"]]
    columns = {column: [row[place] for row in split["data"]] for place, column in enumerate(split["columns"])}
    return [
        {"dataframe_split": split},
        {"dataframe_records": records},
        {"instances": records, "params": {}},
        {"inputs": records},
        {"inputs": columns},
    ]


def _body(draw: random.Random, name: str) -> tuple[bytes, str]:
    """A body, and the media type that fits it."""
    if draw.random() < 0.25:
        split = _rows(name)
        table = [[str(cell) for cell in row] for row in [split["columns"], *split["data"]]]
        return change_text(draw, table), "text/csv"
    tree = copy.deepcopy(draw.choice(_forms(name)))
    if draw.random() < 0.3:
        _add_column(draw, tree)
    for _ in range(draw.choice((0, 1, 1, 2, 4))):
        tree = change_tree(draw, tree)
    text = json.dumps(tree, default=str, ensure_ascii=draw.random() < 0.7)
    kind = draw.random()
    if kind < 0.05:
        text = text.replace(
            "1",
            draw.choice(
                (
                    "1e999",
                    "NaN",
                    "-Infinity",
                    "1" * 5000,
                    "[" * 2000,
                    "1.0",
                    "true",
                    '"\\ud83d"',
                    '"\\ud800"',
                    "01",
                    "1e-999",
                    '{"a":1,"a":2}',
                )
            ),
            1,
        )
    elif kind < 0.07:
        text = draw.choice(
            (
                "[" * 100_000,
                '{"a":' * 100_000,
                '{"inputs":' + "[" * 3000 + "]" * 3000 + "}",
                " " * 70_000 + text,
                text + " " * 70_000,
                text * 2,
            )
        )
    body = text.encode(errors="surrogatepass")
    return (change_bytes(draw, body) if draw.random() < 0.2 else body), "application/json"


def _add_column(draw: random.Random, tree: dict[str, Any]) -> None:
    """Add a column that the model does not know to every row."""
    name, value = (
        draw.choice((*ODD_NAMES, 1, None, [1], "x" * 9000, *["\ud800", "a\udfffb"] * 5)),
        draw.choice(ODD_CELLS),
    )
    (rows,) = (content for form, content in tree.items() if form != "params")
    if isinstance(rows, list):
        for row in rows:
            row[str(name)] = value
    elif "data" in rows:
        rows["columns"].append(name)
        for row in rows["data"]:
            row.append(value)
    else:
        rows[str(name)] = [value] * len(next(iter(rows.values())))


def make_request(draw: random.Random) -> bytes:
    """A request to the service in process, as JSON; bytes are written as Latin-1."""
    name = draw.choice(list(CONTRACTS))
    body, media = _body(draw, name)
    method, path = ("POST", "/invocations") if draw.random() < 0.9 else (
        draw.choice(("GET", "PUT", "HEAD", "OPTIONS", "TRACE", "post", "", "X" * 300)),
        draw.choice(("/ping", "/health", "/version", "/invocations", "/invocations/", "/", "//", "/../x", "/docs", "/ping\0", "/" + "x" * 3000, "/\ud7ff", "*", "")),
    )  # fmt: skip
    headers = [["content-type", media]] if draw.random() < 0.85 else [
        [
            draw.choice(("content-type", "Content-Type", "content-encoding", "accept", "x")),
            draw.choice((
                media, "", ";", "text/csv;header=present", "text/csv; header=absent", "application/json; charset=utf-16", "application/json;format=pandas-split", "application/json;;;", "gzip", "identity",
                "\xff\xfe", "multipart/form-data", "a" * 5000, 'application/json; charset="utf-8"', "application/json\0",
            )),
        ]
        for _ in range(draw.randrange(3))
    ]  # fmt: skip
    cut = sorted(draw.randrange(len(body) + 1) for _ in range(draw.choice((0, 0, 1, 3))))
    return json.dumps({
        "contract": name, "method": method, "path": path, "headers": headers, "body": body.decode("latin-1"), "cut": cut, "ends": draw.random() < 0.97,
    }).encode()  # fmt: skip


class _Service:
    """The service in process: one for each contract, and the loop that all requests share."""

    loop: asyncio.AbstractEventLoop
    apps: dict[str, Any]
    cases = 0


@contextmanager
def _in_process() -> Iterator[None]:
    _Service.loop = asyncio.new_event_loop()
    _Service.apps = {name: make_service(contract, _model(contract)) for name, contract in CONTRACTS.items()}
    try:
        yield
    finally:
        _Service.loop.run_until_complete(_Service.loop.shutdown_default_executor())
        _Service.loop.close()


def _model(contract: Contract) -> Any:
    """A model that sees its rows as real ones do: as a frame, with the levels of its texts."""
    texts = [column.name for column in contract.features if column.open]

    def predict(values: Values) -> np.ndarray:
        frame = frame_of(values, contract)
        for text in texts:
            KnownLevels(2).fit(frame[[text]]).transform(frame[[text]])
        numbers = frame.select_dtypes("number").sum(axis=1).to_numpy(np.float64)
        share = 1 / (1 + np.exp(-np.clip(np.nan_to_num(numbers), -30, 30)))
        return np.column_stack([1 - share, share])

    return predict


def check_request(case: bytes) -> str:
    """A request gets a documented answer, its line in the log has no value of it, and the next request is answered."""
    try:
        asked = json.loads(case)
        name = asked["contract"]
    except (ValueError, KeyError):  # a shrunk case
        return "no case"
    status, body = _ask(asked)
    _require_answer(status, body, asked["method"])
    _Service.cases += 1
    if _Service.cases % _HONEST == 0:
        honest = {
            "method": "POST",
            "path": "/invocations",
            "headers": [["content-type", "application/json"]],
            "body": json.dumps(_forms(name)[0]),
            "cut": [],
            "ends": True,
        }
        status_after, body_after = _ask(honest | {"contract": name})
        if status_after != 200 or len(json.loads(body_after)["predictions"]) != len(_rows(name)["data"]):
            raise Defect(f"An honest request is not answered: {status_after} {body_after[:200]!r}")
    return str(status)


def _ask(asked: dict[str, Any]) -> tuple[int, bytes]:
    body = asked["body"].encode("latin-1")
    edges = [0, *asked["cut"], len(body)]
    waiting: list[dict[str, Any]] = [
        {"type": "http.request", "body": body[first:last], "more_body": True} for first, last in pairwise(edges)
    ]
    waiting.append(
        {"type": "http.request", "body": b"", "more_body": False} if asked["ends"] else {"type": "http.disconnect"}
    )
    sent: list[dict[str, Any]] = []

    async def receive() -> dict[str, Any]:
        return waiting.pop(0) if waiting else {"type": "http.disconnect"}

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    scope = {
        "type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": asked["method"], "path": asked["path"], "raw_path": asked["path"].encode(errors="replace"), "root_path": "", "query_string": b"",
        "headers": [(key.lower().encode("latin-1"), value.encode("latin-1")) for key, value in asked["headers"]], "scheme": "http", "server": ("test", 80), "client": ("127.0.0.1", 1),
    }  # fmt: skip
    log = io.StringIO()
    with redirect_stdout(log):
        _Service.loop.run_until_complete(_Service.apps[asked["contract"]](scope, receive, send))
    lines = [json.loads(line) for line in log.getvalue().splitlines()]
    if len(lines) != 1 or CANARY in log.getvalue():
        raise Defect(f"The log of a request is wrong: {log.getvalue()[:300]}")
    if "failed" in lines[0]:
        raise Defect(f"The model or the service failed: {lines[0]['failed']}")
    start, *bodies = sent
    return int(start["status"]), b"".join(message.get("body", b"") for message in bodies)


def _require_answer(status: int, body: bytes, method: str) -> None:
    if status not in _DOCUMENTED:
        raise Defect(f"A status is not documented: {status} {body[:300]!r}")
    if status == 499 or method == "HEAD" or (status == 200 and method != "POST"):
        return
    content = json.loads(body)
    if status == 200:
        if not all(len(pair) == 2 and all(0 <= share <= 1 for share in pair) for pair in content["predictions"]):
            raise Defect(f"An answer has no probabilities: {body[:200]!r}")
        return
    if content["error_code"] != "BAD_REQUEST":
        raise Defect(f"An error has another code: {content['error_code']}")
    for words in [content["message"], *(fault["message"] for fault in content.get("faults", []))]:
        require_plain(words)


# --- The server


_MOMENT = 0.03
"""Seconds without a byte after which the client says that it sends nothing more."""


class LoopbackServer:
    """The service under uvicorn that the cases of the target `http` are sent to."""

    port: int
    cases = 0


@contextmanager
def _on_loopback() -> Iterator[None]:
    LoopbackServer.port = free_port()
    config = uvicorn.Config(
        make_service(BANK_CHURN, _model(BANK_CHURN)), host="127.0.0.1", port=LoopbackServer.port, access_log=False, log_config=SERVER_LOG, ws="none", server_header=False, log_level="critical"
    )  # fmt: skip
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, daemon=True)
    with redirect_stdout(io.StringIO()):
        thread.start()
        while not server.started:
            time.sleep(0.01)
        try:
            yield
        finally:
            server.should_exit = True
            thread.join()


def make_bytes(draw: random.Random) -> bytes:
    """One to three requests as bytes, whose framing is odd: lengths, chunks, line ends, headers, versions."""
    body, media = _body(draw, "bank")
    body = body[:20_000]
    end = "\r\n" if draw.random() < 0.9 else draw.choice(("\n", "\r", "\r\r\n", "\n\r"))
    length = (
        str(len(body))
        if draw.random() < 0.85
        else draw.choice(
            (
                "-1",
                "0",
                str(len(body) + 5),
                str(max(len(body) - 5, 0)),
                "99999999999999999999",
                "1e3",
                "0x10",
                "",
                " 5",
                "5,5",
                "+5",
                "\xb2",
            )
        )
    )
    headers = ["Host: x", f"Content-Type: {media}"]
    chunked = draw.random() < 0.25
    if not chunked or draw.random() < 0.2:
        headers.append(f"Content-Length: {length}")
    if chunked:
        headers.append(
            "Transfer-Encoding: "
            + draw.choice(
                ("chunked", "chunked", "Chunked", "gzip, chunked", "identity", "chunked, identity", "xchunked", "")
            )
        )
        size = draw.choice((1, 7, 1000))
        pieces = [body[at : at + size] for at in range(0, len(body), size)][:200]
        spell = draw.choice(("{:x}", "{:X}", "{:08x}", "{:x};ext=1", "{:x} ", "-{:x}", "0x{:x}", "{:d}g"))
        body = b"".join(
            spell.format(len(piece)).encode() + b"\r\n" + piece + b"\r\n" for piece in pieces
        ) + draw.choice((b"0\r\n\r\n", b"0\r\nX: y\r\n\r\n", b"0\r\n", b"", b"fffffffffffffffff\r\n"))
    for _ in range(draw.choice((0, 0, 1, 3))):
        headers.insert(
            draw.randrange(len(headers) + 1),
            draw.choice((
                "Expect: 100-continue", "Expect: 200-ok", "Connection: close", "Connection: upgrade\r\nUpgrade: websocket", "Upgrade: h2c", "Content-Length: 3", "Content-Type: text/csv", "Transfer-Encoding: chunked",
                ": empty", "NoColon", "X : y", " folded", "X: " + "y" * 70_000, "X: \0", "X: \xff", "Host: y", "Content-Encoding: gzip", "Cookie: a=b", "X\ty: z", "Range: bytes=0-1",
            )),
        )  # fmt: skip
    line = "POST /invocations HTTP/1.1" if draw.random() < 0.75 else draw.choice((
        "GET /ping HTTP/1.1", "GET /ping HTTP/1.0", "GET /ping HTTP/0.9", "GET /ping", "GET /ping HTTP/2.0", "GET /ping HTTP/9.9", "PRI * HTTP/2.0", "CONNECT x:1 HTTP/1.1", "OPTIONS * HTTP/1.1", "post /invocations HTTP/1.1", "HEAD /ping HTTP/1.1",
        "GET http://evil/ping HTTP/1.1", "GET /%00%ff%zz HTTP/1.1", "GET /" + "x" * 70_000 + " HTTP/1.1", "GET /\xff HTTP/1.1", "GET /?a=%ed%a0%80 HTTP/1.1", "", " ", "\x16\x03\x01\x02\x00", "POST  /invocations  HTTP/1.1", "GET\t/ping\tHTTP/1.1", "GET //ping HTTP/1.1", "GET /a b HTTP/1.1",
    ))  # fmt: skip
    data = (end.join([line, *headers, "", ""])).encode("latin-1") + body
    if draw.random() < 0.2:
        data = change_bytes(draw, data)
    if draw.random() < 0.15:
        data += draw.choice((data, b"GET /ping HTTP/1.1\r\nHost: x\r\n\r\n", b"garbage"))
    return data


def check_bytes(case: bytes) -> str:
    """Whatever arrives, the server answers it with a documented status or closes the connection, and it answers the next request."""
    answered = _exchange(case)
    statuses = _statuses(answered)
    for status in statuses:
        if status not in _DOCUMENTED - {499} | {100}:
            raise Defect(f"A status is not documented: {status} {answered[:300]!r}")
    if CANARY.encode() in answered:
        raise Defect(f"An answer repeats a value: {answered[:300]!r}")
    LoopbackServer.cases += 1
    if LoopbackServer.cases % _HONEST == 0 or not statuses:
        body = json.dumps(_forms("bank")[0]).encode()
        honest = (
            b"POST /invocations HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nConnection: close\r\nContent-Length: %d\r\n\r\n"
            % len(body)
            + body
        )
        if _statuses(_exchange(honest, moment=5)) != [200]:
            raise Defect("An honest request is not answered: after an odd one")
    return str(statuses[0]) if statuses else "closed"


def _exchange(data: bytes, moment: float = _MOMENT) -> bytes:
    """Send bytes, and read what is answered. Once nothing has come for a moment, say that nothing more will be sent."""
    answered, until = bytearray(), time.monotonic() + 8
    with (
        socket.create_connection(("127.0.0.1", LoopbackServer.port), timeout=moment) as connection,
        suppress(OSError),
    ):  # it may close at any time
        connection.sendall(data)
        while True:
            try:
                piece = connection.recv(65_536)
            except TimeoutError:
                if time.monotonic() > until:
                    raise Defect("The server neither answers nor closes: for eight seconds") from None
                connection.shutdown(socket.SHUT_WR)
                continue
            if not piece:
                break
            answered += piece
    return bytes(answered)


def _statuses(answered: bytes) -> list[int]:
    """The status of each answer on a connection; the last one may be incomplete."""
    statuses = []
    while answered:
        head, _, rest = answered.partition(b"\r\n\r\n")
        line, *headers = head.split(b"\r\n")
        if not re.fullmatch(rb"HTTP/1\.1 [1-5][0-9]{2} [\x20-\x7e]*", line):
            raise Defect(f"What the server sent is not HTTP: {answered[:300]!r}")
        named = {name.lower(): value.strip() for name, _, value in (header.partition(b":") for header in headers)}
        statuses.append(int(line.split()[1]))
        if statuses[-1] == 100:
            answered = rest
        elif b"content-length" in named:
            answered = (
                rest[int(named[b"content-length"]) :] if rest[:5] != b"HTTP/" else rest
            )  # HEAD has a length and no body
        else:
            return statuses
    return statuses


SERVICE = Target("service", make_request, check_request, _in_process)
HTTP = Target("http", make_bytes, check_bytes, _on_loopback)
