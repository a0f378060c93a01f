"""The part of `make bench WHAT=load` that measures the service under honest, slow and malicious clients."""

from __future__ import annotations

import json
import socket
import statistics
import sys
import threading
import time
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, field
from http.client import HTTPConnection
from pathlib import Path
from urllib.parse import urlsplit

import psutil

from churn.foundation.local_server import image_app, served
from churn.pipeline import steps
from churn.pipeline.workspace import Request
from churn.release.service import laid_out
from reporting import Figure
from support.basics import land_text, make_workspace, small_file

CLIENTS, ROWS_A_REQUEST = 64, 20


@dataclass
class Tally:
    """What the honest clients got: milliseconds of each answer, and every answer that was not the right one."""

    took: list[float] = field(default_factory=list)
    wrong: Counter[str] = field(default_factory=Counter)
    attacks: Counter[str] = field(default_factory=Counter)


def measure_service(home: Path, url: str, minutes: float) -> list[Figure]:
    """Honest, slow and malicious clients at once."""
    (home / "service").mkdir()
    workspace = make_workspace(home / "service", url)
    land_text(workspace, small_file(5000, seed=1), "night.csv")
    request = Request("night")
    for batch in steps.arrive(workspace, request).batches:
        steps.validate(workspace, request, batch.batch)
    steps.compare(workspace, request, steps.train(workspace, request))
    steps.promote(workspace, request.night)
    body = honest_body()
    with (
        laid_out(1, workspace.ledger, workspace.contract, workspace.tracking) as folder,
        served(Path(sys.executable), image_app(folder)) as service,
    ):
        (process,) = [own for own in psutil.Process().children(recursive=True) if "churn.serving" in own.cmdline()]
        right, _ = post(service, body)
        before, tally, ended = memory(process), Tally(), threading.Event()
        threads = [
            threading.Thread(target=be_honest, args=(service, body, right, tally, ended)) for _ in range(CLIENTS - 8)
        ]
        threads += [threading.Thread(target=attack, args=(service, tally, ended)) for attack in ATTACKS * 2]
        for thread in threads:
            thread.start()
        peak, until = before, time.monotonic() + 60 * minutes
        while time.monotonic() < until:
            time.sleep(1)
            peak = max(peak, memory(process))
        ended.set()
        for thread in threads:
            thread.join(60)
        after, answer = memory(process), post(service, body)[0]
    slices = statistics.quantiles(tally.took, n=100)
    wrong = dict(tally.wrong) or "none"
    return [
        Figure(f"{CLIENTS - 8} honest clients: wrong or missing answers", "none", f"{wrong} of {len(tally.took):,}"),
        Figure(
            "their answers, p50 / p99 / slowest", "", f"{slices[49]:.0f} / {slices[98]:.0f} / {max(tally.took):.0f} ms"
        ),
        Figure("answers per second", "", f"{len(tally.took) / (60 * minutes):,.0f}"),
        Figure("attacks by the 8 others", "", ", ".join(f"{name}: {count:,}" for name, count in tally.attacks.items())),
        Figure("memory before / peak / after", "", f"{before:.0f} / {peak:.0f} / {after:.0f} MB"),
        Figure("the answer afterwards", "the same", "the same" if answer == right else "another one"),
    ]


def memory(process: psutil.Process) -> float:
    return float(sum(own.memory_info().rss for own in [process, *process.children(recursive=True)]) / 1e6)


def honest_body() -> bytes:
    header, *lines = small_file(ROWS_A_REQUEST, seed=9).splitlines()
    names, cells = header.split(","), [line.split(",") for line in lines]
    kept = [place for place, name in enumerate(names) if name not in ("RowNumber", "CustomerId", "Surname", "Exited")]
    data = [[number(row[place]) for place in kept] for row in cells]
    return json.dumps({"dataframe_split": {"columns": [names[place] for place in kept], "data": data}}).encode()


def number(cell: str) -> float | str:
    try:
        return float(cell)
    except ValueError:
        return cell


def post(service: str, body: bytes, connection: HTTPConnection | None = None) -> tuple[bytes, int]:
    address = urlsplit(service)
    own = connection or HTTPConnection(address.hostname or "", address.port, timeout=30)
    own.request("POST", "/invocations", body, {"Content-Type": "application/json"})
    answer = own.getresponse()
    return answer.read(), answer.status


def be_honest(service: str, body: bytes, right: bytes, tally: Tally, ended: threading.Event) -> None:
    address = urlsplit(service)
    connection = HTTPConnection(address.hostname or "", address.port, timeout=30)
    while not ended.is_set():
        began = time.perf_counter()
        try:
            answer, status = post(service, body, connection)
        except OSError as error:
            tally.wrong[type(error).__name__] += 1
            connection.close()
            continue
        tally.took.append((time.perf_counter() - began) * 1000)
        if status != 200 or answer != right:
            tally.wrong[f"status {status}" if status != 200 else "another answer"] += 1


def connect(service: str) -> socket.socket:
    address = urlsplit(service)
    return socket.create_connection((address.hostname or "", address.port or 0), timeout=30)


def trickle(service: str, tally: Tally, ended: threading.Event) -> None:
    """Send a byte of a request each second, and begin again when the service has had enough."""
    while not ended.is_set():
        with connect(service) as open_socket:
            open_socket.settimeout(1)
            open_socket.sendall(
                b"POST /invocations HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 5000\r\n\r\n{"
            )
            tally.attacks["slow requests"] += 1
            try:
                while not ended.is_set():
                    open_socket.sendall(b" ")
                    with suppress(TimeoutError):  # no answer yet
                        if not open_socket.recv(1000):
                            break
            except OSError:
                tally.attacks["ended by the service"] += 1


def talk_nonsense(service: str, tally: Tally, ended: threading.Event) -> None:
    """Send what is not HTTP, or not JSON."""
    nonsense = [
        b"\x16\x03\x01\x02\x00" + bytes(200),
        b"GET " + b"a" * 100_000 + b" HTTP/1.1\r\n\r\n",
        b"POST /invocations HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 9\r\n\r\n{{{{{{{{{",
    ]
    while not ended.wait(0.05):
        with connect(service) as open_socket:
            open_socket.settimeout(5)
            tally.attacks["nonsense"] += 1
            try:
                open_socket.sendall(nonsense[tally.attacks["nonsense"] % len(nonsense)])
                open_socket.recv(1000)
            except OSError:
                tally.attacks["ended by the service"] += 1


def send_too_much(service: str, tally: Tally, ended: threading.Event) -> None:
    """Announce and send more than is allowed."""
    while not ended.wait(0.5):
        with connect(service) as open_socket:
            open_socket.settimeout(5)
            tally.attacks["too large"] += 1
            try:
                open_socket.sendall(
                    b"POST /invocations HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 4000000000\r\n\r\n"
                )
                for _ in range(50):
                    open_socket.sendall(b"[" * 1_000_000)
            except OSError:
                tally.attacks["ended by the service"] += 1


def leave_early(service: str, tally: Tally, ended: threading.Event) -> None:
    """Send whole requests, and leave before the answer."""
    body = honest_body()
    head = f"POST /invocations HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    while not ended.wait(0.05):
        with connect(service) as open_socket:
            tally.attacks["left early"] += 1
            open_socket.sendall(head.encode() + body)


ATTACKS = [trickle, talk_nonsense, send_too_much, leave_early]
