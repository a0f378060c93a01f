"""`make bench WHAT=load`: what grows with files, versions, runs and clients. Prints figures and ratios; asserts nothing.

    make bench WHAT=load                                 files, commands, service
    make bench WHAT=load ARGS="--only service --minutes 10"

- files: a run of eight files at once beside 30 and beside 10,000 known files, and one of 1,000 files
- commands: each `churn` command beside 30 runs and few versions, and beside 3,650 runs and 200 versions
- service: 64 clients, with slow and malicious ones among them

The pages of the review over 3,650 runs are measured by `make bench WHAT=review`.
"""

from __future__ import annotations

import argparse
import json
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from http.client import HTTPConnection
from pathlib import Path
from urllib.parse import urlsplit

import mlflow
import psutil
from rich.table import Table

from churn.foundation.local_server import image_app, served
from churn.foundation.parts import WrittenPart, store_parts
from churn.foundation.paths import accepted
from churn.foundation.records import BatchVerdict
from churn.intake.batch_file import FileFault
from churn.intake.judged_rows import accepted_schema, batch_number
from churn.learning.snapshot import take_snapshot
from churn.pipeline import steps
from churn.pipeline.workspace import Request, Workspace
from churn.release.service import laid_out
from reporting import Figure, console, say, seconds
from support.basics import land_text, make_workspace, mlflow_server, small_file
from support.review_ledger import fill_ledger

FEW_FILES, MANY_FILES = 30, 10_000
FEW_RUNS, MANY_RUNS = 30, 3_650
FEW_VERSIONS, MANY_VERSIONS = 5, 200
GOAL = "<= 1.3"
COMMANDS = (
    "status",
    "history",
    "batches",
    "alerts",
    "outcomes",
    "scores list",
    "snapshot list",
    "image list",
    "images list",
    "audit",
    "reconcile",
    "settings",
)
ROUNDS = 3
CLIENTS, ROWS_A_REQUEST = 64, 20


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", choices=["files", "commands", "service"])
    parser.add_argument("--minutes", type=float, default=10.0, help="of the service")
    parser.add_argument("--files", type=int, default=1_000, help="files of one run")
    asked = parser.parse_args()
    parts: dict[str, Callable[[Path, str], list[Figure]]] = {
        "files": lambda home, url: measure_files(home, url, asked.files),
        "commands": measure_commands,
        "service": lambda home, url: measure_service(home, url, asked.minutes),
    }
    table = Table("what", "goal", "figure", title=f"{os.cpu_count()} cores")
    with tempfile.TemporaryDirectory(prefix="churn-bench-load-") as folder:
        home = Path(folder)
        with mlflow_server(home, f"sqlite:///{home}/mlflow.db", str(home / "artifacts")) as url:
            for name, measure in parts.items():
                if asked.only in (None, name):
                    say(name)
                    for figure in measure(home, url):
                        table.add_row(figure.what, figure.goal, figure.figure)
    console.print(table)
    return 0


# Files --------------------------------------------------------------------------------------------


def measure_files(home: Path, url: str, many: int) -> list[Figure]:
    """A run of eight files beside few and beside many known ones, and one of many files."""
    took = {}
    for known in (FEW_FILES, MANY_FILES):
        say(f"{known:,} known files")
        (home / f"files-{known}").mkdir()
        workspace = make_workspace(home / f"files-{known}", url)
        for number in range(known):
            accept_directly(workspace, home, number)
        sampling = workspace.sampling
        took[known, "snapshot"] = seconds(
            lambda: take_snapshot(workspace.storage, workspace.ledger, workspace.contract, sampling)  # noqa: B023
        )
        took |= {(known, step): spent for step, spent in run_of_files(workspace, "eight", 8).items()}
    (home / "files-at-once").mkdir()
    say(f"{many:,} files of one run")
    at_once = run_of_files(make_workspace(home / "files-at-once", url), "many", many)
    figures = [
        Figure(
            f"eight files, {step}: {MANY_FILES:,} known files / {FEW_FILES}",
            GOAL,
            f"{took[MANY_FILES, step] / took[FEW_FILES, step]:.2f} ({took[MANY_FILES, step]:.2f} s / {took[FEW_FILES, step]:.2f} s)",
        )
        for step in ("arrive", "validate", "again")
    ]
    each = at_once["validate"] / many / (took[FEW_FILES, "validate"] / 8)
    figures.append(
        Figure(
            f"{many:,} files in one run, each / each of eight",
            GOAL,
            f"{each:.2f} (arrive {at_once['arrive']:.1f} s, validate {at_once['validate']:.1f} s, snapshot {at_once['again']:.1f} s)",
        )
    )
    return figures


def accept_directly(workspace: Workspace, home: Path, number: int) -> None:
    """Store ten rows as intake does after it has accepted them."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    batch, contract, rows = f"{number + 1:064x}"[::-1], workspace.contract, 10
    columns = dict(TEMPLATE)
    columns[contract.key.name] = list(range(10**7 + number * rows, 10**7 + (number + 1) * rows))
    columns |= {"_line": list(range(2, rows + 2)), "_batch": [batch_number(batch)] * rows}
    file = home / "directly.parquet"
    pq.write_table(pa.table(columns).cast(accepted_schema(contract)), file)
    manifest = store_parts(workspace.storage, accepted(batch), [WrittenPart.of(file)])
    workspace.ledger.add_batch(batch, f"{number}.csv", 1, datetime.now(UTC))
    workspace.ledger.judge_batch(
        batch, "before", BatchVerdict("accepted", rows, rows, 0, events=3, accepted_sha256=manifest.digest, kind="rows")
    )


TEMPLATE: dict[str, list[object]] = {
    "RowNumber": [1] * 10,
    "Surname": ["Smith"] * 10,
    "CreditScore": list(range(600, 610)),
    "Geography": ["France", "Spain"] * 5,
    "Gender": ["Female", "Male"] * 5,
    "Age": list(range(30, 40)),
    "Tenure": [3] * 10,
    "Balance": [1000.0] * 10,
    "NumOfProducts": [1, 2] * 5,
    "HasCrCard": [1] * 10,
    "IsActiveMember": [0, 1] * 5,
    "EstimatedSalary": [50_000.0] * 10,
    "Exited": [1, 1, 1, *[0] * 7],
}


def run_of_files(workspace: Workspace, name: str, files: int) -> dict[str, float]:
    """The seconds of a run's steps until its snapshot."""
    for number in range(files):
        land_text(workspace, small_file(60, seed=number, first_customer=1 + number * 100), f"{name}-{number:05d}.csv")
    request, arrived = Request(name), []
    took = {"arrive": seconds(lambda: arrived.extend(steps.arrive(workspace, request).batches))}
    if len(arrived) != files:
        raise RuntimeError(f"{len(arrived)} of {files} files arrived.")

    def validate() -> None:
        for batch in arrived:
            if steps.validate(workspace, request, batch.batch) is None:
                raise FileFault("undecided", batch.name)

    took["validate"] = seconds(validate)
    sampling = workspace.sampling
    took["again"] = seconds(lambda: take_snapshot(workspace.storage, workspace.ledger, workspace.contract, sampling))
    return took


# Commands -----------------------------------------------------------------------------------------


def measure_commands(home: Path, _: str) -> list[Figure]:
    """The fastest of several times that each command takes, beside few and beside many runs and versions."""
    took: dict[str, list[float]] = {command: [] for command in COMMANDS}
    for runs, versions in ((FEW_RUNS, FEW_VERSIONS), (MANY_RUNS, MANY_VERSIONS)):
        say(f"{runs:,} runs, {versions} versions")
        place = home / f"runs-{runs}"
        (place / "data").mkdir(parents=True)
        fill_ledger(f"sqlite:///{place}/ledger.db", runs)
        with mlflow_server(place, f"sqlite:///{place}/mlflow.db", str(place / "artifacts")) as url:
            register(url, versions)
            environment = os.environ | {
                "CHURN_LEDGER_URL": f"sqlite:///{place}/ledger.db",
                "CHURN_DATA_ROOT": str(place / "data"),
                "MLFLOW_TRACKING_URI": url,
            }
            for command in COMMANDS:
                took[command].append(min(seconds(lambda: call(command, environment)) for _ in range(ROUNDS)))  # noqa: B023
    return [
        Figure(
            f"churn {command}: {MANY_RUNS:,} runs / {FEW_RUNS}", GOAL, f"{many / few:.2f} ({many:.2f} s / {few:.2f} s)"
        )
        for command, (few, many) in took.items()
    ]


def register(url: str, versions: int) -> None:
    """Register versions without files."""
    client, model = mlflow.MlflowClient(url), "churn"
    client.create_registered_model(model)
    run = client.create_run(client.create_experiment(model)).info
    for _ in range(versions):
        client.create_model_version(model, f"{run.artifact_uri}/model", run.run_id)


def call(command: str, environment: dict[str, str]) -> None:
    """Call a command; that it reports something, with the status 1, is right for a made-up ledger."""
    done = subprocess.run(
        [str(Path(sys.executable).with_name("churn")), *command.split()],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode not in (0, 1) or "Traceback" in done.stderr:
        raise RuntimeError(f"churn {command} ended with {done.returncode}: {done.stderr[-2000:]}")


# Service ------------------------------------------------------------------------------------------


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


if __name__ == "__main__":
    sys.exit(main())
