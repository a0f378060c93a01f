"""Data work on a real Spark cluster of two workers gives what one machine gives, and hides what must stay hidden."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from concurrent.futures import Future
from dataclasses import replace
from functools import partial
from pathlib import Path

import pandas as pd
import pytest
from s3fs import S3FileSystem

from churn.contracts.bank import BANK_CHURN
from churn.decision.evidence_parts import DrawnCustomers, read_facts, score_customers
from churn.errors import ChurnError
from churn.foundation.ledger import open_ledger
from churn.foundation.parts import digest_files, part_names, read_manifest
from churn.foundation.paths import ACCEPTED, ORIGINALS, UNFINISHED, accepted, quarantined
from churn.foundation.records import Snapshot
from churn.foundation.sampling import Sampling
from churn.foundation.spark import executors, session
from churn.foundation.spark.on_spark import OnSpark, require_results
from churn.foundation.spark.session import SparkMissing, SparkPlace, SparkUnavailable, read_conf, require_java
from churn.foundation.spread import Here, Spread
from churn.foundation.storage import Storage
from churn.intake import judged_rows
from churn.intake.acceptance import accept_batch
from churn.intake.arrival import collect_arrivals
from churn.intake.audit import find_losses
from churn.intake.table_rules import IntakeLimits
from churn.learning.snapshot import take_snapshot
from churn.learning.unseen import Unseen
from support import spark_work
from support.basics import S3, small_file
from support.spark_cluster import SparkCluster, shared_cluster, why_not

pytestmark = pytest.mark.skipif(why_not() is not None, reason=str(why_not()))
HERE = Here(2, "500MB")
SALT = b"a salt that nobody must see"
PART = 20_000  # bytes


@pytest.fixture(scope="module")
def cluster() -> SparkCluster:
    return shared_cluster()


@pytest.fixture(scope="module")
def spark(cluster: SparkCluster) -> Iterator[OnSpark]:
    yield OnSpark(cluster.place(), HERE, least=1)
    session.close_sessions()


def compute(spread: Spread, root: str, folder: Path) -> dict[str, object]:
    """Two files through intake, comparison with the history, snapshot, scoring of unseen customers, and audit: all counts and hashes."""
    folder.mkdir(exist_ok=True)
    storage = Storage.open(root, many_machines=not isinstance(spread, Here))
    ledger = open_ledger(f"sqlite:///{folder}/ledger.db")
    limits = IntakeLimits(max_rejected_share=0.5, spread=spread, max_disputed_share=1.0, part_size=PART, salt=SALT)
    found: dict[str, object] = {}
    for number, text in enumerate(FILES):
        with storage.writing(f"landing/night-{number}.csv") as stream:
            stream.write(text.encode())
        (arrived,) = collect_arrivals(storage, ledger, part_size=PART).batches
        batch = accept_batch(arrived.batch, "night", storage, ledger, BANK_CHURN, limits)
        snapshot = take_snapshot(storage, ledger, BANK_CHURN, Sampling(SALT, spread))
        aside = read_manifest(storage, quarantined(batch.batch))
        assert aside is not None
        found[batch.batch] = [
            (batch.arrived_rows, batch.accepted_rows, batch.quarantined_rows, batch.rules),
            (batch.accepted_sha256, batch.quarantined_sha256, len(part_names(storage, accepted(batch.batch)))),
            (snapshot.snapshot, snapshot.rows, snapshot.holdout_rows),
            (batch.warnings, ledger.drift(batch.batch)),
            score_unseen(storage, snapshot, spread),
        ]
    files = storage.names(ORIGINALS) + storage.names(ACCEPTED)
    digest_of = digest_files(storage, [name for name in files if not name.endswith(".json")], spread)
    assert find_losses(storage, ledger, hashes=True, digest_of=digest_of) == []
    assert not [
        name for name in storage.names(UNFINISHED) if name != UNFINISHED
    ]  # an emptied folder of SeaweedFS is listed
    return found


def score_unseen(storage: Storage, snapshot: Snapshot, spread: Spread) -> tuple[list[int], list[int], list[float]]:
    """The numbers of the unseen customers, how many each part has, and their scores."""
    with storage.scratch() as scratch:
        unseen = Unseen.of(storage, snapshot, BANK_CHURN, scratch, spread)
        customers = DrawnCustomers(unseen, SALT, 0.8, "200MB", scratch)
        facts = read_facts(customers, None, spread)
        scores = score_customers(customers, spark_work.ByBalance(), None, spread, "Scoring")
    return [number for part in facts for number in part["_customer"]], [len(part) for part in facts], scores.tolist()


def _with_repeats(text: str, rows: int) -> str:
    """The file, and once more some of its first rows, with another balance in half of them: repeats in other parts."""
    header, *lines = text.splitlines()
    again = [line if number % 2 else line.replace(",1,", ",0,", 1) for number, line in enumerate(lines[:rows])]
    return "\n".join([header, *lines, *again, ""])


FILES = (_with_repeats(small_file(1500, faults=40, seed=1), 60), small_file(900, faults=10, seed=2))


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, object]:
    """What one machine computes."""
    folder = tmp_path_factory.mktemp("here")
    return compute(HERE, str(folder / "data"), folder)


def test_results_come_in_the_order_of_parts_and_receivers(spark: OnSpark) -> None:
    """Also those of receivers that get no row."""
    assert list(spark.each(spark_work.square, range(7))) == [number * number for number in range(7)]
    given = [spark_work.make_rows, [0, 1, 2], spark_work.SCHEMA, 5, spark_work.keep_rows]
    assert list(spark.exchange(*given)) == list(HERE.exchange(*given))


def test_all_stages_used_both_executors(spark: OnSpark, cluster: SparkCluster) -> None:
    """By Spark's event log."""
    opened, begun = session.open_session(spark.place), time.monotonic()
    while session.count_executors(opened) < 2:
        assert time.monotonic() - begun < 60
        time.sleep(0.1)
    list(spark.exchange(spark_work.make_rows_slowly, range(8), spark_work.SCHEMA, 8, spark_work.keep_rows_slowly))
    application = session.opened_session(opened).application
    logs = [file for file in cluster.events.rglob("events_*") if application in file.name]
    lines = [line for log in logs for line in log.read_text().splitlines()]
    ends = [event for line in lines if (event := json.loads(line))["Event"] == "SparkListenerTaskEnd"]
    last = sorted({end["Stage ID"] for end in ends})[-2:]
    for stage in last:
        assert len({end["Task Info"]["Executor ID"] for end in ends if end["Stage ID"] == stage}) == 2


def test_an_error_of_a_part_is_raised_as_it_is(spark: OnSpark) -> None:
    """In `each`, and among the senders of an exchange, whose rows are then used by nobody."""
    with pytest.raises(ChurnError, match="second part is damaged"):
        list(spark.each(spark_work.refuse_two, range(4)))
    with pytest.raises(ChurnError, match="second part is damaged"):
        list(spark.exchange(spark_work.make_damaged_rows, range(4), spark_work.SCHEMA, 2, spark_work.keep_rows))


def test_intake_and_snapshot_are_those_of_one_machine(
    spark: OnSpark, undisturbed: dict[str, object], tmp_path: Path
) -> None:
    """In a folder that all machines see: the same rows, rules, counts, verdicts and hashes, in several parts."""
    assert compute(spark, str(tmp_path / "data"), tmp_path) == undisturbed


def test_and_on_s3_where_nothing_but_the_store_is_shared(
    spark: OnSpark,
    undisturbed: dict[str, object],
    tmp_path: Path,
    s3: S3,
    monkeypatch: pytest.MonkeyPatch,
    cluster: SparkCluster,
) -> None:
    """The salt, the keys of the store and the cluster's secret are in no file and on no command line of Spark."""
    for name, value in s3.environment.items():
        monkeypatch.setenv(name, value)
    S3FileSystem.clear_instance_cache()
    monkeypatch.setattr(Storage, "open", partial(open_with_keys, s3))
    monkeypatch.setattr(judged_rows, "given", _refuse)  # the task reads no file of judged rows
    assert compute(spark, f"s3://{s3.bucket}/{tmp_path.name}", tmp_path) == undisturbed
    hidden = [SALT, s3.secret.encode(), cluster.secret.encode()]
    files = [file for file in cluster.folder.rglob("*") if file.is_file() and file.suffix != ".jar"]
    assert any("events" in file.parts for file in files)
    for file in files:
        content = file.read_bytes()
        assert not [secret for secret in hidden if secret in content], file
    for command in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            said = command.read_bytes()
        except OSError:  # it has ended meanwhile
            continue
        assert not [secret for secret in hidden if secret in said], said


def _refuse(file: Path) -> Path:
    raise AssertionError(f"The task fetches {file.name}.")


def open_with_keys(s3: S3, url: str, fs: object = None, many_machines: bool = False) -> Storage:
    """Open a data root as a task does: with keys of its own, which the executors' environment does not have."""
    if url.startswith("s3://"):
        fs = S3FileSystem(key=s3.key, secret=s3.secret, endpoint_url=s3.endpoint)
    else:
        from fsspec.implementations.local import LocalFileSystem

        return Storage(LocalFileSystem(), url.rstrip("/"), many_machines)
    return Storage(fs, url.removeprefix("s3://"), many_machines)


def test_a_killed_executor_changes_nothing(spark: OnSpark, tmp_path: Path) -> None:
    """Ended as by the kernel while it works on a part, while it sends rows, and while it receives them."""
    assert list(spark.each(partial(spark_work.square_after_kill, tmp_path), range(6))) == [0, 1, 4, 9, 16, 25]
    make, keep = (
        partial(work, tmp_path) for work in (spark_work.make_rows_after_kill, spark_work.keep_rows_after_kill)
    )
    received = list(spark.exchange(make, [0, 1, 2], spark_work.SCHEMA, 5, keep))
    assert received == list(HERE.exchange(spark_work.make_rows, [0, 1, 2], spark_work.SCHEMA, 5, spark_work.keep_rows))
    assert {mark.name for mark in tmp_path.iterdir()} == {"each", "make", "keep"}


def test_executors_of_another_version_refuse(spark: OnSpark, monkeypatch: pytest.MonkeyPatch) -> None:
    """Their results could differ."""
    other = replace(executors.Identity.here(), duckdb="0.9.2", code="0" * 16)
    monkeypatch.setattr("churn.foundation.spark.on_spark.Identity.here", lambda: other)
    with pytest.raises(executors.OtherCode, match=r"has duckdb .* instead of 0\.9\.2, code .* instead of 0{16}"):
        list(spark.each(spark_work.square, range(3)))


def test_libraries_of_models_that_are_not_installed_are_no_obstacle(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only the standard ones are always there; another version of one is another identity."""
    monkeypatch.setattr(executors, "_OF_MODELS", ("pandas", "never-installed"))
    assert executors.Identity.here().models == f"pandas {pd.__version__}"


def test_little_work_and_work_that_cannot_leave_stay_here(
    spark: OnSpark, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """They need no session."""
    monkeypatch.setattr("churn.foundation.spark.on_spark.open_session", None)
    assert list(replace(spark, least=3).each(spark_work.square, [2, 3])) == [4, 9]
    assert list(spark.each(lambda part: part + 1, [1, 2, 3])) == [2, 3, 4]
    assert "done on the machine of the task" in caplog.text


def test_no_java_and_no_master_are_one_clear_error(
    cluster: SparkCluster, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Each says what to install or start."""
    require_java.cache_clear()
    monkeypatch.setenv("JAVA_HOME", str(tmp_path))
    with pytest.raises(SparkMissing, match="apt-get install openjdk-17-jre-headless"):
        require_java()
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin/java").write_text("#!/bin/sh\necho 'openjdk version \"1.8.0_402\"' >&2\n")
    (tmp_path / "bin/java").chmod(0o755)
    with pytest.raises(SparkMissing, match=r"needs Java 17, and .* is Java 8"):
        require_java()
    monkeypatch.delenv("JAVA_HOME")
    with pytest.raises(SparkUnavailable, match=r"master spark://127.0.0.1:9 does not answer.*CHURN_SPREAD=here"):
        list(OnSpark(SparkPlace("spark://127.0.0.1:9"), HERE, 1).each(spark_work.square, [1, 2]))


@pytest.mark.parametrize(
    "said",
    [
        "[PYTHON_VERSION_MISMATCH] Python in worker has different version",
        "ModuleNotFoundError: No module named 'churn'",
    ],
)
def test_executors_that_cannot_even_begin_have_another_version(said: str) -> None:
    """They fail in Spark's own code, before they compare anything."""
    ended: Future[list[int]] = Future()
    ended.set_exception(RuntimeError(f"Job aborted.\n{said}"))
    with pytest.raises(executors.OtherCode, match="another Python than the task, or not the product's code"):
        require_results(ended, (), 2)


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("spark.hadoop.fs.s3a.secret.key abc", "looks like a secret"),
        ("spark.executorEnv.AWS_SECRET_ACCESS_KEY=abc", "looks like a secret"),
        ("spark.executorEnv.AWS_ACCESS_KEY_ID abc", "looks like a secret"),
        ("spark.executorEnv.CHURN_BUCKET_SALT abc", "looks like a secret"),
        ("spark.executorEnv.CHURN_LEDGER_URL postgresql://churn:abc@db/churn", "looks like a secret"),
        ("spark.hadoop.fs.azure.account.key.bank.blob.core.windows.net abc", "looks like a secret"),
        ("spark.executor.extraJavaOptions -Djavax.net.ssl.keyStorePassword=abc", "looks like a secret"),
        ("spark.authenticate false", "always true"),
        ("spark.master spark://other:7077", "the master is CHURN_SPARK_MASTER"),
        ("executor.memory 1g", "name of a setting"),
        ("spark.executor.memory", "name of a setting"),
    ],
)
def test_settings_that_would_show_a_secret_or_change_a_result_are_refused(line: str, said: str, tmp_path: Path) -> None:
    """With the line of the file."""
    file = tmp_path / "spark.conf"
    file.write_text(f"# Ours\nspark.executor.cores = 2\n{line}\n")
    with pytest.raises(ChurnError, match=f"line 3: .*{said}"):
        read_conf(file)
    file.write_bytes(b"\xef\xbb\xbf# Ours\r\nspark.executor.cores = 2\r\n\r\nspark.driver.memory\t1g  \r\n")
    assert read_conf(file) == {"spark.executor.cores": "2", "spark.driver.memory": "1g"}


def test_settings_that_name_the_place_of_a_secret_are_taken(tmp_path: Path) -> None:
    """They show nothing."""
    file = tmp_path / "spark.conf"
    given = {
        "spark.kubernetes.executor.secretKeyRef.AWS_SECRET_ACCESS_KEY": "churn:secret",
        "spark.kubernetes.driver.secrets.churn": "/etc/secrets",
        "spark.kubernetes.authenticate.submission.oauthTokenFile": "/var/run/token",
    }
    file.write_text("".join(f"{name} {value}\n" for name, value in given.items()))
    assert read_conf(file) == given


def test_masters_are_read_as_spark_writes_them() -> None:
    """One, several for high availability, with IPv6; a wrong port is one clear error."""
    assert SparkPlace("spark://one").addresses == [("one", 7077)]
    assert SparkPlace("spark://one:7,two:8").addresses == [("one", 7), ("two", 8)]
    assert SparkPlace("spark://[::1]:7077").addresses == [("::1", 7077)]
    assert SparkPlace("local[*]").addresses == SparkPlace("k8s://https://host:443").addresses == []
    with pytest.raises(ChurnError, match="CHURN_SPARK_MASTER=spark://one:port has no right port"):
        _ = SparkPlace("spark://one:port").addresses


def test_one_of_several_masters_is_enough(cluster: SparkCluster) -> None:
    """The others wait for it to fail."""
    session.require_master(SparkPlace(f"spark://127.0.0.1:9,{cluster.place().master.removeprefix('spark://')}"))


def test_the_memory_of_an_executor_is_divided_among_its_cores(tmp_path: Path) -> None:
    """What it has beside Java's heap, less what Java and each Python process need anyway, and never more than the limit of the settings."""
    file = tmp_path / "spark.conf"

    def limit(more: str, of_settings: str = "1GB") -> str:
        file.write_text(more)
        return OnSpark(SparkPlace("spark://host", file), Here(2, of_settings)).engine_memory

    assert limit("") == "450000KB"
    assert limit("", "200MB") == "200000KB"
    assert limit("spark.executor.memoryOverhead 4g") == "1000000KB"
    assert limit("spark.executor.memoryOverhead 2048") == "1000000KB"
    assert limit("spark.executor.cores 4\nspark.executor.memoryOverhead 2000m") == "187500KB"
    assert limit("spark.executor.cores 4") == "100000KB"
    assert OnSpark(SparkPlace("local[4]"), Here(2, "2GB")).engine_memory == "500000KB"
    assert OnSpark(SparkPlace("local"), Here(2, "2GB")).engine_memory == "2000000KB"
    file.write_text("spark.executor.memory some")
    with pytest.raises(ChurnError, match=r"spark\.executor\.memory is some\. Write a number such as 512m"):
        SparkPlace("spark://host", file).require_sizes()
    file.write_bytes(b"\xff\xfe")
    with pytest.raises(ChurnError, match="is not a text in UTF-8"):
        read_conf(file)
    for wrong in ("spark.executor.cores two", "spark.executor.cores 0", "spark.executor.memoryOverhead some"):
        with pytest.raises(ChurnError, match=f"{wrong.split()[0]} is {wrong.split()[1]}. Write a number such as"):
            limit(wrong)


def test_the_digest_of_the_code_is_that_of_every_source_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A change of one of them is another version."""
    for name in ("__init__.py", "intake/judging.py"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("A = 1\n")
    monkeypatch.setattr(executors.churn, "__file__", str(tmp_path / "__init__.py"))
    digest = executors._code_digest.__wrapped__
    before = digest()
    (tmp_path / "intake/judging.py").write_text("A = 2\n")
    assert digest() != before
