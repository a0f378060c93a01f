"""The part of `make bench WHAT=load` that measures runs of many files, and beside many known ones."""

from __future__ import annotations

import logging
from datetime import UTC, datetime
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from churn.foundation.parts import WrittenPart, store_parts
from churn.foundation.paths import accepted, original
from churn.foundation.records import BatchVerdict
from churn.intake.judged_rows import accepted_schema, batch_number
from churn.learning.snapshot import take_snapshot
from churn.pipeline import steps
from churn.pipeline.workspace import Request, Workspace
from reporting import Figure, say, seconds
from support.basics import land_text, make_workspace, small_file

FEW_FILES, MANY_FILES = 30, 10_000
GOAL = "<= 1.3"


def measure_files(home: Path, url: str, many: int) -> list[Figure]:
    """A run of eight files beside few and beside many known ones, and one of many files."""
    logging.disable(logging.WARNING)
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
    batch, contract, rows = f"{number + 1:064x}"[::-1], workspace.contract, 10
    columns = dict(TEMPLATE)
    columns[contract.key.name] = list(range(10**7 + number * rows, 10**7 + (number + 1) * rows))
    columns |= {"_line": list(range(2, rows + 2)), "_batch": [batch_number(batch)] * rows}
    file = home / "directly.parquet"
    schema = accepted_schema(contract)
    pq.write_table(pa.table(columns).select(schema.names).cast(schema), file)
    with workspace.storage.writing(original(batch)) as stream:
        stream.write(b"left out: nothing reads it here")
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
    hashes = [batch.batch for batch in arrived]
    took["validate"] = seconds(lambda: steps.validate_all(workspace, request, hashes))
    sampling = workspace.sampling
    took["again"] = seconds(lambda: take_snapshot(workspace.storage, workspace.ledger, workspace.contract, sampling))
    return took
