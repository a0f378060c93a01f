"""What is new in landing: a file becomes a batch, once, whatever its name.

The original is kept unchanged under its hash before the ledger knows of it, and leaves landing
after: killed in between, the next night finds the same file and comes to the same result.
"""

from __future__ import annotations

import hashlib
import logging
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from churn.errors import ChurnError
from churn.foundation.ledger import Batch, Ledger
from churn.foundation.storage import LANDING, ORIGINALS, Landed, Storage

log = logging.getLogger(__name__)
_CHUNK = 1 << 20


@dataclass(frozen=True)
class Arrivals:
    """Batches that wait for a verdict, in order of arrival, and the names of files seen before."""

    batches: list[Batch]
    seen_before: list[str]


def collect_arrivals(storage: Storage, ledger: Ledger) -> Arrivals:
    """Take every finished file out of landing, and list the batches that wait for a verdict.

    A batch of an earlier night that crashed before its verdict waits too.
    """
    seen_before = [file.name for file in storage.landed() if not _claim(file, storage, ledger)]
    return Arrivals(ledger.batches(state="arrived"), seen_before)


def original(batch: str) -> str:
    """Where the bytes of a batch are kept."""
    return f"{ORIGINALS}/{batch}"


def _claim(file: Landed, storage: Storage, ledger: Ledger) -> bool:
    """Whether the file was new."""
    landed = f"{LANDING}/{file.name}"
    batch = _digest(storage, landed)
    if ledger.batch(batch):
        log.info("Batch %s was taken in before: %s changes nothing.", batch[:12], file.name)
        storage.remove(landed)
        return False
    if not storage.exists(original(batch)):
        storage.copy(landed, original(batch))
    if _digest(storage, original(batch)) != batch:
        log.warning("%s changed while it was taken in: it waits for the next night.", file.name)
        storage.remove(original(batch))
        return True
    new = ledger.add_batch(batch, file.name, file.size, datetime.fromtimestamp(file.arrived, UTC))
    storage.remove(landed)
    return new


def _digest(storage: Storage, name: str) -> str:
    digest = hashlib.sha256()
    with storage.reading(name) as stream:
        while chunk := stream.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


def land_file(storage: Storage, file: Path) -> str:
    """Put a local file into landing as a sender should: complete or not at all.

    Returns:
        Its URL.

    Raises:
        ChurnError: the file cannot be read.
    """
    try:
        content = file.read_bytes()
    except OSError as error:
        raise ChurnError(f"Cannot read {file}: {error.strerror}. Give the path of a file.") from error
    name = f"{LANDING}/{file.name}"
    if storage.exists(name):  # a file that waits is never replaced
        name = f"{LANDING}/{file.stem}-{hashlib.sha256(content).hexdigest()[:12]}{file.suffix}"
    with storage.writing(name) as stream:
        stream.write(content)
    return storage.url(name)
