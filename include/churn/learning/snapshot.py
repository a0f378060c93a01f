"""Takes snapshots: the latest accepted row of every customer, in a panel of every customer and time, named by the hash of the rows."""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from functools import partial
from pathlib import Path

import duckdb
import numpy as np
import pyarrow as pa

from churn.contract import Contract, Role
from churn.errors import ChurnError, NothingToDo
from churn.foundation import columnar
from churn.foundation.digests import json_digest
from churn.foundation.ledger import Ledger
from churn.foundation.parts import (
    MANIFEST,
    DigestOf,
    Manifest,
    PartFault,
    check_part,
    file_digest,
    find_part_faults,
    has_table,
    part_name,
    read_manifest,
    single_file,
    store_parts,
)
from churn.foundation.paths import SNAPSHOTS, snapshot_rows
from churn.foundation.records import Batch, Snapshot
from churn.foundation.sampling import Sampling
from churn.foundation.scratch import given
from churn.foundation.storage import Storage
from churn.intake.label_files import known_periods
from churn.learning.content import content_hash
from churn.learning.maturity import complete_dates, counting_of, today
from churn.learning.single_snapshot import write_single_file
from churn.learning.snapshot_merging import BaseFault
from churn.learning.snapshot_parts import (
    FORMAT,
    PANEL_FORMAT,
    Base,
    check_base_part,
    compute_parts,
    format_of,
    snapshot_name,
)
from churn.learning.snapshot_writing import BUCKET, ComputedPart

log = logging.getLogger(__name__)

HOLDOUT = range(20)
RESERVE = range(20, 25)
"""Never trained on and never compared on: the only customers that no decision has looked at, kept to confirm promotions."""
TRAINING = range(25, 100)
BASES = 10
"""Number of snapshots to try as a base. A withdrawn batch makes those that contain it unusable."""
_TRAINING_DRAW = "training"
"""Label of the draw that orders customers for training. It has nothing to do with their buckets."""


def take_snapshot(
    storage: Storage,
    ledger: Ledger,
    contract: Contract,
    sampling: Sampling,
    without: Collection[str] = (),
    cutoff: date | None = None,
) -> Snapshot:
    """Take a snapshot of everything accepted so far. The same rows give the same snapshot, if the same of them count.

    It starts from an earlier snapshot and reads only the batches that this one lacks. Without a usable one, all batches are read.

    Args:
        storage: the data root.
        ledger: knows the accepted batches.
        contract: the data contract.
        sampling: assigns customers to buckets.
        without: batches to leave out, as if they had not arrived.
        cutoff: under a contract with a horizon, rows whose horizon ends on this date or later do not count; by default today.

    Raises:
        NothingToDo: no batch has been accepted yet, or every row waits for its label.
        PartFault: accepted rows are missing or have been changed.
        ChurnError: batches of an earlier contract lack a column that today's contract needs, all of them or some.
    """
    batches = [batch for batch in ledger.batches(state="accepted") if batch.batch not in without]
    if not batches:
        raise NothingToDo("No batch has been accepted yet, so there is nothing to train on. Next: `churn land FILE`.")
    cutoff = cutoff or today()
    for known in _possible_bases(ledger, contract, sampling, batches):
        base = _open_base(storage, known, batches)
        if base is None:
            continue
        try:
            if set(known.batches) == {batch.batch for batch in batches} and not counts_others(
                storage, ledger, known, contract, cutoff
            ):
                _check_base(storage, base, contract, sampling)
                return known
            return _take(storage, ledger, contract, sampling, batches, cutoff, known, base)
        except BaseFault as fault:
            log.warning("Snapshot %s is not used as a base: %s", known.snapshot[:12], fault)
    return _take(storage, ledger, contract, sampling, batches, cutoff)


def counts_others(storage: Storage, ledger: Ledger, snapshot: Snapshot, contract: Contract, cutoff: date) -> bool:
    """Whether other rows of a snapshot would count at another cut-off, because labels of its as-of dates have become final."""
    manifest = read_manifest(storage, snapshot_rows(snapshot.snapshot)) if snapshot.cutoff else None
    if manifest is None:
        return False
    known = known_periods(_batches_of(ledger, snapshot))
    complete = complete_dates(_stored_dates(manifest), contract, cutoff, known)
    return [day.isoformat() for day in complete] != snapshot.complete


def rebuild_snapshot(
    storage: Storage, ledger: Ledger, contract: Contract, sampling: Sampling, snapshot: Snapshot
) -> None:
    """Rebuild a snapshot from all of its batches, by the rule of its own format, and replace its files.

    Raises:
        PartFault: accepted rows are missing or have been changed.
        ChurnError: contract or salt are not those of the snapshot, or the rows differ.
    """
    for what, then, now in (
        ("contract", snapshot.contract_fingerprint, contract.fingerprint),
        ("salt", snapshot.salt_fingerprint, sampling.fingerprint),
    ):
        if then != now:
            raise ChurnError(
                f"Snapshot {snapshot.snapshot[:12]} was taken with the {what} {then}, but now it is {now}. "
                f"Restore that {what} to rebuild it."
            )
    batches = _batches_of(ledger, snapshot)
    with storage.scratch() as scratch:
        if snapshot.format in (FORMAT, PANEL_FORMAT):
            panel = snapshot.format == PANEL_FORMAT
            parts = compute_parts(storage, batches, contract, sampling, scratch, panel=panel)
            _require_same(snapshot, _name_of(snapshot, [part.written.content for part in parts]))
            dates: tuple[columnar.DateCount, ...] = ()
            if panel:
                with columnar.engine(sampling.spread.memory_limit) as connection:
                    columnar.scan_files(connection, "lines", [given(part.written.file) for part in parts])
                    dates = tuple(columnar.count_dates(connection, "lines", contract))
            _store(storage, snapshot.snapshot, batches, parts, dates)
        else:
            rows = write_single_file(storage, batches, contract, sampling, scratch)
            _require_same(snapshot, content_hash(rows, [*contract.names, BUCKET]))
            storage.move_in(rows, single_file(snapshot_rows(snapshot.snapshot)))


def find_snapshot_differences(
    storage: Storage, ledger: Ledger, contract: Contract, sampling: Sampling
) -> tuple[Snapshot, list[str]] | None:
    """Compare the newest snapshot of today's contract and salt with a full computation of its rows.

    Returns:
        The snapshot, and a sentence for each part that differs; None if there is no such snapshot with its rows.

    Raises:
        PartFault: accepted rows are missing or have been changed.
    """
    for snapshot in ledger.snapshots():
        folder = snapshot_rows(snapshot.snapshot)
        if _is_comparable(snapshot, contract, sampling) and has_table(storage, folder):
            break
    else:
        return None
    faults = find_part_faults(storage, folder, storage.names(folder), hashes=True, digest=None)
    with storage.scratch() as scratch:
        parts = compute_parts(storage, _batches_of(ledger, snapshot), contract, sampling, scratch)
        contents = [part.written.content for part in parts]
    try:
        manifest = read_manifest(storage, folder)
    except PartFault:  # it is among the faults already
        return snapshot, faults
    stored = [part.content for part in manifest.parts] if manifest else []
    faults += [
        f"{folder}/{part_name(number)} has other rows than the accepted files."
        for number, (now, then) in enumerate(zip(contents, stored, strict=False))
        if now != then
    ]
    if _name_of(snapshot, contents) != snapshot.snapshot and not faults:
        faults.append(f"{folder} has other rows than the accepted files.")
    return snapshot, faults


def find_snapshot_faults(
    storage: Storage, ledger: Ledger, hashes: bool = False, digest_of: DigestOf = file_digest
) -> list[str]:
    """Describe what is wrong with the stored parts of every snapshot, in a sentence each; empty if all is well.

    Snapshots that maintenance has deleted are not reported, and the single files of earlier versions are only looked up.

    Args:
        storage: the data root.
        ledger: knows the snapshots.
        hashes: also read every part, and check its hash.
        digest_of: finds the sha256 of a file.
    """
    there = storage.names(SNAPSHOTS)
    faults = []
    for snapshot in ledger.snapshots():
        folder = snapshot_rows(snapshot.snapshot)
        found = find_part_faults(storage, folder, there, hashes, None, digest_of)
        manifest = None if found else read_manifest(storage, folder)
        if manifest and _name_of(snapshot, [part.content for part in manifest.parts]) != snapshot.snapshot:
            found = [f"{folder}/{MANIFEST} has been changed since it was written."]
        next_step = f"Next: `churn snapshot rebuild {snapshot.snapshot[:12]}`."
        faults += [f"{fault} {next_step}" for fault in found]
    return faults


def count_contacted(
    storage: Storage, snapshot: Snapshot, contract: Contract, sampling: Sampling, treated: pa.Table
) -> int:
    """Count the rows that a challenger may be trained on of customers whom a list had contacted before their label was known.

    Args:
        storage: the data root.
        snapshot: the snapshot.
        contract: the data contract.
        sampling: how work spreads.
        treated: as for `columnar.leave_out_contacted`.

    Raises:
        PartFault: a part of the snapshot is missing or has been changed.
    """
    if not treated.num_rows:
        return 0
    with storage.scratch() as folder, columnar.engine(sampling.spread.memory_limit) as connection:
        scan_counted(connection, "snapshot", storage, snapshot, contract, TRAINING, folder, contract.rows_per_customer)
        columnar.leave_out_contacted(connection, "snapshot", contract, treated)
        return columnar.count_newest(connection, "snapshot_contacted", contract, TRAINING, None)


@contextmanager
def drawn_training_rows(
    storage: Storage,
    snapshot: Snapshot,
    contract: Contract,
    sampling: Sampling,
    most: int,
    without: pa.Table | None = None,
) -> Iterator[Path]:
    """A scratch file with customers that a challenger may be trained on (buckets 25-99), in the order of a draw.

    Features are doubles and texts, and the target is an integer. The first rows are a sample of any size. Of a panel, it has the rows
    that count, all those of a customer after one another, and `_customer`, which tells customers apart.

    Args:
        storage: the data root.
        snapshot: the snapshot.
        contract: the data contract.
        sampling: the salt, and how work spreads.
        most: at most this number of rows.
        without: customers whom a list has contacted, as for `columnar.leave_out_contacted`; their rows are left out.

    Raises:
        PartFault: a part of the snapshot is missing or has been changed.
    """
    with storage.scratch() as folder, columnar.engine(sampling.spread.memory_limit) as connection:
        newest = contract.rows_per_customer
        scan_counted(connection, "snapshot", storage, snapshot, contract, TRAINING, folder, newest)
        file, view = folder / "training.parquet", "snapshot"
        if without is not None:
            columnar.leave_out_contacted(connection, view, contract, without)
            view = "snapshot_others"
        columnar.write_drawn_rows(connection, view, contract, TRAINING, sampling.salt, _TRAINING_DRAW, most, file)
        yield file


def scan_counted(
    connection: duckdb.DuckDBPyConnection,
    view: str,
    storage: Storage,
    snapshot: Snapshot,
    contract: Contract,
    buckets: range,
    folder: Path,
    newest: int | None = None,
) -> None:
    """Create a view of the rows of a snapshot that count, of some buckets and perhaps of others.

    Args:
        connection: the engine.
        view: the name of the view.
        storage: the data root.
        snapshot: the snapshot.
        contract: the data contract.
        buckets: the buckets.
        folder: scratch folder for files.
        newest: of a panel, the number of newest rows of each customer; None for all.

    Raises:
        PartFault: a part of the snapshot is missing or has been changed.
    """
    files = _checked(storage, snapshot, buckets, folder)
    if snapshot.format != PANEL_FORMAT:
        columnar.scan_files(connection, view, files)
        return
    columnar.scan_files(connection, f"{view}_lines", files)
    columnar.create_counting_view(connection, view, f"{view}_lines", contract, counting_of(snapshot), newest)


def customer_files(storage: Storage, snapshot: Snapshot, folder: Path) -> list[Path]:
    """Local files with all customers of a snapshot, after a check of their bytes, in the order of its parts.

    Raises:
        PartFault: a part of the snapshot is missing or has been changed.
    """
    return _checked(storage, snapshot, range(columnar.BUCKETS), folder)


@dataclass(frozen=True)
class CustomerPart:
    """A file with customers of a snapshot: its name, the sha256 of its bytes if it was kept, and how it can be restored."""

    name: str
    sha256: str | None
    next_step: str

    @contextmanager
    def opened(self, storage: Storage, scratch: Path) -> Iterator[Path]:
        """A local file with its bytes, which are checked; a copy is deleted again.

        Raises:
            PartFault: it is missing or has been changed.
        """
        file = check_part(storage, self.name, self.sha256, scratch, self.next_step)
        try:
            yield file
        finally:
            if not storage.local:
                file.unlink()


def customer_parts(
    storage: Storage, snapshot: Snapshot, buckets: range = range(columnar.BUCKETS)
) -> list[CustomerPart]:
    """The files with the customers of some buckets, in order; a single file of an earlier version has other customers too.

    Raises:
        PartFault: the manifest of the snapshot is damaged.
    """
    table = snapshot_rows(snapshot.snapshot)
    manifest = read_manifest(storage, table)
    next_step = f"Next: `churn snapshot rebuild {snapshot.snapshot[:12]}`, then run the step again."
    if manifest is None:
        return [CustomerPart(single_file(table), None, next_step)]
    parts = manifest.parts[buckets.start // columnar.BUCKETS_OF_PART : buckets.stop // columnar.BUCKETS_OF_PART]
    return [CustomerPart(f"{table}/{part.name}", part.sha256, next_step) for part in parts]


def count_contaminated(
    storage: Storage, trained: Snapshot, holdout: Snapshot, contract: Contract, memory_limit: str
) -> int:
    """Count the holdout customers of one snapshot that a training on the other has seen, by reading both.

    Raises:
        PartFault: a part of either snapshot is missing or has been changed.
    """
    with storage.scratch() as folder, columnar.engine(memory_limit) as connection:
        scan_counted(connection, "trained", storage, trained, contract, TRAINING, folder)
        scan_counted(connection, "holdout", storage, holdout, contract, HOLDOUT, folder)
        return columnar.count_shared_customers(connection, "trained", "holdout", contract.key, TRAINING, HOLDOUT)


def snapshot_url(storage: Storage, snapshot: Snapshot) -> str:
    """The address of the rows of a snapshot."""
    return storage.url(snapshot_rows(snapshot.snapshot))


def _take(
    storage: Storage,
    ledger: Ledger,
    contract: Contract,
    sampling: Sampling,
    batches: Sequence[Batch],
    cutoff: date,
    known: Snapshot | None = None,
    base: Base | None = None,
) -> Snapshot:
    with storage.scratch() as scratch:
        held = (base, frozenset(known.batches)) if known and base else None
        parts = compute_parts(storage, batches, contract, sampling, scratch, held)
        counted = _count_rows(parts, batches, contract, sampling, cutoff)
        _require_values(parts, contract, sum(count.rows for count in counted.dates) or counted.rows)
        snapshot = Snapshot(
            snapshot=snapshot_name([part.written.content for part in parts], counted.complete),
            rows=counted.rows,
            training_rows=counted.training,
            holdout_rows=counted.holdout,
            batches=[batch.batch for batch in batches],
            salt_fingerprint=sampling.fingerprint,
            contract_fingerprint=contract.fingerprint,
            made_at=datetime.now(UTC),
            format=format_of(contract),
            cutoff=cutoff.isoformat() if contract.horizon_days is not None else None,
            complete=counted.complete,
            waiting=counted.waiting,
        )
        _store(storage, snapshot.snapshot, batches, parts, counted.dates)
    ledger.add_snapshot(snapshot)
    return snapshot


@dataclass(frozen=True)
class _Counted:
    """The rows of a snapshot that count: all, those that a training may use, and those of unseen customers; for a panel, which and why.

    `dates` are the rows of a panel by as-of date, whether they count or not.
    """

    rows: int
    training: int
    holdout: int
    complete: list[str] | None = None
    waiting: dict[str, int] | None = None
    dates: tuple[columnar.DateCount, ...] = ()


def _count_rows(
    parts: Sequence[ComputedPart], batches: Sequence[Batch], contract: Contract, sampling: Sampling, cutoff: date
) -> _Counted:
    """Count the rows that count.

    Raises:
        NothingToDo: there is none, because every row waits for its label.
    """
    if contract.as_of is None:
        sizes = np.sum([part.sizes for part in parts], axis=0)
        return _Counted(
            int(sizes.sum()),
            int(sizes[TRAINING.start : TRAINING.stop].sum()),
            int(sizes[HOLDOUT.start : HOLDOUT.stop].sum()),
        )
    with columnar.engine(sampling.spread.memory_limit) as connection:
        columnar.scan_files(connection, "lines", [given(part.written.file) for part in parts])
        dates = tuple(columnar.count_dates(connection, "lines", contract))
        complete = complete_dates(dates, contract, cutoff, known_periods(batches))
        counting = columnar.Counting(cutoff, complete) if contract.horizon_days is not None else None
        columnar.create_counting_view(connection, "counted", "lines", contract, counting)
        by_date = columnar.count_by(connection, "counted", contract)
        newest = contract.rows_per_customer
        training = columnar.count_newest(connection, "counted", contract, TRAINING, newest)
        holdout = columnar.count_newest(connection, "counted", contract, HOLDOUT, 1)
    waiting = {
        count.as_of.isoformat(): count.rows - by_date.get(count.as_of, 0)
        for count in dates
        if isinstance(count.as_of, date) and count.rows > by_date.get(count.as_of, 0)
    }
    if not by_date:
        raise NothingToDo(_nothing_counts(waiting, contract, cutoff))
    listed = [day.isoformat() for day in complete]
    rows = sum(by_date.values())
    return _Counted(rows, training, holdout, listed, waiting if counting else None, dates)


def _nothing_counts(waiting: dict[str, int], contract: Contract, cutoff: date) -> str:
    if not waiting:
        return "No row has been accepted yet, only labels, so there is nothing to train on. Next: `churn land FILE`."
    due = ""
    if contract.horizon_days is not None:
        first = date.fromisoformat(min(waiting)) + timedelta(days=contract.horizon_days + 1)
        due = f" The first {'are' if first >= cutoff else 'were'} due on {first}."
    return (
        f"All {sum(waiting.values()):,} accepted rows wait for their labels, so there is nothing to train on.{due} "
        "Land the labels or the leavers: `churn land FILE`."
    )


def _name_of(snapshot: Snapshot, contents: Sequence[str | None]) -> str:
    """The name that a snapshot with these parts has."""
    return snapshot_name(contents, (snapshot.complete or []) if snapshot.format == PANEL_FORMAT else None)


def _stored_dates(manifest: Manifest) -> list[columnar.DateCount]:
    return [
        columnar.DateCount(date.fromisoformat(day), rows, unlabelled, since and date.fromisoformat(since))
        for day, rows, unlabelled, since in (manifest.about or {}).get("dates", [])
    ]


def _store(
    storage: Storage,
    name: str,
    batches: Sequence[Batch],
    parts: Sequence[ComputedPart],
    dates: Sequence[columnar.DateCount],
) -> None:
    """Store the parts. The manifest of a panel has its rows by as-of date, which decide what counts at a later cut-off."""
    listed = [
        [day.as_of.isoformat(), day.rows, day.unlabelled, day.labelled_since and day.labelled_since.isoformat()]
        for day in dates
        if isinstance(day.as_of, date)
    ]
    about = {"dates": listed} if listed else None
    store_parts(storage, snapshot_rows(name), [part.written for part in parts], _origin(batches), about)


def _origin(batches: Sequence[Batch]) -> str:
    """Identifies batches and their arrival. The same rows can come from other batches, and then the snapshot cannot be a base for these."""
    return json_digest([[batch.batch, batch.arrived_at.isoformat()] for batch in batches])


def _batches_of(ledger: Ledger, snapshot: Snapshot) -> list[Batch]:
    held = set(snapshot.batches)
    return [batch for batch in ledger.batches() if batch.batch in held]


def _is_comparable(snapshot: Snapshot, contract: Contract, sampling: Sampling) -> bool:
    fingerprints = (snapshot.contract_fingerprint, snapshot.salt_fingerprint)
    return snapshot.format == format_of(contract) and fingerprints == (contract.fingerprint, sampling.fingerprint)


def _possible_bases(ledger: Ledger, contract: Contract, sampling: Sampling, batches: Sequence[Batch]) -> list[Snapshot]:
    """The recent snapshots that have none but these batches, those that lack the fewest rows first."""
    rows = {batch.batch: batch.accepted_rows or 0 for batch in batches}
    usable = [
        snapshot
        for snapshot in ledger.snapshots(limit=BASES)
        if _is_comparable(snapshot, contract, sampling) and rows.keys() >= set(snapshot.batches)
    ]
    return sorted(usable, key=lambda snapshot: -sum(rows[batch] for batch in snapshot.batches))


def _open_base(storage: Storage, snapshot: Snapshot, batches: Sequence[Batch]) -> Base | None:
    """The folder of a snapshot, unless it has been deleted or is not the one of the ledger."""
    folder = snapshot_rows(snapshot.snapshot)
    try:
        manifest = read_manifest(storage, folder)
    except PartFault as fault:
        log.warning("Snapshot %s is not used as a base: %s", snapshot.snapshot[:12], fault)
        return None
    if manifest is None:
        return None
    name = _name_of(snapshot, [part.content for part in manifest.parts])
    held = set(snapshot.batches)
    if name != snapshot.snapshot or manifest.made_from != _origin([batch for batch in batches if batch.batch in held]):
        log.warning(
            "Snapshot %s is not used as a base: it is stored with other batches or rows.", snapshot.snapshot[:12]
        )
        return None
    return Base(folder, manifest)


def _check_base(storage: Storage, base: Base, contract: Contract, sampling: Sampling) -> None:
    with storage.scratch() as scratch:
        check = partial(check_base_part, storage, base, contract, scratch)
        for _ in sampling.spread.each(check, range(len(base.manifest.parts))):
            pass


def _checked(storage: Storage, snapshot: Snapshot, buckets: range, folder: Path) -> list[Path]:
    """Local files with the customers of some buckets, after a check of their bytes; a single file has other customers too."""
    parts = customer_parts(storage, snapshot, buckets)
    return [check_part(storage, part.name, part.sha256, folder, part.next_step) for part in parts]


def _require_same(snapshot: Snapshot, rebuilt: str) -> None:
    if rebuilt != snapshot.snapshot:
        raise ChurnError(
            f"Snapshot {snapshot.snapshot[:12]} now has other rows ({rebuilt[:12]}), so an accepted file has been changed. "
            "`churn audit --hashes` shows which."
        )


def _require_values(parts: Sequence[ComputedPart], contract: Contract, rows: int) -> None:
    """Check that every customer has a value in every required column: some batches may be older than the column.

    Intake checks each batch against the contract of its time.
    """
    counts = {name: sum(part.missing[name] for part in parts) for name in _required(contract)}
    absent = [name for name, count in counts.items() if count == rows]
    if absent:
        raise ChurnError(
            f"No customer has a value in {', '.join(absent)}, because all rows were accepted under another contract. Declare a new feature "
            "`nullable`, so that earlier rows can be used without it, or restore the earlier contract."
        )
    lacking = [f"{count:,} have no {name}" for name, count in counts.items() if count]
    if lacking:
        raise ChurnError(
            f"Of {rows:,} customers, {' and '.join(lacking)}, which the contract requires: the newest row of each comes from a batch that "
            "was accepted under an earlier contract. Nothing was trained. Choose one: declare the column `nullable` in the contract, and "
            "the model learns from the customers that have it; or land a file with the column for these customers; or run "
            "`churn batches withdraw HASH --reason ...` for the batches without it."
        )


def _required(contract: Contract) -> list[str]:
    return [
        column.name
        for column in contract.columns
        if not column.nullable and column.role not in (Role.CARRIED, Role.POSITION)
    ]
