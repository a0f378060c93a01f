"""Accepted rows become a snapshot: the latest row of every customer, named by the hash of its rows."""

from __future__ import annotations

import hashlib
import hmac
from dataclasses import dataclass
from datetime import UTC, datetime

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from churn.contract import Contract
from churn.errors import ChurnError, NothingToDo
from churn.foundation import columnar
from churn.foundation.ledger import Ledger, Snapshot
from churn.foundation.storage import SNAPSHOTS, Storage
from churn.intake.acceptance import accepted

HOLDOUT = range(20)
RESERVE = range(20, 25)
TRAINING = range(25, 100)


@dataclass(frozen=True)
class Sampling:
    """What sorts customers into buckets: the secret salt, and the memory that the sorting may use."""

    salt: bytes
    memory_limit: str

    @property
    def fingerprint(self) -> str:
        """Tells two salts apart without telling either; 16 hex digits."""
        return hmac.new(self.salt, b"churn bucket salt", hashlib.sha256).hexdigest()[:16]


def take_snapshot(storage: Storage, ledger: Ledger, contract: Contract, sampling: Sampling) -> Snapshot:
    """Take the snapshot of everything accepted so far; the same rows give the same snapshot.

    Raises:
        NothingToDo: no batch has been accepted yet.
    """
    batches = ledger.batches(state="accepted")
    if not batches:
        raise NothingToDo("No batch has been accepted yet: there is nothing to train on. `churn land FILE` lands one.")
    tables = [
        table.append_column("_arrival", pa.array([batch.arrival] * table.num_rows, pa.int64()))
        for batch in batches
        for table in [storage.read_table(accepted(batch.batch))]
    ]
    with columnar.engine(sampling.memory_limit) as connection:
        rows = columnar.latest_rows(connection, _united(tables, contract), contract, sampling.salt)
        name = columnar.content_hash(connection, rows.drop_columns(["_arrival"]))
    if not storage.exists(_file(name)):
        storage.write_table(_file(name), rows)
    snapshot = Snapshot(
        snapshot=name,
        rows=rows.num_rows,
        training_rows=_within(rows, TRAINING).num_rows,
        holdout_rows=_within(rows, HOLDOUT).num_rows,
        batches=[batch.batch for batch in batches],
        salt_fingerprint=sampling.fingerprint,
        contract_fingerprint=contract.fingerprint,
        made_at=datetime.now(UTC),
    )
    ledger.add_snapshot(snapshot)
    return snapshot


def training_rows(storage: Storage, snapshot: Snapshot) -> pd.DataFrame:
    """The customers that a challenger may learn from: buckets 25-99, ordered by key."""
    return _read(storage, snapshot, TRAINING)


def holdout_rows(storage: Storage, snapshot: Snapshot) -> pd.DataFrame:
    """The customers that no version is ever trained on: buckets 0-19, ordered by key."""
    return _read(storage, snapshot, HOLDOUT)


def snapshot_url(storage: Storage, snapshot: Snapshot) -> str:
    """Where the snapshot's rows are."""
    return storage.url(_file(snapshot.snapshot))


def _read(storage: Storage, snapshot: Snapshot, buckets: range) -> pd.DataFrame:
    rows: pd.DataFrame = _within(storage.read_table(_file(snapshot.snapshot)), buckets).to_pandas()
    return rows


def _file(name: str) -> str:
    return f"{SNAPSHOTS}/{name}.parquet"


def _within(rows: pa.Table, buckets: range) -> pa.Table:
    bucket = rows["_bucket"]
    return rows.filter(pc.and_(pc.greater_equal(bucket, buckets.start), pc.less(bucket, buckets.stop)))


def _united(tables: list[pa.Table], contract: Contract) -> pa.Table:
    """Batches taken in under an earlier contract must still have today's columns."""
    for table in tables:
        missing = [name for name in contract.names if name not in table.column_names]
        if missing:
            raise ChurnError(
                f"An accepted batch has no column {', '.join(missing)}: it was taken in under another contract. "
                "Use the contract that it was taken in with, or begin with a new data root."
            )
    wanted = [*contract.names, "_line", "_arrival"]
    return pa.concat_tables([table.select(wanted) for table in tables], promote_options="permissive")
