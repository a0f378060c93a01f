"""Checks the data root against the ledger: every row that arrived is accepted or quarantined, and in its place."""

from __future__ import annotations

from collections.abc import Iterator

import pyarrow as pa

from churn.foundation.ledger import Ledger
from churn.foundation.parts import MANIFEST, DigestOf, file_digest, find_part_faults, read_manifest, single_file
from churn.foundation.paths import ACCEPTED, ORIGINALS, QUARANTINE, accepted, division_note, original, quarantined
from churn.foundation.records import Batch
from churn.foundation.storage import Storage, StorageError
from churn.intake.division import find_note_fault


def find_losses(storage: Storage, ledger: Ledger, hashes: bool = False, digest_of: DigestOf = file_digest) -> list[str]:
    """Describe everything that does not add up, in a sentence each; empty if all is well.

    Args:
        storage: the data root.
        ledger: says what the data root should contain.
        hashes: also read every original and every part, and check it against its hash.
        digest_of: finds the sha256 of a file.
    """
    batches = ledger.batches()
    files = {zone: set(storage.names(zone)) for zone in (ORIGINALS, ACCEPTED, QUARANTINE)}
    losses = [loss for batch in batches for loss in _losses(batch, files, storage, hashes, digest_of)]
    expected = {name for batch in batches for name in (original(batch.batch), division_note(original(batch.batch)))}
    folders = {name(batch.batch) for batch in batches for name in (accepted, quarantined)}
    expected |= {single_file(folder) for folder in folders}
    present = set().union(*files.values())
    unknown = sorted(name for name in present - expected if name.rpartition("/")[0] not in folders)
    return losses + [f"{name}: the ledger has no such batch." for name in unknown]


def _losses(
    batch: Batch, files: dict[str, set[str]], storage: Storage, hashes: bool, digest_of: DigestOf
) -> Iterator[str]:
    who = f"Batch {batch.batch[:12]} ({batch.name})"
    if original(batch.batch) not in files[ORIGINALS]:
        yield f"{who}: its original is missing."
    elif hashes and digest_of(storage, original(batch.batch)) != batch.batch:
        yield f"{who}: its original has been changed since it arrived."
    kept = original(batch.batch)
    if division_note(kept) in files[ORIGINALS] and (fault := find_note_fault(storage, kept)):
        yield f"{who}: {fault}"
    if batch.state == "arrived":
        return
    counts = (batch.arrived_rows or 0, batch.accepted_rows or 0, batch.quarantined_rows or 0)
    if counts[0] != counts[1] + counts[2]:
        yield f"{who}: {counts[0]} rows arrived, but {counts[1]} were accepted and {counts[2]} quarantined."
    tables = (
        (files[ACCEPTED], accepted(batch.batch), counts[1], batch.accepted_sha256),
        (files[QUARANTINE], quarantined(batch.batch), counts[2], batch.quarantined_sha256),
    )
    for there, folder, expected, digest in tables:
        for fault in _table_faults(storage, there, folder, expected, digest, hashes, digest_of):
            yield f"{who}: {fault}"


def _table_faults(
    storage: Storage,
    there: set[str],
    folder: str,
    expected: int,
    digest: str | None,
    hashes: bool,
    digest_of: DigestOf,
) -> Iterator[str]:
    """What is wrong with the accepted or the quarantined rows of a batch, as a folder of parts or as one file."""
    name, rows = folder, 0
    if f"{folder}/{MANIFEST}" in there:
        faults = find_part_faults(storage, folder, there, hashes, digest, digest_of)
        yield from faults
        if faults:
            return
        manifest = read_manifest(storage, folder)
        name, rows = folder, manifest.rows if manifest else 0
    elif single_file(folder) in there:
        name = single_file(folder)
        try:
            rows = storage.count_rows(name)
        except (StorageError, pa.ArrowException):
            yield f"{name} cannot be read."
            return
        if hashes and digest and rows and digest_of(storage, name) != digest:
            yield f"{name} has been changed since it was accepted."
    elif any(file.startswith(f"{folder}/") for file in there):
        yield f"{folder}/{MANIFEST} is missing, so its parts are not read."
    if rows != expected:
        yield f"{name} has {rows} rows, but {expected} are recorded."
