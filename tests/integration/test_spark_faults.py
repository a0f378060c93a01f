"""What breaks while a Spark cluster works: the result is that of an undisturbed run, or one clear error. `make test-spark` runs these."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from churn.foundation.spark import session
from churn.foundation.spark.on_spark import OnSpark
from churn.foundation.spark.session import SparkUnavailable
from churn.foundation.spread import Here, WorkerKilled
from churn.foundation.storage import Storage
from support import spark_work
from support.spark_cluster import SparkCluster, why_not

pytestmark = [
    pytest.mark.spark,
    pytest.mark.skipif(why_not() is not None, reason=str(why_not())),
]
HERE = Here(2, "500MB")


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[SparkCluster]:
    """A cluster that a test may break."""
    own = SparkCluster(tmp_path / "cluster")
    own.events.mkdir(parents=True)
    for name in ("master", "worker-1", "worker-2"):
        own.start(name)
    yield own
    own.stop()


@pytest.fixture
def marks(tmp_path: Path) -> Path:
    folder = tmp_path / "marks"
    folder.mkdir()
    return folder


def test_two_attempts_at_one_part_write_one_file(cluster: SparkCluster, marks: Path, tmp_path: Path) -> None:
    """A slow executor is overtaken: the file is complete while both write it, and after the slow one was ended."""
    speculative = "spark.speculation true\nspark.speculation.interval 200ms\nspark.speculation.multiplier 1.1\nspark.speculation.quantile 0.5"
    spark, storage = (
        OnSpark(cluster.place(speculative), HERE, 1),
        Storage.open(str(tmp_path / "data"), many_machines=True),
    )
    begun = time.monotonic()
    with storage.scratch() as folder:
        list(spark.each(spark_work.square, range(2)))  # opens the session
        begun = time.monotonic()
        assert list(spark.each(partial(spark_work.write_slowly, folder, marks), range(8))) == list(range(8))
        assert time.monotonic() - begun < 24  # the slow attempt was not waited for
        read = list(spark.each(partial(spark_work.read_back, folder), range(8)))
        assert read == [f"begin {number} end" for number in range(8)]
        assert sorted(file.name for file in folder.iterdir() if not file.name.startswith(".")) == [
            f"file-{number}" for number in range(8)
        ]


def test_a_part_goes_elsewhere_from_a_full_disk(cluster: SparkCluster, marks: Path) -> None:
    """And if all disks are full, the step fails with the reason."""
    spark = OnSpark(cluster.place(), HERE, 1)
    folders = list(spark.each(partial(spark_work.fill_disk_of, "worker-1", marks), range(6)))
    assert all("worker-2" in folder for folder in folders)
    assert list(marks.glob("full-*"))
    with pytest.raises(WorkerKilled, match=r"No space left on device.*run the step again; nothing was lost"):
        list(spark.each(partial(spark_work.fill_disk_of, "worker", marks), range(2)))


def test_executors_may_have_a_python_of_their_own(cluster: SparkCluster, tmp_path: Path) -> None:
    """As that of a packed environment."""
    own = tmp_path / "own-python"
    own.write_text(f'#!/bin/sh\nSTARTED_BY=own exec {sys.executable} "$@"\n')
    own.chmod(0o755)
    spark = OnSpark(cluster.place(f"spark.pyspark.python {own}"), HERE, 1)
    assert list(spark.each(spark_work.started_by, range(2))) == ["own", "own"]


def test_a_killed_worker_leaves_the_work_to_the_other(cluster: SparkCluster, marks: Path) -> None:
    """Its executor goes with it."""
    spark = OnSpark(cluster.place(), HERE, 1)
    assert list(spark.each(spark_work.square, range(4))) == [0, 1, 4, 9]
    cluster.kill("worker-1")
    given = [[0, 1, 2, 3], spark_work.SCHEMA, 4, spark_work.keep_rows]
    assert list(spark.exchange(spark_work.make_rows, *given)) == list(HERE.exchange(spark_work.make_rows, *given))


@pytest.mark.parametrize("killed", ["master", "workers"])
def test_without_a_master_or_workers_a_step_fails_within_a_minute(cluster: SparkCluster, killed: str) -> None:
    """With what to start; started again, the step succeeds."""
    spark = OnSpark(cluster.place(), HERE, 1)
    list(spark.each(spark_work.square, range(2)))
    names = ["master"] if killed == "master" else ["worker-1", "worker-2"]
    threading.Timer(3, lambda: [cluster.kill(name) for name in names]).start()
    begun = time.monotonic()
    with pytest.raises(SparkUnavailable, match=r"Start it again, and run the step again; nothing was lost"):
        list(spark.each(spark_work.take_long, range(2)))
    assert time.monotonic() - begun < 75
    session.close_sessions()
    for name in names:
        cluster.start(name)
    if killed == "master":
        for name in ("worker-1", "worker-2"):
            cluster.kill(name)
            cluster.start(name)
    assert list(spark.each(spark_work.square, range(2))) == [0, 1]


def test_a_killed_task_ends_its_application(cluster: SparkCluster) -> None:
    """Its executors end soon after it, so that other applications can use the cores."""
    place = cluster.place()
    code = (
        "from pathlib import Path\n"
        "from churn.foundation.spark.on_spark import OnSpark\n"
        "from churn.foundation.spark.session import SparkPlace\n"
        "from churn.foundation.spread import Here\n"
        "from support import spark_work\n"
        f"spark = OnSpark(SparkPlace({place.master!r}, Path({str(place.conf_file)!r}), {place.secret!r}), Here(1, '500MB'), 1)\n"
        "print(list(spark.each(spark_work.square, range(2))), flush=True)\n"
        "list(spark.each(spark_work.take_long, range(2)))\n"
    )
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[1])}
    task = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, env=environment, text=True)
    assert task.stdout is not None
    assert task.stdout.readline() == "[0, 1]\n"
    time.sleep(3)
    assert count_executors(cluster) == 2
    task.send_signal(signal.SIGKILL)
    task.wait(30)
    begun = time.monotonic()
    while count_executors(cluster) and time.monotonic() - begun < 60:
        time.sleep(0.5)
    assert count_executors(cluster) == 0


def count_executors(cluster: SparkCluster) -> int:
    """The executors that run for the cluster."""
    count = 0
    for command in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            said = command.read_bytes()
        except OSError:  # it has ended meanwhile
            continue
        count += b"CoarseGrainedExecutorBackend" in said and str(cluster.folder).encode() in (
            command.with_name("environ").read_bytes()
        )
    return count
