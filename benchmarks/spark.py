"""`make bench WHAT=spark`: intake and snapshot on a Spark cluster of two local workers, compared with one machine. Asserts nothing.

Both sides use the same two cores, one after the other, and their results are compared: a difference ends the benchmark. The start
of the Spark session is measured apart. CPU seconds are those of all processes of a side; the memory is the peak of an executor,
Java and Python together. Needs Java 17 and Spark (`make test` installs Spark). Everything is made in a temporary folder.

    make bench WHAT=spark                 10 million rows
    make bench WHAT=spark ROWS=1000000
"""

from __future__ import annotations

import os
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import psutil
from rich.table import Table

from churn.contracts.bank import BANK_CHURN as CONTRACT
from churn.foundation.ledger import open_ledger
from churn.foundation.sampling import Sampling
from churn.foundation.spark.on_spark import OnSpark
from churn.foundation.spark.session import close_sessions, open_session
from churn.foundation.spread import Here, Spread
from churn.foundation.storage import Storage
from churn.intake.acceptance import accept_batch
from churn.intake.arrival import collect_arrivals
from churn.intake.table_rules import IntakeLimits
from churn.learning.snapshot import take_snapshot
from intake_data import write_file
from reporting import console, say
from support.spark_cluster import SparkCluster

SALT = b"a salt for the bench only"
MEMORY, EXECUTOR_MEMORY = "1GB", "500MB"  # the same for each of the two cores
HERE = Here(2, MEMORY)


@dataclass
class Watch:
    """CPU seconds of this process and of all that it started, and the peak memory of an executor with its Python, in GB."""

    cpu: dict[int, float] = field(default_factory=dict)
    executor: float = 0.0

    def look(self) -> None:
        """Look at all processes once."""
        me = psutil.Process()
        for process in [me, *me.children(recursive=True)]:
            with suppress(psutil.Error):
                times = process.cpu_times()
                self.cpu[process.pid] = times.user + times.system
                if "CoarseGrainedExecutorBackend" in " ".join(process.cmdline()):
                    family = [process, *process.children(recursive=True)]
                    self.executor = max(self.executor, sum(_own_memory(one) for one in family) / 1e9)


def _own_memory(process: psutil.Process) -> int:
    with suppress(psutil.Error):
        return int(process.memory_info().rss)
    return 0


@contextmanager
def watched() -> Iterator[Watch]:
    """Look at all processes twice a second."""
    watch, ended = Watch(), threading.Event()
    watch.look()
    before = sum(watch.cpu.values())

    def repeat() -> None:
        while not ended.wait(0.5):
            watch.look()

    thread = threading.Thread(target=repeat, daemon=True)
    thread.start()
    try:
        yield watch
    finally:
        ended.set()
        thread.join()
        watch.look()
        watch.cpu[0] = -before


def compute(spread: Spread, file: Path, folder: Path) -> tuple[dict[str, float], tuple[object, ...]]:
    """Intake and snapshot of a file: seconds, and what identifies the result."""
    storage = Storage.open(str(folder / "data"), many_machines=not isinstance(spread, Here))
    ledger = open_ledger(f"sqlite:///{folder}/ledger.db")
    landing = folder / "data/landing"
    landing.mkdir(parents=True)
    os.link(file, landing / "batch.csv")
    began = time.perf_counter()
    (arrived,) = collect_arrivals(storage, ledger).batches
    batch = accept_batch(arrived.batch, "night", storage, ledger, CONTRACT, IntakeLimits(0.05, spread))
    judged = time.perf_counter()
    snapshot = take_snapshot(storage, ledger, CONTRACT, Sampling(SALT, spread))
    ended = time.perf_counter()
    result = (batch.accepted_sha256, batch.quarantined_sha256, batch.rules, snapshot.snapshot)
    return {"intake": judged - began, "snapshot": ended - judged}, result


def main() -> None:
    """Measure, print, and leave nothing behind."""
    rows = int(sys.argv[1]) if sys.argv[1:] else 10_000_000
    with tempfile.TemporaryDirectory(prefix="churn-bench-") as name:
        home = Path(name)
        say(f"writing {rows:,} rows, 1% of them faulty")
        file, warm = home / "batch.csv", home / "warm.csv"
        write_file(file, rows, 0.01)
        write_file(warm, 1000, 0.01)
        compute_on(HERE, home / "warmed", warm)  # what is loaded once has been loaded
        say("one machine")
        here_seconds, here, here_watch = compute_on(HERE, home / "here", file)
        cluster = SparkCluster(home / "cluster")
        cluster.events.mkdir(parents=True)
        try:
            for process in ("master", "worker-1", "worker-2"):
                cluster.start(process)
            spark = OnSpark(cluster.place(), Here(2, EXECUTOR_MEMORY))
            say("Spark")
            began = time.perf_counter()
            open_session(spark.place)
            session = time.perf_counter() - began
            spark_seconds, there, spark_watch = compute_on(spark, home / "spark", file)
            close_sessions()
        finally:
            cluster.stop()
    if here != there:
        raise SystemExit("The results differ, which is a defect.")
    table = Table("what", "rows", "goal", "ratio", "Spark", "one machine", title="two cores; equal results")
    for what in ("intake", "snapshot"):
        ratio = spark_seconds[what] / here_seconds[what]
        table.add_row(
            what, f"{rows:,}", "", f"{ratio:.1f}", f"{spark_seconds[what]:.1f} s", f"{here_seconds[what]:.1f} s"
        )
    totals = [sum(seconds.values()) for seconds in (spark_seconds, here_seconds)]
    table.add_row(
        "both", f"{rows:,}", "<= 5", f"{totals[0] / totals[1]:.1f}", f"{totals[0]:.1f} s", f"{totals[1]:.1f} s"
    )
    cpu = [sum(watch.cpu.values()) for watch in (spark_watch, here_watch)]
    table.add_row("CPU", f"{rows:,}", "<= 4", f"{cpu[0] / cpu[1]:.1f}", f"{cpu[0]:.0f} s", f"{cpu[1]:.0f} s")
    table.add_row("executor memory", f"{rows:,}", "<= 1.5 GB", "", f"{spark_watch.executor:.2f} GB", "")
    table.add_row("opening a session", "", "", "", f"{session:.1f} s", "")
    console.print(table)


def compute_on(spread: Spread, folder: Path, file: Path) -> tuple[dict[str, float], tuple[object, ...], Watch]:
    """Compute in a new folder, and watch the processes meanwhile."""
    folder.mkdir()
    with watched() as watch:
        seconds, result = compute(spread, file, folder)
    return seconds, result, watch


if __name__ == "__main__":
    main()
