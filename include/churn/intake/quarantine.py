"""Quarantined rows: described, exported, repaired and landed again."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from churn.contract import Contract
from churn.errors import ChurnError
from churn.foundation.ledger import Ledger
from churn.foundation.parts import part_names
from churn.foundation.paths import LANDING, original, quarantined
from churn.foundation.records import Batch
from churn.foundation.storage import Storage
from churn.intake.arrival import keep_original
from churn.intake.batch_file import FileFault
from churn.intake.division import PART_SIZE
from churn.intake.reading import open_file

LINE, RULES, RAW = "_line", "_failed", "_raw"


def export_rows(storage: Storage, batch: Batch, contract: Contract, target: Path) -> int:
    """Write the quarantined rows of a batch to a CSV file, to be repaired and released.

    The columns are those of the file, then `_line` and `_failed`. A record that could not be split has its text in `_raw`.

    Returns:
        The number of rows.

    Raises:
        ChurnError: the batch has none, or the file cannot be written.
    """
    header = _header(storage, batch, contract)
    try:
        with target.open("w", newline="") as stream:
            writer = csv.writer(stream)
            writer.writerow([*header, LINE, RULES, RAW])
            rows = 0
            for row in quarantined_rows(storage, batch):
                cells = _cells(row[RAW], len(header))
                raw = "" if cells else row[RAW]
                writer.writerow([*(cells or [""] * len(header)), row[LINE], " ".join(row[RULES]), raw])
                rows += 1
    except OSError as error:
        raise ChurnError(f"Cannot write {target}: {error.strerror}. Name another file.") from error
    return rows


def quarantined_rows(storage: Storage, batch: Batch) -> Iterator[dict[str, Any]]:
    """The quarantined rows of a batch, in the order of their lines.

    Raises:
        ChurnError: the batch has none.
    """
    if not batch.quarantined_rows:
        raise ChurnError(f"Batch {batch.batch[:12]} ({batch.name}) has no rows in quarantine.")
    for name in part_names(storage, quarantined(batch.batch)):
        with storage.reading(name) as stream:
            for rows in pq.ParquetFile(stream).iter_batches():
                yield from rows.to_pylist()


def release_rows(
    storage: Storage, ledger: Ledger, batch: Batch, contract: Contract, file: Path, part_size: int = PART_SIZE
) -> Batch:
    """Land repaired rows as a new batch that remembers its origin. The next run judges it.

    `part_size` is that of the parts into which the file is divided, in bytes.

    Raises:
        ChurnError: the file cannot be read, has more rows than were quarantined, or was accepted before.
    """
    name = f"{LANDING}/.{file.name}"  # not visible to a run that collects files meanwhile
    try:
        storage.put(file, name)
    except FileNotFoundError as error:
        raise ChurnError(f"Cannot read {file}: {error.strerror}. Give the path of the repaired file.") from error
    try:
        rows = _count_rows(storage, name, contract)
        if rows > (batch.quarantined_rows or 0):
            raise ChurnError(
                f"{file} has {rows} rows, but only {batch.quarantined_rows} rows of batch {batch.batch[:12]} were quarantined. "
                "Release only repaired rows of that batch. Use `churn land` for others."
            )
        repaired, size = keep_original(storage, name, part_size)
    finally:
        storage.remove(name)
    if not ledger.add_batch(repaired, file.name, size, datetime.now(UTC), origin=batch.batch):
        raise ChurnError(f"{file} was accepted before, as batch {repaired[:12]}. Nothing was changed.")
    record = ledger.batch(repaired)
    if record is None:
        raise ChurnError(f"The ledger lost batch {repaired[:12]}. Release the file again.")
    return record


def _count_rows(storage: Storage, name: str, contract: Contract) -> int:
    with storage.reading(name) as stream:
        file = open_file(stream)
        try:
            file.check(contract)
        except FileFault as fault:
            raise ChurnError(f"The repaired file cannot be accepted: {fault.sentence}") from fault
        return sum(table.num_rows for table in file.raw())


def _header(storage: Storage, batch: Batch, contract: Contract) -> list[str]:
    """The header of the file; that of the contract if the file had none."""
    with storage.reading(original(batch.batch)) as stream:
        file = open_file(stream)
        try:
            file.check(contract)
        except FileFault:
            return list(contract.names)
        return file.header


def _cells(raw: object, width: int) -> list[str] | None:
    try:
        cells = next(csv.reader(io.StringIO(str(raw), newline=""), strict=True))
    except (csv.Error, StopIteration):
        return None
    return cells if len(cells) == width else None
