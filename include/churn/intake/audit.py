"""Hold the ledger against the data root: every row that arrived is accepted or set aside, and where it should be."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator

import pyarrow as pa

from churn.foundation.ledger import Ledger
from churn.foundation.paths import ACCEPTED, ORIGINALS, QUARANTINE, accepted, original, quarantined
from churn.foundation.records import Batch
from churn.foundation.storage import Storage, StorageError


def find_losses(storage: Storage, ledger: Ledger, hashes: bool = False) -> list[str]:
    """What does not add up, a sentence each; empty when all is well.

    Args:
        storage: the data root.
        ledger: what it should hold.
        hashes: read every original and every accepted file again and hold it against its hash.
    """
    batches = ledger.batches()
    files = {zone: set(storage.names(zone)) for zone in (ORIGINALS, ACCEPTED, QUARANTINE)}
    losses = [loss for batch in batches for loss in _losses(batch, files, storage, hashes)]
    known = {name(batch.batch) for batch in batches for name in (original, accepted, quarantined)}
    strangers = sorted(set().union(*files.values()) - known)
    return losses + [f"{name}: the ledger knows no such batch." for name in strangers]


def _losses(batch: Batch, files: dict[str, set[str]], storage: Storage, hashes: bool) -> Iterator[str]:
    who = f"Batch {batch.batch[:12]} ({batch.name})"
    if original(batch.batch) not in files[ORIGINALS]:
        yield f"{who}: its original is gone."
    elif hashes and _digest(storage, original(batch.batch)) != batch.batch:
        yield f"{who}: its original is not what arrived."
    if batch.state == "arrived":
        return
    counts = (batch.arrived_rows or 0, batch.accepted_rows or 0, batch.quarantined_rows or 0)
    if counts[0] != counts[1] + counts[2]:
        yield f"{who}: {counts[0]} rows arrived, {counts[1]} were accepted and {counts[2]} set aside."
    for zone, name, expected in (
        (ACCEPTED, accepted(batch.batch), counts[1]),
        (QUARANTINE, quarantined(batch.batch), counts[2]),
    ):
        try:
            found = storage.count_rows(name) if name in files[zone] else 0
        except (StorageError, pa.ArrowException):
            yield f"{who}: {name} cannot be read."
            continue
        known = batch.accepted_sha256 if zone == ACCEPTED and hashes and found else None
        if known and _digest(storage, name) != known:
            yield f"{who}: {name} is not what was accepted."
        if found != expected:
            yield f"{who}: {name} has {found} rows, and {expected} are remembered."


def _digest(storage: Storage, name: str) -> str:
    digest = hashlib.sha256()
    for chunk in storage.chunks(name):
        digest.update(chunk)
    return digest.hexdigest()
