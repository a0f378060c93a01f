"""Accepted rows become a snapshot: the latest row of every customer, named by the hash of its rows."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from churn.contract import Contract, Role
from churn.errors import ChurnError, NothingToDo
from churn.foundation import columnar
from churn.foundation.ledger import Ledger
from churn.foundation.paths import accepted, snapshot_rows
from churn.foundation.records import Batch, Snapshot
from churn.foundation.sampling import Sampling
from churn.foundation.storage import Storage
from churn.intake.judging import batch_number
from churn.learning.content import content_hash

HOLDOUT = range(20)
RESERVE = range(20, 25)
TRAINING = range(25, 100)
BUCKET = "_bucket"


def take_snapshot(
    storage: Storage, ledger: Ledger, contract: Contract, sampling: Sampling, without: Collection[str] = ()
) -> Snapshot:
    """Take the snapshot of everything accepted so far; the same rows give the same snapshot.

    Args:
        storage: the data root.
        ledger: knows the accepted batches.
        contract: the data contract.
        sampling: sorts customers into buckets.
        without: batches to leave out, as if they had not come.

    Raises:
        NothingToDo: no batch has been accepted yet.
        ChurnError: batches of an earlier contract lack a column that today's needs.
    """
    batches = [batch for batch in ledger.batches(state="accepted") if batch.batch not in without]
    if not batches:
        raise NothingToDo("No batch has been accepted yet: there is nothing to train on. `churn land FILE` lands one.")
    with _latest_rows(storage, batches, contract, sampling) as rows:
        snapshot = _describe(rows, batches, contract, sampling)
        _keep(storage, rows, snapshot.snapshot)
    ledger.add_snapshot(snapshot)
    return snapshot


def rebuild_snapshot(
    storage: Storage, ledger: Ledger, contract: Contract, sampling: Sampling, snapshot: Snapshot
) -> None:
    """Make a snapshot again from what the ledger knows of it, and write its file if that is gone.

    Raises:
        ChurnError: contract or salt are not those of the snapshot, or other rows come out.
    """
    for what, then, now in (
        ("contract", snapshot.contract_fingerprint, contract.fingerprint),
        ("salt", snapshot.salt_fingerprint, sampling.fingerprint),
    ):
        if then != now:
            raise ChurnError(
                f"Snapshot {snapshot.snapshot[:12]} was made under the {what} {then}, and now it is {now}. "
                f"Set that {what} again to rebuild it."
            )
    held = set(snapshot.batches)
    batches = [batch for batch in ledger.batches() if batch.batch in held]
    with _latest_rows(storage, batches, contract, sampling) as rows:
        found = _describe(rows, batches, contract, sampling).snapshot
        if found != snapshot.snapshot:
            raise ChurnError(
                f"Snapshot {snapshot.snapshot[:12]} comes out as {found[:12]}: an accepted file is not what it was. "
                "`churn audit` says which."
            )
        _keep(storage, rows, found)


def training_rows(storage: Storage, snapshot: Snapshot) -> pd.DataFrame:
    """The customers that a challenger may learn from: buckets 25-99, ordered by key."""
    return _read(storage, snapshot, TRAINING)


def holdout_pieces(storage: Storage, snapshot: Snapshot, rows: int) -> Iterator[pd.DataFrame]:
    """The customers that no version is ever trained on, ordered by key, in frames of at most so many rows of the file.

    Besides the contract's columns each has `_customer` (64 bits of the keyed hash), `_arrived_at` and `_batch`.
    """
    with storage.reading(snapshot_rows(snapshot.snapshot)) as stream:
        for batch in pq.ParquetFile(stream).iter_batches(rows):
            buckets = batch[BUCKET].to_numpy()
            piece = batch.filter(pa.array((buckets >= HOLDOUT.start) & (buckets < HOLDOUT.stop)))
            if piece.num_rows:
                yield piece.to_pandas(date_as_object=False)


def count_contaminated(
    storage: Storage, trained: Snapshot, holdout: Snapshot, contract: Contract, memory_limit: str
) -> int:
    """How many holdout customers of one snapshot a training on the other has seen; read from both files, not trusted."""
    with columnar.engine(memory_limit) as connection:
        columnar.scan(connection, "trained", storage, [snapshot_rows(trained.snapshot)])
        columnar.scan(connection, "holdout", storage, [snapshot_rows(holdout.snapshot)])
        return columnar.count_shared_customers(connection, "trained", "holdout", contract.key, TRAINING, HOLDOUT)


def snapshot_url(storage: Storage, snapshot: Snapshot) -> str:
    """Where the snapshot's rows are."""
    return storage.url(snapshot_rows(snapshot.snapshot))


@contextmanager
def _latest_rows(storage: Storage, batches: Sequence[Batch], contract: Contract, sampling: Sampling) -> Iterator[Path]:
    """A scratch file with the latest row of every customer of these batches, which are in the order of arrival."""
    arrivals = pa.table(
        {
            "_batch": pa.array([batch_number(batch.batch) for batch in batches], pa.int64()),
            "_arrived_at": pa.array([batch.arrived_at for batch in batches], pa.timestamp("us", "UTC")),
            "_rank": pa.array(np.arange(len(batches))),
        }
    )
    with storage.scratch() as folder, columnar.engine(sampling.memory_limit) as connection:
        columnar.scan(connection, "accepted", storage, [accepted(batch.batch) for batch in batches])
        _require_columns(connection.view("accepted").columns, contract)
        rows = folder / "rows.parquet"
        columnar.write_latest_rows(connection, arrivals, contract, sampling.salt, rows)
        yield rows


def _describe(rows: Path, batches: Sequence[Batch], contract: Contract, sampling: Sampling) -> Snapshot:
    buckets = pq.read_table(rows, columns=[BUCKET])[BUCKET].to_numpy()
    sizes = np.bincount(buckets, minlength=columnar.BUCKETS)
    return Snapshot(
        snapshot=content_hash(rows, [*contract.names, BUCKET]),
        rows=len(buckets),
        training_rows=int(sizes[TRAINING.start : TRAINING.stop].sum()),
        holdout_rows=int(sizes[HOLDOUT.start : HOLDOUT.stop].sum()),
        batches=[batch.batch for batch in batches],
        salt_fingerprint=sampling.fingerprint,
        contract_fingerprint=contract.fingerprint,
        made_at=datetime.now(UTC),
    )


def _keep(storage: Storage, rows: Path, snapshot: str) -> None:
    name = snapshot_rows(snapshot)
    if storage.exists(name):
        with storage.reading(name) as stream:
            if pq.read_schema(stream).names == pq.read_schema(rows).names:
                return
    storage.move_in(rows, name)  # also over a file of an earlier version, which says less of each row


def _read(storage: Storage, snapshot: Snapshot, buckets: range) -> pd.DataFrame:
    within = [(BUCKET, ">=", buckets.start), (BUCKET, "<", buckets.stop)]
    with storage.reading(snapshot_rows(snapshot.snapshot)) as stream:
        rows: pd.DataFrame = pq.read_table(stream, filters=within).to_pandas(date_as_object=False)
    return rows


def _require_columns(found: Sequence[str], contract: Contract) -> None:
    """What batches of an earlier contract lack is absent in their rows, where today's contract and its models can bear that."""
    needed = [
        column.name
        for column in contract.columns
        if not column.nullable and column.role not in (Role.CARRIED, Role.POSITION)
    ]
    missing = [name for name in (*needed, "_line", "_batch") if name not in found]
    if missing:
        raise ChurnError(
            f"No accepted batch has the column {', '.join(missing)}: all were taken in under another contract. Declare a new feature "
            "`nullable`, so that earlier rows count without it; or use the contract that they were taken in with."
        )
