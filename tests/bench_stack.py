"""`make bench-stack`: the stack held against the embedded mode. Prints figures and ratios; asserts nothing.

The same two nights, the image apart on both sides, each round of the stack from empty volumes; what `make up` takes from a built
image to healthy; the memory of all containers when nothing happens. Everything is made in a temporary folder and on free ports.
"""

from __future__ import annotations

import os
import sys
import tempfile
import time
from pathlib import Path

import docker
from rich.table import Table

import bench
from bench import IMAGE_BUILD, NIGHTS, Timed, console, median, say
from stacks import Stack, running_stack, why_no_stack

ROUNDS = 2
SETTLED = 30
"""Seconds after the start until the services are idle."""


def main() -> None:
    """Measure, print, and leave nothing behind."""
    if reason := why_no_stack():
        sys.exit(f"bench: {reason}")
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    with tempfile.TemporaryDirectory(prefix="churn-bench-") as folder:
        home = Path(folder)
        files = bench._write_nights(home)
        with running_stack(home, "churn-bench", CHURN_CV_FOLDS="5") as stack:
            starts, memory, through = _time_stack(stack, files)
        _, embedded = bench._time_airflow(home / "embedded", files)
    table = Table(
        "what", "goal", "figure", title=f"median of {ROUNDS}; {bench.ROWS:,} rows a night; {os.cpu_count()} cores"
    )
    for name in NIGHTS:
        ratio = median(through[name]) / median(embedded[name])
        seconds = f"{median(through[name]):.1f} s / {median(embedded[name]):.1f} s"
        table.add_row(f"{name}: stack / embedded", "<= 1.5", f"{ratio:.2f} ({seconds})")
    table.add_row("make up, from a built image to healthy", "< 90 s", " / ".join(f"{one:.0f} s" for one in starts))
    table.add_row("memory of all services, idle", "< 4 GB", f"{median(memory) / 2**30:.2f} GB")
    console.print(table)


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
            bench._run_dag(stack.admin, file.stem)
            seconds[name].append(time.monotonic() - began)
    return starts, memory, seconds


def _memory(stack: Stack) -> float:
    """Bytes of all containers, without what the kernel caches of files."""
    total = 0.0
    for one in docker.from_env().containers.list(filters={"label": f"com.docker.compose.project={stack.project}"}):
        used = one.stats(stream=False)["memory_stats"]
        total += used["usage"] - used["stats"].get("inactive_file", used["stats"].get("total_inactive_file", 0))
    return total


if __name__ == "__main__":
    main()
