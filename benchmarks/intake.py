"""`make bench WHAT=intake`: how long intake and snapshot take against the fastest tool. Prints ratios; asserts nothing.

Every measurement is a process of its own, and its memory is the peak of that process and its workers. The two sides of a
ratio run in turn. Everything is made in a temporary folder (`TMPDIR` moves it; 10 million rows need some 10 GB). If a size
fails, the lines before it are printed all the same, and the exit status is 1.

    make bench WHAT=intake                     10 thousand, 1 and 10 million rows
    make bench WHAT=intake ROWS="10000 1000000"
"""

from __future__ import annotations

import multiprocessing
import os
import shutil
import sqlite3
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import psutil
import pyarrow.parquet as pq
from joblib.externals.loky import get_reusable_executor
from rich.table import Table

from churn.contract import Kind
from churn.contracts.bank import BANK_CHURN as CONTRACT
from churn.foundation import columnar
from churn.foundation.ledger import Ledger, open_ledger
from churn.foundation.parts import WrittenPart, store_parts
from churn.foundation.paths import accepted, original, quarantined
from churn.foundation.sampling import Sampling
from churn.foundation.spread import Here, by_threads
from churn.foundation.storage import Storage
from churn.intake import validation
from churn.intake.acceptance import accept_batch
from churn.intake.arrival import collect_arrivals
from churn.intake.divided_file import divide_original
from churn.intake.division import PART_SIZE
from churn.intake.frames import Frame, Slice, read_frame
from churn.intake.judging import judge_rows
from churn.intake.reading import open_file
from churn.intake.table_rules import IntakeLimits, TableRule
from churn.learning.snapshot import take_snapshot
from churn.sample.generator import Night, make_night
from intake_data import BATCHES, FILES, accept_more, write_accepted_files, write_file, write_known_batches
from reporting import console, say
from support.basics import s3_server

FEWEST = 1_000_000
"""Rows from which there are goals for ratios."""
NIGHTLY = 10_000
SALT = b"a salt for the bench only"
MEMORY = "1GB"
GX_FIXED = 0.6
"""Seconds that a run of Great Expectations may take whatever the rows: its suites and its pages."""


@dataclass(frozen=True)
class Measured:
    """Seconds of the work, imports apart, and the peak memory of its process and its workers in GB."""

    seconds: float
    memory: float


class BenchFailed(Exception):  # noqa: N818 -- it says what happened
    """A measurement has no result."""


# The work, each in a process of its own ------------------------------------------------------------


@contextmanager
def timed(result: Any) -> Iterator[None]:
    began = time.perf_counter()
    yield
    result.put(time.perf_counter() - began)


def plain_copy(result: Any, file: str, folder: str) -> None:
    """The floor: DuckDB's own CSV to Parquet on all cores, no checks."""
    with timed(result), columnar.engine(MEMORY) as connection:
        connection.execute(f"COPY (SELECT * FROM read_csv('{file}')) TO '{folder}/plain.parquet'")  # noqa: S608


def intake(result: Any, file: str, folder: str, cores: int | None = None) -> None:
    """From a file in landing to its hash, its original, accepted and quarantined rows; GX and pages apart."""
    storage, ledger = _landed(file, folder)
    with timed(result), storage.scratch() as scratch:
        (batch,) = collect_arrivals(storage, ledger).batches
        with storage.reading(original(batch.batch)) as stream:
            opened = open_file(stream)
            opened.check(CONTRACT)
            divided = divide_original(storage, original(batch.batch), opened, scratch, PART_SIZE)
            judged = judge_rows(Here.of(cores, MEMORY), divided, batch.batch, CONTRACT, scratch)
        store_parts(storage, accepted(batch.batch), [part.good for part in judged.parts])
        store_parts(storage, quarantined(batch.batch), [part.aside for part in judged.parts])


def suite(result: Any, folder: str) -> None:
    """Great Expectations on accepted rows, from their files to the pages; what is loaded once has been loaded."""
    rule = TableRule("batch.rejected_share", True, 0.0, 0.0, 0.05)
    files = _parts(folder)
    spread = Here.of(None, MEMORY)
    parts, warm = [WrittenPart.of(file) for file in files], [WrittenPart.of(file) for file in _warm(files)]
    validation.judge_batch("0" * 64, warm, [rule], CONTRACT, _docs(), spread)
    with timed(result):
        verdict = validation.judge_batch("0" * 64, parts, [rule], CONTRACT, _docs(), spread)
    if not verdict.passed:
        raise SystemExit(f"the suite fails: {verdict.failures}")


def hand_written(result: Any, folder: str) -> None:
    """The same rules on the same rows in pandas, written manually, on all cores."""
    files, spread = _parts(folder), Here.of(None, MEMORY)
    with timed(result):
        checked = list(spread.each(by_threads(partial(_check_manually)), files))
        holds = all(clean for clean, _ in checked) and pd.concat([keys for _, keys in checked]).is_unique
    if not holds:
        raise SystemExit("the rows are not clean")


def _check_manually(file: Path) -> tuple[bool, pd.Series[Any]]:
    frame = read_frame(Frame((Slice(file, 0, pq.read_metadata(file).num_rows),)), CONTRACT.columns)
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
    return holds, frame[CONTRACT.key.name]


def _warm(files: list[Path]) -> list[Path]:
    """A few of the rows, as a file."""
    target = Path(tempfile.mkdtemp(prefix="churn-bench-warm-")) / "warm.parquet"
    pq.write_table(pq.ParquetFile(files[0]).read_row_group(0).slice(0, 100), target)
    return [target]


def _parts(folder: str) -> list[Path]:
    return sorted(Path(folder).glob("data/accepted/*/*.parquet"))


def _landed(file: str, folder: str) -> tuple[Storage, Ledger]:
    (Path(folder) / "data/landing").mkdir(parents=True)
    os.link(file, f"{folder}/data/landing/batch.csv")
    return Storage.open(f"{folder}/data"), open_ledger(f"sqlite:///{folder}/ledger.db")


def bare_latest(result: Any, folder: str, at: str, bucket: bool) -> None:
    """The floor of a snapshot: the query alone, from Parquet to Parquet; with or without the keyed hash."""
    inner, outer = columnar.hmac_pads(SALT)
    hashed = "sha256($outer || unhex(sha256($inner || encode(CAST(CustomerId AS VARCHAR)))))"
    more = f", CAST(CAST('0x' || substr({hashed}, 1, 8) AS UBIGINT) % 100 AS INTEGER) AS _bucket" if bucket else ""
    with timed(result), columnar.engine(MEMORY) as connection:
        connection.execute(
            f"""COPY (SELECT *{more} FROM read_parquet('{folder}/accepted/*/*.parquet')
            QUALIFY row_number() OVER (PARTITION BY CustomerId ORDER BY _batch DESC, _line DESC) = 1)
            TO '{at}/bare.parquet'""",  # noqa: S608
            {"inner": inner, "outer": outer} if bucket else {},
        )


def snapshot(result: Any, url: str, ledger: str) -> None:
    """A whole snapshot: latest rows, buckets, order, content hash, the files, the ledger."""
    with timed(result):
        take_snapshot(Storage.open(url), open_ledger(ledger), CONTRACT, Sampling(SALT, Here.of(None, MEMORY)))


def upload(result: Any, root: str, url: str) -> None:
    """Copy accepted rows to S3; in a process of its own, since clients remember the first endpoint."""
    storage = Storage.open(url)
    with timed(result):
        for file in Path(root, "accepted").rglob("*.*"):
            storage.put(file, str(file.relative_to(root)))


def whole_intake(result: Any, file: str, folder: str) -> None:
    """All of intake of one batch, GX and its pages included; a first batch pays for what is loaded once."""
    warm = Path(folder) / "warm.csv"
    warm.write_text(make_night(CONTRACT, Night(500, 1, 1)))
    _accept(str(warm), f"{folder}/warm")
    with timed(result):
        _accept(file, f"{folder}/batch")


def _accept(file: str, folder: str) -> None:
    storage, ledger = _landed(file, folder)
    for batch in collect_arrivals(storage, ledger).batches:
        accept_batch(batch.batch, "night", storage, ledger, CONTRACT, IntakeLimits(0.05, Here.of(None, MEMORY)))


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
    cores = Here.of(None, MEMORY).cores
    table = Table("what", "rows", "goal", "ratio", "seconds", "floor", "peak memory", title=f"{cores} cores")
    failed: list[str] = []
    with tempfile.TemporaryDirectory(prefix="churn-bench-") as folder:
        home = Path(folder)
        os.environ["TMPDIR"] = folder  # what a measurement leaves behind is deleted with the folder
        steps: list[tuple[str, Callable[[], None]]] = []
        for rows in sizes:
            steps += [(f"files of {rows:,} rows", partial(_bench_files, table, home, rows, cores))]
            steps += [(f"snapshots of {rows:,} rows", partial(_bench_snapshot, table, home, rows))] * (rows >= FEWEST)
        steps.append(("small batches", partial(_bench_small, table, home)))
        try:
            for what, step in steps:
                try:
                    step()
                except BenchFailed as failure:
                    failed.append(f"{what}: {failure}")
                    say(failed[-1])
        finally:
            console.print(table)
    if failed:
        raise SystemExit("\n".join(failed))


def _bench_files(table: Table, home: Path, rows: int, cores: int) -> None:
    rounds = 5 if rows <= FEWEST else 3
    clean, faulty = home / f"clean-{rows}.csv", home / f"faulty-{rows}.csv"
    say(f"{rows:,} rows: making the files")
    write_file(clean, rows, 0.0)
    write_file(faulty, rows, 0.01)
    large = rows >= FEWEST
    try:
        say(f"{rows:,} rows: clean, against DuckDB's plain copy")
        ours, floor = paired(rounds, home, lambda at: (intake, str(clean), at), lambda at: (plain_copy, str(clean), at))
        add(
            table,
            "clean CSV to accepted + quarantine, to DuckDB's plain copy",
            rows,
            "<= 2, <= 1 GB" * large,
            ours,
            floor,
        )
        say(f"{rows:,} rows: 1 % faulty, against clean")
        ours, floor = paired(rounds, home, lambda at: (intake, str(faulty), at), lambda at: (intake, str(clean), at))
        add(table, "the same with 1 % faulty rows of all kinds, to clean", rows, "<= 1.3" * large, ours, floor)
        say(f"{rows:,} rows: GX compared with manual checks")
        with tempfile.TemporaryDirectory(dir=home) as at:
            run(intake, str(clean), at)
            ours, floor = paired(rounds, home, lambda _: (suite, at), lambda _: (hand_written, at))
        what = f"GX on accepted rows, to manual checks on all cores, after {GX_FIXED} s"
        add(table, what, rows, "<= 3, <= 1 GB" * large, ours, floor, fixed=GX_FIXED)
        if cores > 1 and large:
            say(f"{rows:,} rows: one core against all")
            ours, floor = paired(3, home, lambda at: (intake, str(clean), at, 1), lambda at: (intake, str(clean), at))
            add(table, f"intake on one core, to {cores}", rows, ">= 1.7" if cores == 2 else "", ours, floor)
        say(f"{rows:,} rows: all of intake")
        runs = [_whole(faulty, home) for _ in range(3)]
        add(table, "all of intake of one batch, imports apart", rows, "<= 1 GB" if large else "<= 1.5 s", runs, None)
    finally:
        clean.unlink()
        faulty.unlink()


def _whole(file: Path, home: Path) -> Measured:
    with tempfile.TemporaryDirectory(dir=home) as at:
        return run(whole_intake, str(file), at)


def _bench_snapshot(table: Table, home: Path, rows: int) -> None:
    say(f"snapshot over {FILES} files, {rows:,} rows")
    root, database = home / "snapshot", home / "snapshot.db"
    try:
        write_accepted_files(root, f"sqlite:///{database}", rows)
        what = f"snapshot, {FILES} files"

        def full(at: str) -> tuple[Any, ...]:
            """From a ledger that knows no snapshot."""
            shutil.rmtree(root / "snapshots", ignore_errors=True)
            return (snapshot, str(root), _copied(database, at))

        floor: Callable[[str], tuple[Any, ...]]
        for hashed, named, goal in ((True, "latest row + keyed hash", "<= 1.2"), (False, "latest row alone", "")):
            floor = partial(_bare, root, hashed)
            add(table, f"{what}, in full, to the bare query ({named})", rows, goal, *paired(3, home, full, floor))
        with tempfile.TemporaryDirectory(dir=home) as store, s3_server(Path(store)) as s3:
            os.environ |= s3.environment
            run(upload, str(root), f"s3://{s3.bucket}/snapshot")
            with tempfile.TemporaryDirectory(dir=home) as at:
                runs = [run(snapshot, f"s3://{s3.bucket}/snapshot", _copied(database, at))]
            add(table, f"{what}, in full, on S3", rows, "finishes", runs, None)
        base = home / "base.db"
        with tempfile.TemporaryDirectory(dir=home) as at:
            run(*full(at))
            _copied(Path(at, "ledger.db"), at=str(home))
        (home / "ledger.db").rename(base)
        accept_more(root, [f"sqlite:///{database}", f"sqlite:///{base}"], FILES, NIGHTLY, rows)
        kept = home / "kept"
        shutil.copytree(root / "snapshots", kept)

        def nightly(at: str) -> tuple[Any, ...]:
            """From the snapshot of the night before."""
            shutil.rmtree(root / "snapshots", ignore_errors=True)
            shutil.copytree(kept, root / "snapshots")
            return (snapshot, str(root), _copied(base, at))

        what = f"nightly snapshot with {NIGHTLY:,} new rows, to the full one"
        add(table, what, rows, "<= .3", *paired(3, home, nightly, full))
    finally:
        for left in (root, home / "kept"):
            shutil.rmtree(left, ignore_errors=True)
        for file in home.glob("*.db*"):
            file.unlink()


def _bare(root: Path, hashed: bool, at: str) -> tuple[Any, ...]:
    return (bare_latest, str(root), at, hashed)


def _copied(database: Path, at: str) -> str:
    """Copy a ledger."""
    with closing(sqlite3.connect(database)) as source, closing(sqlite3.connect(f"{at}/ledger.db")) as target:
        source.backup(target)  # with what is still in its log
    return f"sqlite:///{at}/ledger.db"


def _bench_small(table: Table, home: Path) -> None:
    say("nothing arrived")
    ledger = f"sqlite:///{home}/many.db"
    write_known_batches(ledger)
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
    """Do the work in a process of its own.

    Raises:
        BenchFailed: it failed.
    """
    context = multiprocessing.get_context("spawn")
    result = context.Queue()
    process = context.Process(target=_do_and_end, args=(work, result, *arguments))
    process.start()
    peak = 0
    while process.is_alive():
        peak = max(peak, _memory(process.pid))
        process.join(0.1)  # looking at all processes of the machine takes milliseconds
    if process.exitcode:
        raise BenchFailed(f"{work.__name__} ended with {process.exitcode}")
    return Measured(result.get(), peak / 1e9)


def _do_and_end(work: Callable[..., None], result: Any, *arguments: Any) -> None:
    """Do the work, and end its idle worker processes, which would otherwise be waited for, for minutes."""
    work(result, *arguments)
    get_reusable_executor(kill_workers=True).shutdown()


def _memory(pid: int | None) -> int:
    """Bytes of memory of a process and its workers. What they share is counted for each."""
    try:
        parent = psutil.Process(pid)
        processes = [parent, *parent.children(recursive=True)]
    except psutil.NoSuchProcess:
        return 0
    total = 0
    for process in processes:
        with suppress(psutil.NoSuchProcess):
            total += process.memory_info().rss
    return total


def add(
    table: Table,
    what: str,
    rows: int,
    goal: str,
    ours: list[Measured],
    floor: list[Measured] | None,
    fixed: float = 0.0,
) -> None:
    """One line: the median of the ratios pair by pair, and the medians of both sides; `fixed` seconds of ours are left out."""
    ratio = (
        statistics.median(max(0.0, a.seconds - fixed) / b.seconds for a, b in zip(ours, floor, strict=True))
        if floor
        else None
    )
    seconds = statistics.median(measured.seconds for measured in ours)
    line = (
        what,
        f"{rows:,}" if rows else "",
        goal,
        f"{ratio:.2f}" if ratio is not None else "",
        f"{seconds:.2f}",
        f"{statistics.median(measured.seconds for measured in floor):.2f}" if floor else "",
        f"{max(measured.memory for measured in ours):.2f} GB",
    )
    table.add_row(*line)
    say(" | ".join(line))


def _docs() -> Path:
    return Path(tempfile.mkdtemp(prefix="churn-bench-docs-"))


if __name__ == "__main__":
    main()
