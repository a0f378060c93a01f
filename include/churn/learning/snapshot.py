"""Takes snapshots: the latest accepted row of every customer, named by the hash of the rows."""

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
from churn.intake.judged_rows import batch_number
from churn.learning.content import content_hash

HOLDOUT = range(20)
RESERVE = range(20, 25)
"""Never trained on and never compared on: the only customers that no decision has looked at, kept to confirm promotions."""
TRAINING = range(25, 100)
BUCKET = "_bucket"
_TRAINING_DRAW = "training"
"""Label of the draw that orders customers for training. It has nothing to do with their buckets."""


def take_snapshot(
    storage: Storage, ledger: Ledger, contract: Contract, sampling: Sampling, without: Collection[str] = ()
) -> Snapshot:
    """Take a snapshot of everything accepted so far. The same rows give the same snapshot.

    Args:
        storage: the data root.
        ledger: knows the accepted batches.
        contract: the data contract.
        sampling: assigns customers to buckets.
        without: batches to leave out, as if they had not arrived.

    Raises:
        NothingToDo: no batch has been accepted yet.
        ChurnError: batches of an earlier contract lack a column that today's contract needs, all of them or some.
    """
    batches = [batch for batch in ledger.batches(state="accepted") if batch.batch not in without]
    if not batches:
        raise NothingToDo("No batch has been accepted yet, so there is nothing to train on. Next: `churn land FILE`.")
    with _latest_rows(storage, batches, contract, sampling) as rows:
        _require_values(rows, contract)
        snapshot = _describe(rows, batches, contract, sampling)
        _keep(storage, rows, snapshot.snapshot)
    ledger.add_snapshot(snapshot)
    return snapshot


def rebuild_snapshot(
    storage: Storage, ledger: Ledger, contract: Contract, sampling: Sampling, snapshot: Snapshot
) -> None:
    """Rebuild a snapshot from the ledger, and write its file if it is missing.

    Raises:
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
    held = set(snapshot.batches)
    batches = [batch for batch in ledger.batches() if batch.batch in held]
    with _latest_rows(storage, batches, contract, sampling) as rows:
        rebuilt = _describe(rows, batches, contract, sampling).snapshot
        if rebuilt != snapshot.snapshot:
            raise ChurnError(
                f"Snapshot {snapshot.snapshot[:12]} now has other rows ({rebuilt[:12]}), so an accepted file has been changed. "
                "`churn audit --hashes` shows which."
            )
        _keep(storage, rows, rebuilt)


@contextmanager
def drawn_training_rows(
    storage: Storage, snapshot: Snapshot, contract: Contract, sampling: Sampling, most: int
) -> Iterator[Path]:
    """A scratch file with customers that a challenger may be trained on (buckets 25-99), in the order of a draw.

    Features are doubles and texts, and the target is an integer. The first rows are a sample of any size.
    """
    with storage.scratch() as folder, columnar.engine(sampling.spread.memory_limit) as connection:
        columnar.scan(connection, "snapshot", storage, [snapshot_rows(snapshot.snapshot)])
        file = folder / "training.parquet"
        columnar.write_drawn_rows(connection, "snapshot", contract, TRAINING, sampling.salt, _TRAINING_DRAW, most, file)
        yield file


def holdout_pieces(storage: Storage, snapshot: Snapshot, rows: int) -> Iterator[pd.DataFrame]:
    """The customers that no version is ever trained on, ordered by key, in frames of a limited number of rows.

    Besides the columns of the contract, each has `_customer` (64 bits of the keyed hash), `_arrived_at` and `_batch`.
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
    """Count the holdout customers of one snapshot that a training on the other has seen, by reading both files."""
    with columnar.engine(memory_limit) as connection:
        columnar.scan(connection, "trained", storage, [snapshot_rows(trained.snapshot)])
        columnar.scan(connection, "holdout", storage, [snapshot_rows(holdout.snapshot)])
        return columnar.count_shared_customers(connection, "trained", "holdout", contract.key, TRAINING, HOLDOUT)


def snapshot_url(storage: Storage, snapshot: Snapshot) -> str:
    """The address of the rows of a snapshot."""
    return storage.url(snapshot_rows(snapshot.snapshot))


@contextmanager
def _latest_rows(storage: Storage, batches: Sequence[Batch], contract: Contract, sampling: Sampling) -> Iterator[Path]:
    """A scratch file with the latest row of every customer in these batches, which are in the order of arrival."""
    arrivals = pa.table(
        {
            "_batch": pa.array([batch_number(batch.batch) for batch in batches], pa.int64()),
            "_arrived_at": pa.array([batch.arrived_at for batch in batches], pa.timestamp("us", "UTC")),
            "_rank": pa.array(np.arange(len(batches))),
        }
    )
    with storage.scratch() as folder, columnar.engine(sampling.spread.memory_limit) as connection:
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
    storage.move_in(rows, name)  # also replaces a file of an earlier version, which has fewer columns


def _require_columns(columns: Sequence[str], contract: Contract) -> None:
    """Check that the columns that batches of an earlier contract lack may be missing today."""
    missing = [name for name in (*_required(contract), "_line", "_batch") if name not in columns]
    if missing:
        raise ChurnError(
            f"No accepted batch has the column {', '.join(missing)}, because all were accepted under another contract. Declare a new feature "
            "`nullable`, so that earlier rows can be used without it, or restore the earlier contract."
        )


def _require_values(rows: Path, contract: Contract) -> None:
    """Check that every customer has a value in every required column: some batches may be older than the column.

    Intake checks each batch against the contract of its time. The counts come from the statistics in the file, so nothing is read.
    """
    file = pq.read_metadata(rows)
    groups = [file.row_group(group) for group in range(file.num_row_groups)]
    places = {file.schema.column(place).name: place for place in range(file.num_columns)}
    counts = {
        name: sum(group.column(places[name]).statistics.null_count for group in groups) for name in _required(contract)
    }
    lacking = [f"{count:,} have no {name}" for name, count in counts.items() if count]
    if lacking:
        raise ChurnError(
            f"Of {file.num_rows:,} customers, {' and '.join(lacking)}, which the contract requires: the newest row of each comes from a batch that "
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
