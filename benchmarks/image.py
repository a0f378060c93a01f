"""`make bench WHAT=image`: the serving image compared with the one that MLflow builds. Prints figures and ratios; asserts nothing.

Both are made of the same registered model, on the same base, with the same engine; containers run one at a time.

Stock is `mlflow models build-docker` of a model (its lean kind: python-slim, nginx, pip): MLflow writes the Dockerfile
and the context. Only its FROM line is changed, to a base of its own, prepared apart and not counted:
  - the base of ours, so that sizes compare; what python-slim has is added: `python`, `pip`, an apt that leaves little;
  - apt is given the Debian sources and the proxy that apt on this machine uses, since the base may have none;
  - pip is given the CA bundle and the configuration that the environment names; ours is given the same two files;
  - the build runs on the host's network, as ours does.
Stock runs as MLflow's documentation runs it (root, writable); ours as it is meant to run (read-only, no capabilities).

The base of each side is a new image at every run (a label differs), so that a first build finds nothing in a cache.
With --stock-image NAME stock's layers are kept under that name, and its first build is not measured.
"""

from __future__ import annotations

import argparse
import gc
import http.client
import json
import multiprocessing
import os
import re
import secrets
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any

import docker
import numpy as np
from docker.errors import APIError
from numpy.typing import NDArray
from rich.table import Table

from churn.contracts.bank import BANK_CHURN
from churn.foundation.examples import example_rows, model_input
from churn.pipeline import steps
from churn.pipeline.workspace import Request, Workspace
from churn.release.image import ImageSpec, build_image
from churn.settings import PYTHON
from reporting import console, say
from support.basics import ROOT, free_port, land_night, make_workspace, mlflow_server

ROUNDS = 3
VERSIONS = ROUNDS + 1  # one for the first build, another for each rebuild
BASES = (f"python:{PYTHON}-slim", f"churn-base:{PYTHON}")
LABEL = "churn.bench"
HOST = "127.0.0.1"
PROCESSES = 2  # of the clients
ANSWERS = 500
MANY = 100
SETTLE = 4  # seconds between the first answer and the look at the memory
WARM = 3  # seconds of load that are not measured
TIMEOUT = 120
PAUSE = 50  # ms
CA_BUNDLE = os.environ.get("PIP_CERT") or os.environ.get("SSL_CERT_FILE")
PIP_CONF = os.environ.get("PIP_CONFIG_FILE")
SLIM_APT = """DPkg::Post-Invoke { "rm -f /var/cache/apt/archives/*.deb /var/cache/apt/*.bin || true"; };
Acquire::Languages "none";
Acquire::GzipIndexes "true";
"""
"""How apt is set up in python-slim: less is left in a layer."""

Figures = dict[str, float]


@dataclass(frozen=True)
class Side:
    """How an image is run; `workers` is the variable that sets them."""

    name: str
    workers: str
    options: dict[str, Any]


@dataclass(frozen=True)
class Row:
    """A line of the table; `met` is asked with the figures of stock and ours."""

    what: str
    digits: int = 0
    goal: str = ""
    met: Callable[[float, float], bool] | None = None


STOCK = Side("stock", "MLFLOW_MODELS_WORKERS", {})
OURS = Side("ours", "WEB_CONCURRENCY", {"read_only": True, "cap_drop": ["ALL"], "security_opt": ["no-new-privileges"]})
ROWS = {
    "size": Row("size above the base (MB)", 0, "<= 1/2", lambda stock, ours: ours <= stock / 2),
    "rebuild": Row("new version, same lock (s)", 2, "<= 1/10, <= 1", lambda stock, ours: ours <= min(stock / 10, 1)),
    "first": Row("first build (s)", 1, "<= 2/3", lambda stock, ours: ours <= stock * 2 / 3),
    "start": Row("start to first good answer, one worker (s)", 2, "<= 1/2", lambda stock, ours: ours <= stock / 2),
    "memory": Row("idle memory, one worker (MiB)", 0, "<= 1/2", lambda stock, ours: ours <= stock / 2),
    "one": Row("one row, one client, one worker, p50 (ms)", 1, "less", lambda stock, ours: ours < stock),
    "single": Row("8 clients, one row each (requests/s)", 0, "more", lambda stock, ours: ours > stock),
    "many": Row(f"4 clients, {MANY} rows each (requests/s)", 0, "more", lambda stock, ours: ours > stock),
    "p50": Row("8 clients for long: p50 (ms)", 1),
    "p99": Row("8 clients for long: p99 (ms)", 1),
    "longest": Row("8 clients for long: longest (ms)", 1),
    "pauses": Row(f"8 clients for long: answers over p50 + {PAUSE} ms", 0, "none", lambda _, ours: ours == 0),
}


def main() -> None:
    """Build both, run both, print the table; whatever was started or built is taken away."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--workers", type=int, default=2, help="of each side, where there are several clients")
    parser.add_argument("--seconds", type=float, default=60, help="of the long load; the short ones take a sixth")
    parser.add_argument("--only", choices=["ours", "stock"])
    parser.add_argument("--base", default=os.environ.get("TEST_BASE_IMAGE"), help="the base image of both")
    parser.add_argument("--stock-image", metavar="NAME", help="keep stock's layers, and begin from those kept")
    asked = parser.parse_args()
    base = asked.base or next((name for name in BASES if engine().images.list(name)), None)
    if base is None:
        sys.exit(f"bench: the engine has none of {', '.join(BASES)}; name one with --base")
    figures: dict[str, Figures] = {}
    with tempfile.TemporaryDirectory(prefix="churn-bench-") as scratch, labelled(asked.stock_image) as mark:
        server = Path(scratch) / "server"
        server.mkdir()
        with mlflow_server(server, f"sqlite:///{server}/mlflow.db", str(server / "artifacts")) as url:
            workspace = make_models(Path(scratch) / "bench", url)
            for side in [side for side in (STOCK, OURS) if asked.only in (None, side.name)]:
                built, image = measure_builds(side, workspace, base, mark, asked.stock_image)
                figures[side.name] = built | measure_answers(side, image, asked.workers, asked.seconds)
    title = f"{asked.workers} workers a side unless said, {asked.seconds:.0f} s of long load; {os.cpu_count()} cores"
    show(figures, title)


def show(figures: dict[str, Figures], title: str) -> None:
    table = Table("what", "stock", "ours", "ratio", "goal", "met", title=title)
    for name, row in ROWS.items():
        stock, ours = (figures.get(side, {}).get(name) for side in ("stock", "ours"))
        shown = ["-" if value is None else f"{value:,.{row.digits}f}" for value in (stock, ours)]
        ratio, met = "-", ""
        if stock is not None and ours is not None:
            ratio = f"{ours / stock:.2f}" if stock else "-"
            met = ("yes" if row.met(stock, ours) else "NO") if row.met else ""
        table.add_row(row.what, *shown, ratio, row.goal, met)
    console.print(table)


@cache
def engine() -> docker.DockerClient:
    return docker.from_env(timeout=900)


# Models and images --------------------------------------------------------------------------------


def make_models(folder: Path, url: str) -> Workspace:
    """A bench with versions that really differ: each is trained on one more night."""
    folder.mkdir()
    workspace = make_workspace(folder, url)
    for number in range(1, VERSIONS + 1):
        say(f"model {number} of {VERSIONS}")
        land_night(workspace, min(number, 3), f"night-{number}.csv", seed=number, first_customer=number * 100_000)
        request = Request(f"night {number}")
        for batch in steps.arrive(workspace, request).batches:
            steps.validate(workspace, request, batch.batch)
        steps.train(workspace, request)
    return workspace


def build_ours(workspace: Workspace, version: int, base: str) -> str:
    """The image as a night builds it."""
    spec = ImageSpec(
        repository="churn-bench",
        base_image=base,
        engine="required",
        network="host",
        ca_bundle=Path(CA_BUNDLE) if CA_BUNDLE else None,
        pip_conf=Path(PIP_CONF) if PIP_CONF else None,
        lock=ROOT / "requirements-serving.lock",
        git_commit=None,
    )
    return str(build_image(version, workspace, spec).image_id)


def build_stock(workspace: Workspace, version: int, base: str) -> str:
    """The image as MLflow builds it, FROM the prepared base."""
    from mlflow.models.flavor_backend_registry import get_flavor_backend

    uri = workspace.tracking.model_uri(version)
    with tempfile.TemporaryDirectory(prefix="churn-stock-") as context:
        backend = get_flavor_backend(uri, docker_build=True, env_manager="local")
        backend.generate_dockerfile(uri, context)
        dockerfile = Path(context) / "Dockerfile"
        dockerfile.write_text(re.sub(r"(?m)^FROM .*$", f"FROM {base}", dockerfile.read_text(), count=1))
        image, _ = engine().images.build(path=context, network_mode="host", rm=True, forcerm=True)
    return str(image.id)


def prepare_base(base: str, mark: str, *, stock: bool) -> str:
    """A base that no cache knows; for stock with what a python-slim and a way to the packages would give."""
    lines = [f"FROM {base}", f"LABEL {LABEL}={mark}"]
    with tempfile.TemporaryDirectory(prefix="churn-base-") as folder:
        context = Path(folder)
        if stock:
            for file, variable in ((CA_BUNDLE, "PIP_CERT"), (PIP_CONF, "PIP_CONFIG_FILE")):
                if file:
                    shutil.copy(file, context / variable)
                    lines += [f"COPY {variable} /opt/bench/{variable}", f"ENV {variable}=/opt/bench/{variable}"]
            for place, text in apt_settings().items():
                (context / Path(place).name).write_text(text)
                lines.append(f"COPY {Path(place).name} {place}")
            lines += ["RUN command -v pip || python3 -m venv /opt/python", "ENV PATH=/opt/python/bin:$PATH"]
        (context / "Dockerfile").write_text("\n".join(lines))
        image, _ = engine().images.build(path=folder, network_mode="host", rm=True, forcerm=True)
    return str(image.id)


def apt_settings() -> dict[str, str]:
    """Files with the Debian sources and the proxy of this machine's apt; none where it has no apt."""
    if not shutil.which("apt-get"):
        return {}
    target = ["--format", "deb $(REPO_URI) $(RELEASE) $(COMPONENT)", "Created-By: Packages", "Origin: Debian"]
    proxy = ["--format", '%f "%v";%n', "Acquire::http::Proxy"]
    sources, settings = (
        subprocess.run(command, capture_output=True, text=True, check=True).stdout
        for command in (["apt-get", "indextargets", *target], ["apt-config", "dump", *proxy])
    )
    return {"/etc/apt/sources.list": sources, "/etc/apt/apt.conf.d/90bench": SLIM_APT + settings} if sources else {}


@contextmanager
def labelled(keep: str | None) -> Iterator[str]:
    """A label for the images of this run, layers included. They are removed, but not what was kept by a name."""
    mark = secrets.token_hex(4)
    try:
        yield mark
    finally:
        say("removing the images")
        made = [{"label": f"{LABEL}={value}"} for value in (mark, keep) if value]
        removed = True
        while removed:  # an image goes after those that were made of it
            removed = False
            for image in [image for filters in made for image in engine().images.list(all=True, filters=filters)]:
                with suppress(APIError):
                    if not image.tags:
                        engine().images.remove(image.id)
                        removed = True


def measure_builds(side: Side, workspace: Workspace, base: str, mark: str, keep: str | None) -> tuple[Figures, str]:
    """The first build, a rebuild for each further version, and the size; the image is the last version's."""
    keep = keep if side is STOCK else None
    warm = keep is not None and bool(engine().images.list(f"{keep}-base"))
    start = f"{keep}-base" if warm else prepare_base(base, keep or mark, stock=side is STOCK)
    build = build_stock if side is STOCK else build_ours
    took, images = [], []
    for version in range(1, VERSIONS + 1):
        say(f"{side.name}: build of version {version}")
        began = time.perf_counter()
        images.append(build(workspace, version, start))
        took.append(time.perf_counter() - began)
    assert len(set(images)) == VERSIONS
    above = engine().images.get(images[-1]).attrs["Size"] - engine().images.get(start).attrs["Size"]
    if keep:
        engine().images.get(start).tag(f"{keep}-base")
        engine().images.get(images[-1]).tag(keep)
    figures = {"size": above / 1e6, "rebuild": statistics.median(took[1:])}
    return figures if warm else figures | {"first": took[0]}, images[-1]


# Containers ---------------------------------------------------------------------------------------


def measure_answers(side: Side, image: str, workers: int, seconds: float) -> Figures:
    single, many = requests_of(1), requests_of(MANY)
    starts = []
    for number in range(ROUNDS):
        say(f"{side.name}: start {number + 1} of {ROUNDS}")
        with running(side, image, 1, single[0]) as (container, port, took):
            starts.append(took)
            if number == ROUNDS - 1:
                time.sleep(SETTLE)
                memory = idle_memory(container)
                load(port, single, clients=1, answers=ANSWERS // 10)
                one, _ = load(port, single, clients=1, answers=ANSWERS)
    with running(side, image, workers, single[0]) as (_, port, _):
        time.sleep(SETTLE)
        say(f"{side.name}: {workers} workers under load")
        load(port, single, clients=8, seconds=WARM)
        _, single_rate = load(port, single, clients=8, seconds=seconds / 6)
        load(port, many, clients=4, seconds=WARM)
        _, many_rate = load(port, many, clients=4, seconds=seconds / 6)
        long, _ = load(port, single, clients=8, seconds=seconds)
    median = float(np.median(long))
    return {
        "start": statistics.median(starts),
        "memory": memory,
        "one": float(np.median(one)),
        "single": single_rate,
        "many": many_rate,
        "p50": median,
        "p99": float(np.percentile(long, 99)),
        "longest": float(long.max()),
        "pauses": float((long > median + PAUSE).sum()),
    }


@contextmanager
def running(side: Side, image: str, workers: int, body: bytes) -> Iterator[tuple[Any, int, float]]:
    """The container, its port on loopback, and the seconds from its start to a good answer."""
    port = free_port()
    settings = {"environment": {side.workers: str(workers)}, "ports": {"8080/tcp": (HOST, port)}, **side.options}
    container = engine().containers.create(image, **settings)
    try:
        began = time.perf_counter()
        container.start()
        while not _answers(port, body):
            if time.perf_counter() - began > TIMEOUT:
                sys.exit(f"bench: {side.name} does not answer: {container.logs(tail=20).decode(errors='replace')}")
            time.sleep(0.02)
        yield container, port, time.perf_counter() - began
    finally:
        container.remove(force=True)


def _answers(port: int, body: bytes) -> bool:
    with suppress(OSError, http.client.HTTPException), closing(_connect(port)) as connection:
        return _ask(connection, body)
    return False


def idle_memory(container: Any) -> float:
    """MiB, as `docker stats` counts it: without the file pages that the kernel could drop at once."""
    memory = container.stats(stream=False)["memory_stats"]
    inactive = memory["stats"].get("total_inactive_file", memory["stats"].get("inactive_file", 0))
    return float(memory["usage"] - inactive) / 2**20


# Clients ------------------------------------------------------------------------------------------


def requests_of(rows: int) -> list[bytes]:
    """Bodies of MLflow's protocol, with other rows in each."""
    table = model_input(BANK_CHURN, example_rows(BANK_CHURN, rows * 20 + 50)).dropna()
    parts = [table.iloc[at : at + rows] for at in range(0, rows * 20, rows)]
    return [
        json.dumps({"dataframe_split": {"columns": list(part), "data": part.to_numpy().tolist()}}).encode()
        for part in parts
    ]


def load(
    port: int, bodies: list[bytes], clients: int, seconds: float = TIMEOUT, answers: int | None = None
) -> tuple[NDArray[np.float64], float]:
    """Send requests as a number of clients, each on its own connection; returns ms per answer and answers per second."""
    processes = min(PROCESSES, clients)
    work = partial(_clients, port, bodies, clients // processes, seconds, answers)
    with ProcessPoolExecutor(processes, multiprocessing.get_context("fork")) as pool:
        parts = [part for parts in pool.map(work, range(processes)) for part in parts]
    longest = max(sum(part) for part in parts)
    took = np.concatenate(parts)
    return took * 1e3, len(took) / longest


def _clients(
    port: int, bodies: list[bytes], clients: int, seconds: float, answers: int | None, _: int
) -> list[list[float]]:
    gc.disable()  # a pause of the client's own would be taken for the server's
    work = partial(_client, port, bodies, time.perf_counter() + seconds, answers)
    with ThreadPoolExecutor(clients) as pool:
        return list(pool.map(work, range(clients)))


def _client(port: int, bodies: list[bytes], until: float, answers: int | None, number: int) -> list[float]:
    took: list[float] = []
    with closing(_connect(port)) as connection:
        while (began := time.perf_counter()) < until and (answers is None or len(took) < answers):
            if not _ask(connection, bodies[(number + len(took)) % len(bodies)]):
                raise RuntimeError("an answer under load was not a good one")
            took.append(time.perf_counter() - began)
    return took


def _connect(port: int) -> http.client.HTTPConnection:
    return http.client.HTTPConnection(HOST, port, timeout=30)


def _ask(connection: http.client.HTTPConnection, body: bytes) -> bool:
    """Whether the answer is a good one; where the server ends the connection, the next request opens another."""
    connection.request("POST", "/invocations", body, {"Content-Type": "application/json"})
    answer = connection.getresponse()
    return answer.status == 200 and b"predictions" in answer.read()


if __name__ == "__main__":
    main()
