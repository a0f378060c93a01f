"""`make bench WHAT=intake`: how long intake and snapshot take against the fastest tool. Prints ratios; asserts nothing.

Every measurement is a process of its own, so that its peak memory is its own too, and the two sides of a ratio run
in turn. Everything is made in a temporary folder (`TMPDIR` moves it; 10 million rows need some 6 GB).

    make bench WHAT=intake                     10 thousand, 1 and 10 million rows
    make bench WHAT=intake ROWS="10000 1000000"
"""

from __future__ import annotations

import multiprocessing
import os
import resource
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pyarrow.parquet as pq
from rich.table import Table

from churn.contract import Kind
from churn.contracts.bank import BANK_CHURN as CONTRACT
from churn.foundation import columnar
from churn.foundation.ledger import open_ledger
from churn.foundation.paths import accepted, quarantined
from churn.foundation.records import Batch, BatchVerdict
from churn.foundation.sampling import Sampling
from churn.foundation.spread import Here
from churn.foundation.storage import Storage
from churn.intake import validation
from churn.intake.acceptance import accept_batch
from churn.intake.arrival import collect_arrivals, keep_original
from churn.intake.judged_rows import batch_number
from churn.intake.judging import judge_rows
from churn.intake.reading import open_file
from churn.intake.table_rules import IntakeLimits
from churn.learning.snapshot import take_snapshot
from churn.sample.fault_injection import cell_faults, plant_faults, record_faults
from churn.sample.generator import Night, make_night
from reporting import console, say
from support.basics import s3_server

CHUNK = 200_000
FILES, CUSTOMERS = 30, 0.7
SALT = b"a salt for the bench only"
BATCHES = 10_000


@dataclass(frozen=True)
class Measured:
    """Seconds of the work, imports apart, and the peak memory of its process in GB."""

    seconds: float
    memory: float


# The work, each in a process of its own ------------------------------------------------------------


@contextmanager
def timed(result: Any) -> Iterator[None]:
    began = time.perf_counter()
    yield
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    result.put(Measured(time.perf_counter() - began, peak))


def plain_copy(result: Any, file: str, folder: str) -> None:
    """The floor: DuckDB's own CSV to Parquet, no checks."""
    with timed(result), columnar.engine("1GB") as connection:
        connection.execute(f"COPY (SELECT * FROM read_csv('{file}')) TO '{folder}/plain.parquet'")  # noqa: S608


def intake(result: Any, file: str, folder: str) -> None:
    """From a file to its hash, its original, accepted and quarantined rows; GX apart."""
    storage = Storage.open(folder)
    (Path(folder) / "landing").mkdir(parents=True)
    os.link(file, f"{folder}/landing/batch.csv")
    with timed(result), columnar.engine("1GB") as connection, storage.scratch() as scratch:
        batch, _ = keep_original(storage, "landing/batch.csv")
        with storage.reading(f"originals/{batch}") as stream:
            opened = open_file(stream)
            opened.check(CONTRACT)
            judged = judge_rows(connection, opened, batch, CONTRACT, scratch)
        storage.move_in(judged.good, accepted(batch))
        storage.move_in(judged.aside, quarantined(batch))


def suite(result: Any, file: str) -> None:
    """The GX suite on typed data; reading it apart, but in its memory."""
    validation.judge("warm", {"rows": (_frame(file).head(100), validation.row_expectations(CONTRACT))}, [], _docs())
    frame = _frame(file)
    with timed(result):
        verdict = validation.judge("bench", {"rows": (frame, validation.row_expectations(CONTRACT))}, [], _docs())
    if not verdict.passed:
        raise SystemExit(f"the suite fails: {verdict.failures}")


def hand_written(result: Any, file: str) -> None:
    """The same rules on the same frame, written manually."""
    frame = _frame(file)
    with timed(result):
        holds = True
        for column in CONTRACT.columns:
            values = frame[column.name]
            holds &= not values.isna().any()
            if column.minimum is not None:
                holds &= bool((values >= column.minimum).all())
            if column.maximum is not None:
                holds &= bool((values <= column.maximum).all())
            if column.categories:
                holds &= bool(values.isin(column.categories).all())
            if column.kind is Kind.INTEGER:
                holds &= values.dtype == np.int64
        for relation in CONTRACT.relations:
            holds &= bool((frame[relation.greater] >= frame[relation.lesser]).all())
        holds &= frame[CONTRACT.key.name].is_unique
    if not holds:
        raise SystemExit("the rows are not clean")


def bare_latest(result: Any, folder: str, bucket: bool) -> None:
    """The floor of a snapshot: the query alone, from Parquet to Parquet; with or without the keyed hash."""
    inner, outer = columnar.hmac_pads(SALT)
    hashed = "sha256($outer || unhex(sha256($inner || encode(CAST(CustomerId AS VARCHAR)))))"
    more = f", CAST(CAST('0x' || substr({hashed}, 1, 8) AS UBIGINT) % 100 AS INTEGER) AS _bucket" if bucket else ""
    with timed(result), columnar.engine("4GB") as connection:
        connection.execute(
            f"""COPY (SELECT *{more} FROM read_parquet('{folder}/accepted/*.parquet')
            QUALIFY row_number() OVER (PARTITION BY CustomerId ORDER BY _batch DESC, _line DESC) = 1)
            TO '{folder}/bare.parquet'""",  # noqa: S608
            {"inner": inner, "outer": outer} if bucket else {},
        )


def snapshot(result: Any, url: str, ledger: str, limit: str) -> None:
    """A whole snapshot: latest rows, buckets, order, content hash, the file, the ledger."""
    with timed(result):
        take_snapshot(Storage.open(url), open_ledger(ledger), CONTRACT, Sampling(SALT, Here(2, limit)))


def whole_intake(result: Any, file: str, folder: str) -> None:
    """All of intake of one batch, GX and its pages included; a first batch pays for what is loaded once."""
    for name, source in (("warm", make_night(CONTRACT, Night(500, 1, 1))), ("batch", Path(file).read_text())):
        storage, ledger = Storage.open(f"{folder}/{name}"), open_ledger(f"sqlite:///{folder}/{name}.db")
        with storage.writing("landing/batch.csv") as stream:
            stream.write(source.encode())
        began = time.perf_counter()
        for batch in collect_arrivals(storage, ledger).batches:
            accept_batch(batch.batch, "night", storage, ledger, CONTRACT, IntakeLimits(0.05, Here(2, "1GB")))
        seconds = time.perf_counter() - began
    result.put(Measured(seconds, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6))


def nothing_arrived(result: Any, folder: str, ledger: str) -> None:
    """The decision that there is nothing to do, with many batches known and trained on."""
    from churn.errors import NothingToDo
    from churn.pipeline.steps import arrive
    from churn.pipeline.workspace import Request, Workspace
    from churn.settings import Settings

    settings = Settings(data_root=folder, ledger_url=ledger, bucket_salt=SALT.decode())
    Workspace.open(settings)
    with timed(result):
        try:
            arrive(Workspace.open(settings), Request("night"))
        except NothingToDo:
            return
    raise SystemExit("there was something to do")


# The tables ----------------------------------------------------------------------------------------


def main() -> None:
    """Measure, print, and leave nothing behind."""
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    sizes = [int(rows) for rows in sys.argv[1:]] or [10_000, 1_000_000, 10_000_000]
    table = Table("what", "rows", "goal", "ratio", "seconds", "floor", "peak memory", title=f"{os.cpu_count()} cores")
    with tempfile.TemporaryDirectory(prefix="churn-bench-") as folder:
        home = Path(folder)
        for rows in sizes:
            _bench_files(table, home, rows)
        _bench_snapshot(table, home, max(sizes))
        _bench_small(table, home)
    console.print(table)


def _bench_files(table: Table, home: Path, rows: int) -> None:
    rounds = 5 if rows <= 1_000_000 else 3
    clean, faulty = home / f"clean-{rows}.csv", home / f"faulty-{rows}.csv"
    say(f"{rows:,} rows: making the files")
    _write(clean, rows, 0.0)
    _write(faulty, rows, 0.01)
    say(f"{rows:,} rows: clean, against DuckDB's plain copy")
    ours, floor = paired(rounds, home, lambda at: (intake, str(clean), at), lambda at: (plain_copy, str(clean), at))
    add(table, "clean CSV to accepted + quarantine, GX apart", rows, "<= 2" if rows > 10_000 else "", ours, floor)
    say(f"{rows:,} rows: 1 % faulty, against clean")
    ours, floor = paired(rounds, home, lambda at: (intake, str(faulty), at), lambda at: (intake, str(clean), at))
    add(table, "1 % faulty rows of all kinds, against clean", rows, "<= 1.3", ours, floor)
    say(f"{rows:,} rows: GX compared with manual checks")
    with tempfile.TemporaryDirectory(dir=home) as at:
        run(intake, str(clean), f"{at}/data")
        (good,) = Path(at, "data/accepted").iterdir()
        ours, floor = paired(rounds, home, lambda _: (suite, str(good)), lambda _: (hand_written, str(good)))
    add(table, "GX suite compared with manual checks; without reading", rows, "<= 3, <= 3 GB", ours, floor)
    clean.unlink()
    faulty.unlink()


def _bench_snapshot(table: Table, home: Path, rows: int) -> None:
    say(f"snapshot over {FILES} files, {rows:,} rows")
    root, ledger = home / "snapshot", f"sqlite:///{home}/snapshot.db"
    _accepted_files(root, ledger, rows)
    what = f"snapshot, {FILES} files"

    def ours(url: str, limit: str) -> Callable[[str], tuple[Any, ...]]:
        def work(_: str) -> tuple[Any, ...]:
            shutil.rmtree(root / "snapshots", ignore_errors=True)
            return (snapshot, url, ledger, limit)

        return work

    for bucket, named in ((True, "latest row + keyed hash"), (False, "latest row alone")):
        runs = paired(3, home, ours(str(root), "4GB"), lambda _, bucket=bucket: (bare_latest, str(root), bucket))  # type: ignore[misc]
        add(table, f"{what}, against the bare query ({named})", rows, "<= 1.5", *runs)
    add(table, f"{what}, 1 GB limit", rows, "finishes", [run(*ours(str(root), "1GB")(""))], None)
    with s3_server(home) as s3:
        os.environ |= s3.environment
        url = f"s3://{s3.bucket}/snapshot"
        storage = Storage.open(url)
        for file in (root / "accepted").iterdir():
            storage.put(file, f"accepted/{file.name}")
        add(table, f"{what}, on S3, 1 GB limit", rows, "finishes", [run(snapshot, url, ledger, "1GB")], None)
    shutil.rmtree(root)


def _bench_small(table: Table, home: Path) -> None:
    say("a small batch, and nothing")
    file = home / "small.csv"
    _write(file, 10_000, 0.01)
    runs = [run(whole_intake, str(file), tempfile.mkdtemp(dir=home)) for _ in range(3)]
    add(table, "all of intake of one batch, imports apart", 10_000, "<= 1.5 s", runs, None)
    ledger = f"sqlite:///{home}/many.db"
    _known_batches(ledger)
    (home / "many/landing").mkdir(parents=True)
    runs = [run(nothing_arrived, str(home / "many"), ledger) for _ in range(3)]
    add(table, f"nothing arrived, {BATCHES:,} batches known", 0, "<= 1 s", runs, None)


def paired(
    rounds: int, home: Path, ours: Callable[[str], tuple[Any, ...]], floor: Callable[[str], tuple[Any, ...]]
) -> tuple[list[Measured], list[Measured]]:
    """Both sides in turn, each in a fresh folder."""
    runs: tuple[list[Measured], list[Measured]] = ([], [])
    for _ in range(rounds):
        for side, work in zip(runs, (ours, floor), strict=True):
            with tempfile.TemporaryDirectory(dir=home) as at:
                side.append(run(*work(at)))
    return runs


def run(work: Callable[..., None], *arguments: Any) -> Measured:
    """Do the work in a process of its own."""
    context = multiprocessing.get_context("spawn")
    result = context.Queue()
    process = context.Process(target=work, args=(result, *arguments))
    process.start()
    process.join()
    if process.exitcode:
        raise SystemExit(f"{work.__name__} ended with {process.exitcode}")
    measured: Measured = result.get()
    return measured


def add(table: Table, what: str, rows: int, goal: str, ours: list[Measured], floor: list[Measured] | None) -> None:
    """One line: the median of the ratios pair by pair, and the medians of both sides."""
    ratio = statistics.median(a.seconds / b.seconds for a, b in zip(ours, floor, strict=True)) if floor else None
    seconds = statistics.median(measured.seconds for measured in ours)
    table.add_row(
        what,
        f"{rows:,}" if rows else "",
        goal,
        f"{ratio:.2f}" if ratio else "",
        f"{seconds:.2f}",
        f"{statistics.median(measured.seconds for measured in floor):.2f}" if floor else "",
        f"{max(measured.memory for measured in ours):.2f} GB",
    )


# What is measured on -------------------------------------------------------------------------------


def _write(file: Path, rows: int, faulty: float) -> None:
    """A file of the contract, a piece at a time; faults of all kinds, each as often."""
    faults = [*cell_faults(CONTRACT), *record_faults(CONTRACT)]
    with file.open("wb") as stream:
        for first in range(0, rows, CHUNK):
            count = min(CHUNK, rows - first)
            text = make_night(CONTRACT, Night(count, first_customer=first + 1, seed=first // CHUNK))
            chosen = np.linspace(0, count - 1, int(count * faulty)).astype(int).tolist()
            data, _ = plant_faults(text, CONTRACT, [faults[at % len(faults)] for at in range(len(chosen))], chosen)
            stream.write(data if not first else data.split(b"\n", 1)[1])


def _accepted_files(root: Path, ledger_url: str, rows: int) -> None:
    """Files of accepted rows in which customers come again."""
    (root / "accepted").mkdir(parents=True)
    customers, ledger = int(rows * CUSTOMERS), open_ledger(ledger_url)
    each = rows // FILES
    for number in range(FILES):
        batch = f"{number + 1:064x}"[::-1]
        text = make_night(CONTRACT, Night(min(each, CHUNK), first_customer=1, seed=number))
        source = root / "part.csv"
        source.write_text(text)
        # Customers of a file are distinct, and each file has a stretch of its own that overlaps with others.
        duckdb.sql(
            f"""COPY (SELECT * REPLACE (((r * {each} + CustomerId + {number * (customers - each) // (FILES - 1)}) % {customers} + 1)::BIGINT
            AS CustomerId), (r * {each} + row_number() OVER ())::BIGINT AS _line, {batch_number(batch)}::BIGINT AS _batch
            FROM read_csv('{source}'), range({max(1, each // CHUNK)}) AS t(r)) TO '{root / accepted(batch)}' (COMPRESSION snappy)"""  # noqa: S608
        )
        source.unlink()
        count = pq.read_metadata(root / accepted(batch)).num_rows
        ledger.add_batch(batch, f"{number}.csv", 1, datetime(2026, 1, 1, tzinfo=UTC) + timedelta(days=number))
        ledger.judge_batch(batch, "night", BatchVerdict("accepted", count, count, 0))


def _known_batches(ledger_url: str) -> None:
    """A ledger that has seen many nights, and trained on all of them."""
    import sqlalchemy as sa

    from churn.foundation.records import DecisionRecord, Snapshot
    from churn.foundation.schema import batches

    ledger, now = open_ledger(ledger_url), datetime(2026, 1, 1, tzinfo=UTC)
    hashes = [f"{number:064x}" for number in range(BATCHES)]
    empty = dict.fromkeys(Batch.__dataclass_fields__, None)
    rows = [
        empty
        | {"batch": name, "arrival": at, "name": f"{at}.csv", "size": 1, "state": "accepted", "arrived_at": now}
        | {"arrived_rows": 10, "accepted_rows": 10, "quarantined_rows": 0, "events": 2, "rules": [], "warnings": []}
        for at, name in enumerate(hashes)
    ]
    with sa.create_engine(ledger_url).begin() as connection:
        connection.execute(batches.insert(), rows)
    ledger.add_snapshot(Snapshot("s" * 64, 1, 1, 1, hashes, "salt", CONTRACT.fingerprint, now))
    ledger.add_decision(
        DecisionRecord("n", "churn", 1, None, "s" * 64, "hold", "X", "x", [], {}, "", False, None, "r", now)
    )


def _frame(file: str) -> Any:
    return validation.accepted_frame(Path(file), CONTRACT)


def _docs() -> Path:
    return Path(tempfile.mkdtemp(prefix="churn-bench-docs-"))


if __name__ == "__main__":
    main()
