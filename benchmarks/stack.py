"""`make bench WHAT=stack`: the stack compared with local mode. Prints figures and ratios; asserts nothing.

The same two nights, the image apart on both sides, each round of the stack from empty volumes; what `make up` takes from a built
image to healthy; the memory of all containers when nothing happens; and a first night of a million rows in a worker of the default
size. Everything is made in a temporary folder and on free ports.
"""

from __future__ import annotations

import os
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import docker
from rich.table import Table

import nightly_run
from churn.contracts.bank import BANK_CHURN
from churn.local.airflow_api import FINAL
from churn.local.main_job import IMAGE_BUILD, RETRAINING
from churn.sample.generator import Night
from nightly_run import NIGHTS, Timed, console, median, say
from support.basics import make_night
from support.stacks import Stack, running_stack, why_no_stack

ROUNDS = 2
LARGE = Night(rows=1_000_000, first_customer=1, seed=1)
LARGE_TIMEOUT = 1800
SETTLED = 30
"""Seconds after the start until the services are idle."""


def main() -> None:
    """Measure, print, and leave nothing behind."""
    if reason := why_no_stack():
        sys.exit(f"bench: {reason}")
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    with tempfile.TemporaryDirectory(prefix="churn-bench-") as folder:
        home = Path(folder)
        files = nightly_run._write_nights(home)
        with running_stack(home, "churn-bench", CHURN_CV_FOLDS="5") as stack:
            starts, memory, through = _time_stack(stack, files)
            large = _time_large(stack, home)
        _, local = nightly_run._time_airflow(home / "embedded", files)
    table = Table(
        "what", "goal", "figure", title=f"median of {ROUNDS}; {nightly_run.ROWS:,} rows a night; {os.cpu_count()} cores"
    )
    for name in NIGHTS:
        ratio = median(through[name]) / median(local[name])
        seconds = f"{median(through[name]):.1f} s / {median(local[name]):.1f} s"
        table.add_row(f"{name}: stack / local", "<= 1.5", f"{ratio:.2f} ({seconds})")
    table.add_row(
        "make up, from a built image to healthy", "< 90 s", " / ".join(f"{seconds:.0f} s" for seconds in starts)
    )
    table.add_row("memory of all services, idle", "< 4 GB", f"{median(memory) / 2**30:.2f} GB")
    table.add_row(f"first night of {LARGE.rows:,} rows, and the worker's peak", "fits", large)
    console.print(table)


def _time_large(stack: Stack, home: Path) -> str:
    """A night of many rows from empty volumes: how it ends, its seconds, and the most memory that its worker held."""
    file = home / "large.csv"
    file.write_text(make_night(BANK_CHURN, LARGE))
    stack.compose("down", "--volumes")
    say(f"stack: a night of {LARGE.rows:,} rows")
    stack.make("up")
    stack.admin._call("PATCH", f"/api/v2/dags/{IMAGE_BUILD}", json={"is_paused": True})
    stack.make("land", FILE=str(file))
    (worker,) = stack.containers("worker")
    stack.admin.trigger(RETRAINING, file.stem, {})
    began, peak, state = time.monotonic(), 0.0, None
    while state not in FINAL and time.monotonic() < began + LARGE_TIMEOUT:
        peak = max(peak, _used(worker))
        state = stack.admin.run_state(RETRAINING, file.stem)
    limit = worker.attrs["HostConfig"]["Memory"]
    return f"{state}, {time.monotonic() - began:.0f} s, {peak / 2**30:.2f} of {limit / 2**30:.2f} GB"


def _time_stack(stack: Stack, files: dict[str, Path]) -> tuple[list[float], list[float], Timed]:
    """Seconds of the starts, idle bytes, and seconds of each night."""
    starts: list[float] = []
    memory: list[float] = []
    seconds: Timed = {name: [] for name in files}
    for number in range(ROUNDS):
        stack.compose("down", "--volumes")
        say(f"stack, round {number + 1} of {ROUNDS}: make up")
        began = time.monotonic()
        stack.make("up")
        starts.append(time.monotonic() - began)
        time.sleep(SETTLED)
        memory.append(_memory(stack))
        stack.admin._call("PATCH", f"/api/v2/dags/{IMAGE_BUILD}", json={"is_paused": True})
        for name, file in files.items():
            say(f"stack, round {number + 1} of {ROUNDS}: {name}")
            stack.make("land", FILE=str(file))
            began = time.monotonic()
            nightly_run._run_dag(stack.admin, file.stem)
            seconds[name].append(time.monotonic() - began)
    return starts, memory, seconds


def _memory(stack: Stack) -> float:
    """Bytes of all containers."""
    labels = {"label": f"com.docker.compose.project={stack.project}"}
    return sum(_used(container) for container in docker.from_env().containers.list(filters=labels))


def _used(container: Any) -> float:
    """Bytes of a container, without what the kernel caches of files."""
    used = container.stats(stream=False)["memory_stats"]
    return float(used["usage"] - used["stats"].get("inactive_file", used["stats"].get("total_inactive_file", 0)))


if __name__ == "__main__":
    main()
