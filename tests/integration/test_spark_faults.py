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

import psutil
import pytest

from churn.contracts.bank import BANK_CHURN
from churn.foundation.ledger import Ledger, open_ledger
from churn.foundation.sampling import Sampling
from churn.foundation.spark import on_spark, session
from churn.foundation.spark.on_spark import OnSpark
from churn.foundation.spark.session import SparkUnavailable
from churn.foundation.spread import Here, Spread, WorkerKilled
from churn.foundation.storage import Storage, StorageError
from churn.intake.acceptance import accept_batch
from churn.intake.arrival import collect_arrivals
from churn.intake.audit import find_losses
from churn.intake.table_rules import IntakeLimits
from churn.learning.snapshot import take_snapshot
from support import spark_work
from support.basics import S3, small_file
from support.divisions import SALT
from support.faulty_store import faulty_store, through
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


def test_a_store_that_stops_in_the_middle_is_one_error(
    cluster: SparkCluster, s3: S3, ledger: Ledger, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While rows are judged, and while they are regrouped. The step that is run again comes to the rows of an undisturbed run."""
    spark = OnSpark(cluster.place(), HERE, 1)
    expected = accept_and_snap(
        Storage.open(str(tmp_path / "data")), open_ledger(f"sqlite:///{tmp_path}/other.db"), HERE
    )
    with faulty_store(s3) as store:
        with through(store, s3, monkeypatch, "undisturbed", many_machines=True) as storage:
            begun = store.requests
            own = open_ledger(f"sqlite:///{tmp_path}/own.db")
            accept(storage, own, spark)
            accepting, begun = store.requests - begun, store.requests
            assert snap(storage, own, spark) == expected
            snapping = store.requests - begun
        with through(store, s3, monkeypatch, "stops", many_machines=True) as storage:
            for step, requests in ((accept, accepting), (snap, snapping)):
                last_good = store.requests + requests // 2
                store.fails = partial(is_after, last_good)
                with pytest.raises(StorageError, match="CHURN_DATA_ROOT"):
                    step(storage, ledger, spark)
                assert store.failed
                store.fails, store.failed = never, 0
                found = step(storage, ledger, spark)
            assert found == expected
            assert rows_of(cluster)  # copies, as long as the application runs
            assert find_losses(storage, ledger, hashes=True) == []
    session.close_sessions()
    begun = time.monotonic()
    while (left := rows_of(cluster)) and time.monotonic() - begun < 60:  # the worker deletes them in the background
        time.sleep(0.5)
    assert left == []


def rows_of(cluster: SparkCluster) -> list[Path]:
    """Files of customers in the folders of the cluster."""
    return [file for file in cluster.folder.rglob("*") if file.suffix in (".arrow", ".parquet", ".npy", ".csv")]


def accept_and_snap(storage: Storage, ledger: Ledger, spread: Spread) -> str:
    accept(storage, ledger, spread)
    return snap(storage, ledger, spread)


def accept(storage: Storage, ledger: Ledger, spread: Spread) -> str:
    """Accept a file in several parts, which may have landed before."""
    if not ledger.batches():
        with storage.writing("landing/day.csv") as stream:
            stream.write(small_file(1500, faults=30, seed=3).encode())
    (batch,) = collect_arrivals(storage, ledger, part_size=20_000).batches
    return accept_batch(batch.batch, "night", storage, ledger, BANK_CHURN, IntakeLimits(0.5, spread)).state


def snap(storage: Storage, ledger: Ledger, spread: Spread) -> str:
    return take_snapshot(storage, ledger, BANK_CHURN, Sampling(SALT, spread)).snapshot


def is_after(last_good: int, number: int) -> bool:
    return number > last_good


def never(_: int) -> bool:
    return False


@pytest.mark.skipif(os.geteuid() != 0, reason="mounts a small disk, which only root may")
def test_a_disk_that_is_full_is_one_error_or_none(cluster: SparkCluster, tmp_path: Path) -> None:
    """Of one worker: 4 MB for the 32 MB of rows that pass through it. With space again, the rows are those of one machine."""
    small = tmp_path / "small"
    small.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", str(small)], check=True)
    try:
        cluster.kill("worker-1")
        cluster.start("worker-1", {"SPARK_LOCAL_DIRS": str(small)})
        spark = OnSpark(cluster.place(), HERE, 1)
        given = [range(8), spark_work.SCHEMA, 4, spark_work.keep_rows]
        expected = list(HERE.exchange(spark_work.make_large_rows, *given))
        begun = time.monotonic()
        try:
            found = list(spark.exchange(spark_work.make_large_rows, *given))
        except WorkerKilled as error:
            assert "No space left on device" in str(error)  # noqa: PT017 -- either is right
            assert "run the step again; nothing was lost" in str(error)  # noqa: PT017
            subprocess.run(["mount", "-o", "remount,size=400m", str(small)], check=True)
            found = list(spark.exchange(spark_work.make_large_rows, *given))
        assert found == expected
        assert time.monotonic() - begun < 180
    finally:
        session.close_sessions()
        cluster.kill("worker-1")
        subprocess.run(["umount", "-l", str(small)], check=True)


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


OTHER_TASK = """
from pathlib import Path
from churn.foundation.spark.on_spark import OnSpark
from churn.foundation.spark.session import SparkPlace
from churn.foundation.spread import Here
from support import spark_work

spark = OnSpark(SparkPlace({place.master!r}, Path({conf_file!r}), {place.secret!r}), Here(1, "500MB"), 1)
print(list(spark.each(spark_work.square, range(2))), flush=True)
list(spark.each(spark_work.take_long, range(2)))
"""


def start_task(cluster: SparkCluster) -> subprocess.Popen[str]:
    """Another task, which uses all cores of the cluster for some minutes."""
    place = cluster.place()
    code = OTHER_TASK.format(place=place, conf_file=str(place.conf_file))
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[1])}
    task = subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment, text=True
    )
    assert task.stdout is not None
    assert task.stdout.readline() == "[0, 1]\n"
    time.sleep(3)
    assert count_executors(cluster) == 2
    return task


def test_a_task_waits_for_the_cores_that_another_one_uses(
    cluster: SparkCluster, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Longer than it would for executors that it has lost, but not without end."""
    caplog.set_level("INFO")
    monkeypatch.setattr(on_spark, "_GIVE_UP", 2.0)
    task = start_task(cluster)
    try:
        spark = OnSpark(cluster.place(), HERE, 1)
        threading.Timer(20, task.kill).start()
        assert list(spark.each(spark_work.square, range(2))) == [0, 1]
        assert task.wait(30) == -signal.SIGKILL
        assert "other applications use all cores" in caplog.text
    finally:
        task.kill()
        session.close_sessions()
    monkeypatch.setattr(on_spark, "_PATIENCE", 8.0)
    for name in ("worker-1", "worker-2"):
        cluster.kill(name)
    with pytest.raises(
        SparkUnavailable, match=r"for 8 s, no executor has been connected, because no worker is running"
    ):
        list(spark.each(spark_work.square, range(2)))


def test_java_that_is_killed_is_one_clear_error(cluster: SparkCluster) -> None:
    """As by the kernel, where memory is short: the step fails at once, and the task ends by itself."""
    task = start_task(cluster)
    (java,) = psutil.Process(task.pid).children()
    java.kill()
    _, said = task.communicate(timeout=60)
    assert task.returncode == 1
    assert "SparkUnavailable: The Spark application on" in said
    assert "has ended: its Java was killed, or someone ended it. Run the step again; nothing was lost." in said


KILLED_BEFORE = """
import os, signal
from pathlib import Path
from churn.foundation.ledger import Ledger, open_ledger
from churn.foundation.spark.on_spark import OnSpark
from churn.foundation.spark.session import SparkPlace
from churn.foundation.spread import Here
from churn.foundation.storage import Storage
import test_spark_faults as steps

setattr(Ledger, "{write}", lambda *_, **__: os.kill(os.getpid(), signal.SIGKILL))
spark = OnSpark(SparkPlace({place.master!r}, Path({conf_file!r}), {place.secret!r}), Here(1, "500MB"), 1)
steps.{step}(Storage.open("{folder}/data"), open_ledger("sqlite:///{folder}/ledger.db"), spark)
"""


def test_a_task_killed_between_the_parts_and_the_row_of_the_ledger_is_made_up_for(
    cluster: SparkCluster, tmp_path: Path
) -> None:
    """Of a batch, and of a snapshot: run again, the rows are those of an undisturbed run, each once."""
    expected = accept_and_snap(
        Storage.open(str(tmp_path / "other")), open_ledger(f"sqlite:///{tmp_path}/other.db"), HERE
    )
    storage, ledger = Storage.open(str(tmp_path / "data")), open_ledger(f"sqlite:///{tmp_path}/ledger.db")
    spark, place = OnSpark(cluster.place(), HERE, 1), cluster.place()
    environment = os.environ | {"PYTHONPATH": f"{Path(__file__).parents[1]}:{Path(__file__).parent}"}
    for step, write in (("accept", "judge_batch"), ("snap", "add_snapshot")):
        code = KILLED_BEFORE.format(
            place=place, conf_file=str(place.conf_file), write=write, step=step, folder=tmp_path
        )
        task = subprocess.run([sys.executable, "-c", code], env=environment, check=False, timeout=240)
        assert task.returncode == -signal.SIGKILL
        assert [name for name in storage.names("accepted" if step == "accept" else "snapshots") if "part-" in name]
        assert [batch.state for batch in ledger.batches()] == ["arrived" if step == "accept" else "accepted"]
        assert ledger.snapshots() == []
        found = accept(storage, ledger, spark) if step == "accept" else snap(storage, ledger, spark)
        session.close_sessions()
    assert found == expected
    assert find_losses(storage, ledger, hashes=True) == []
    assert [taken.snapshot for taken in ledger.snapshots()] == [expected]


def test_a_killed_task_ends_its_application(cluster: SparkCluster) -> None:
    """Its executors end soon after it, so that other applications can use the cores."""
    task = start_task(cluster)
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
