"""Collects what is new in the landing zone: a file becomes a batch, once, whatever its name.

The original is stored unchanged under its hash, then recorded in the ledger, and only then removed from landing. A run that is
killed in between is completed by the next one. Two runs on one landing zone do not harm each other: the second finds the batch
recorded or the file gone.
"""

from __future__ import annotations

import hashlib
import logging
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

from churn.errors import ChurnError
from churn.foundation.ledger import Ledger
from churn.foundation.paths import LANDING, ORIGINALS, division_note
from churn.foundation.progress import report_progress
from churn.foundation.records import Batch
from churn.foundation.spread import ONE_CORE, Spread, by_threads
from churn.foundation.storage import TEMPORARY, Landed, Storage, StorageError, is_temporary
from churn.intake.division import PART_SIZE, Divider, note_division

log = logging.getLogger(__name__)
_AHEAD = 8
"""Steps of hashing and dividing that may wait while a file is copied: four chunks of some megabytes."""


@dataclass(frozen=True)
class Zones:
    """Where files of a kind land, where their originals are kept, and what follows if the same bytes arrive again."""

    landing: str
    originals: str
    again: str = "changes nothing"


BATCHES = Zones(LANDING, ORIGINALS)


@dataclass(frozen=True)
class Arrivals:
    """Batches that wait for a verdict, in order of arrival, and what else was seen in the landing zone.

    `seen_before` names files whose bytes were accepted before, and `unfinished` those that are still being written.
    """

    batches: list[Batch]
    seen_before: list[str]
    unfinished: list[str]


def collect_arrivals(
    storage: Storage,
    ledger: Ledger,
    settle_seconds: float = 0,
    part_size: int = PART_SIZE,
    spread: Spread = ONE_CORE,
) -> Arrivals:
    """Move every finished file out of the landing zone, and list the batches that wait for a verdict.

    That includes batches of an earlier run that crashed before its verdict.

    Args:
        storage: the data root.
        ledger: records every file that was seen.
        settle_seconds: a file on a local disk that changed within this many seconds is checked twice, and left for the next run
            if it has changed again. Objects on S3 appear complete.
        part_size: bytes of the parts into which a file is divided.
        spread: where the files are hashed and divided, each by one worker.

    Raises:
        StorageError: the data root is unavailable, or is not the one that the ledger describes.
    """
    require_data_root(storage, ledger)
    storage.sweep()
    seen_before, unfinished = claim_files(
        storage, BATCHES, ledger.add_batch, ledger.batch, settle_seconds, part_size, spread
    )
    return Arrivals(ledger.batches(state="arrived"), seen_before, unfinished)


def require_data_root(storage: Storage, ledger: Ledger) -> None:
    """Check that the originals of the batches in the ledger are there: a disk that is not mounted looks like a new, empty data root.

    Raises:
        StorageError: there are none.
    """
    if ledger.first_seen() is not None and not storage.exists(ORIGINALS):
        raise StorageError(
            f"{storage.url('')} has none of the files that the ledger knows: it is missing, or is another data root. Check CHURN_DATA_ROOT, "
            "and that its disk is mounted. Then run the step again; nothing was changed there."
        )


def claim_files(
    storage: Storage,
    zones: Zones,
    add: Callable[[str, str, int, datetime], bool],
    find: Callable[[str], object | None],
    settle_seconds: float,
    part_size: int,
    spread: Spread = ONE_CORE,
) -> tuple[list[str], list[str]]:
    """Move every finished file of a landing zone to its original, and record it.

    Args:
        storage: the data root.
        zones: where files land, and where their originals are kept.
        add: records hash, name, size and time of arrival of a file; false if these bytes have arrived before.
        find: the record of a hash, if there is one.
        settle_seconds: see `collect_arrivals`.
        part_size: bytes of the parts into which a file is divided.
        spread: see `collect_arrivals`.

    Returns:
        The names of files whose bytes have arrived before, and of those that are still being written.
    """
    finished, unfinished = _settled(storage, zones.landing, settle_seconds)
    seen_before = []
    keeping = spread.each(by_threads(partial(_keep, storage, zones, part_size)), finished)
    kept_files = report_progress(keeping, "Hashing what arrived", len(finished), "files")
    for file, kept in zip(finished, kept_files, strict=True):
        claimed = _claim(file, kept, storage, zones, add, find, part_size)
        if claimed is None:
            unfinished.append(file.name)
        elif not claimed:
            seen_before.append(printable(file.name))
    for name in unfinished:
        log.warning("%s is still being written, and is left for the next run.", printable(name))
    return seen_before, [printable(name) for name in unfinished]


def printable(name: str) -> str:
    """The name of a file as text, whatever bytes it has on disk."""
    return name.encode(errors="surrogateescape").decode(errors="backslashreplace")


def keep_original(
    storage: Storage, name: str, part_size: int = PART_SIZE, originals: str = ORIGINALS
) -> tuple[str, int]:
    """Copy a file to the path of its hash in the folder of originals, and note its parts, in one pass.

    Returns:
        The sha256 of its bytes, and their number.
    """
    digest, divider, size = hashlib.sha256(), Divider(part_size), 0
    passed: deque[Future[None]] = deque()
    with storage.staging() as staged, ThreadPoolExecutor(1) as hashing, ThreadPoolExecutor(1) as dividing:
        for chunk in storage.chunks(name):
            passed += hashing.submit(digest.update, chunk), dividing.submit(divider.feed, chunk)
            staged.stream.write(chunk)
            size += len(chunk)
            while len(passed) > _AHEAD:
                passed.popleft().result()
        for done in passed:
            done.result()
        kept = f"{originals}/{digest.hexdigest()}"
        if not storage.exists(kept):
            staged.keep_as(kept)
    note_division(storage, kept, divider.finish())
    return digest.hexdigest(), size


def land_file(storage: Storage, file: Path, landing: str = LANDING) -> str:
    """Put a local file into a landing zone, complete or not at all.

    Returns:
        Its URL.

    Raises:
        ChurnError: the file cannot be read, or has the name of an unfinished one.
    """
    if is_temporary(file.name):
        raise ChurnError(
            f"{file.name} would never be accepted, because names that begin with a dot or end with {', '.join(TEMPORARY)} "
            "are reserved for files that are still being written. Rename it."
        )
    try:
        with file.open("rb") as stream:
            digest = hashlib.file_digest(stream, "sha256").hexdigest()
        name = f"{landing}/{file.name}"
        if storage.exists(name):  # a waiting file is never replaced
            name = f"{landing}/{file.stem}-{digest[:12]}{file.suffix}"
        storage.put(file, name)
    except StorageError:
        raise
    except OSError as error:
        raise ChurnError(f"Cannot read {file}: {error.strerror}. Give the path of a file.") from error
    return storage.url(name)


def _settled(storage: Storage, landing: str, seconds: float) -> tuple[list[Landed], list[str]]:
    """The files that are complete, and the names of those that are still growing."""
    files = storage.landed(landing)
    fresh = {file.name for file in files if abs(time.time() - file.arrived) < seconds} if storage.local else set()
    if not fresh:
        return files, []
    time.sleep(seconds)
    now = {file.name: file for file in storage.landed(landing)}
    growing = [file.name for file in files if file.name in fresh and file.name in now and now[file.name] != file]
    return [file for file in files if file.name not in growing], growing


def _keep(storage: Storage, zones: Zones, part_size: int, file: Landed) -> tuple[str, int] | None:
    """Keep the original of a file, as `keep_original`; None if another run has collected the file."""
    landed = f"{zones.landing}/{file.name}"
    try:
        return keep_original(storage, landed, part_size, zones.originals)
    except StorageError:
        if storage.look(landed) is None:
            return None
        raise


def _claim(
    file: Landed,
    kept: tuple[str, int] | None,
    storage: Storage,
    zones: Zones,
    add: Callable[[str, str, int, datetime], bool],
    find: Callable[[str], object | None],
    part_size: int,
) -> bool | None:
    """Record a file of which the original is kept. Returns whether it was new; None if it changed meanwhile."""
    if kept is None:
        log.info("%s was collected by another run.", printable(file.name))
        return True
    digest, size = kept
    landed, name = f"{zones.landing}/{file.name}", f"{zones.originals}/{digest}"
    now = storage.look(landed)
    if now is not None and (size, now.arrived) != (file.size, file.arrived):
        if find(digest) is None:
            storage.remove(division_note(name))
            storage.remove(name)
        return None
    if not storage.exists(name):  # it was deleted with a file of the same bytes that was still being written
        keep_original(storage, landed, part_size, zones.originals)
    new = add(digest, printable(file.name), size, datetime.fromtimestamp(file.arrived, UTC))
    if now is not None:
        storage.remove(landed)
    if not new:
        log.info("%s has arrived before, as %s, and %s.", printable(file.name), digest[:12], zones.again)
    return new
