"""Checks the data root against the ledger: every row that arrived is accepted or quarantined, and in its place."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator

import pyarrow as pa

from churn.foundation.ledger import Ledger
from churn.foundation.paths import ACCEPTED, ORIGINALS, QUARANTINE, accepted, original, quarantined
from churn.foundation.records import Batch
from churn.foundation.storage import Storage, StorageError


def find_losses(storage: Storage, ledger: Ledger, hashes: bool = False) -> list[str]:
    """Describe everything that does not add up, in a sentence each; empty if all is well.

    Args:
        storage: the data root.
        ledger: says what the data root should contain.
        hashes: also read every original and accepted file, and check it against its hash.
    """
    batches = ledger.batches()
    files = {zone: set(storage.names(zone)) for zone in (ORIGINALS, ACCEPTED, QUARANTINE)}
    losses = [loss for batch in batches for loss in _losses(batch, files, storage, hashes)]
    expected = {name(batch.batch) for batch in batches for name in (original, accepted, quarantined)}
    unknown = sorted(set().union(*files.values()) - expected)
    return losses + [f"{name}: the ledger has no such batch." for name in unknown]


def _losses(batch: Batch, files: dict[str, set[str]], storage: Storage, hashes: bool) -> Iterator[str]:
    who = f"Batch {batch.batch[:12]} ({batch.name})"
    if original(batch.batch) not in files[ORIGINALS]:
        yield f"{who}: its original is missing."
    elif hashes and _digest(storage, original(batch.batch)) != batch.batch:
        yield f"{who}: its original has been changed since it arrived."
    if batch.state == "arrived":
        return
    counts = (batch.arrived_rows or 0, batch.accepted_rows or 0, batch.quarantined_rows or 0)
    if counts[0] != counts[1] + counts[2]:
        yield f"{who}: {counts[0]} rows arrived, but {counts[1]} were accepted and {counts[2]} quarantined."
    for zone, name, expected in (
        (ACCEPTED, accepted(batch.batch), counts[1]),
        (QUARANTINE, quarantined(batch.batch), counts[2]),
    ):
        try:
            actual = storage.count_rows(name) if name in files[zone] else 0
        except (StorageError, pa.ArrowException):
            yield f"{who}: {name} cannot be read."
            continue
        digest = batch.accepted_sha256 if zone == ACCEPTED and hashes and actual else None
        if digest and _digest(storage, name) != digest:
            yield f"{who}: {name} has been changed since it was accepted."
        if actual != expected:
            yield f"{who}: {name} has {actual} rows, but {expected} are recorded."


def _digest(storage: Storage, name: str) -> str:
    digest = hashlib.sha256()
    for chunk in storage.chunks(name):
        digest.update(chunk)
    return digest.hexdigest()
