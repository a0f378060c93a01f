"""The customers that no version is ever trained on, part by part: those of a snapshot in the buckets of the holdout."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import date
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from churn.contract import Contract
from churn.foundation import columnar
from churn.foundation.records import Snapshot
from churn.foundation.spread import ONE_CORE, Spread, by_threads
from churn.foundation.storage import Storage
from churn.learning.maturity import count_mask, counting_of
from churn.learning.snapshot import HOLDOUT, CustomerPart, customer_parts
from churn.learning.snapshot_parts import PANEL_FORMAT, latest_rows
from churn.learning.snapshot_writing import BUCKET

_EVIDENCE_DAYS = 180
"""Of a panel with a horizon, unseen customers are compared on as-of dates of this number of days up to the newest one that counts."""


@dataclass(frozen=True)
class Unseen:
    """The unseen customers of a snapshot, ordered by part and key.

    Besides the columns of the contract, each has `_customer` (64 bits of the keyed hash), `_arrived_at` and `_batch`. Of a panel, it is
    one row of each customer that counts, with `_label_batch` and `_first_at`: the newest one, or, with a horizon, the one of an as-of date
    that is drawn for the customer. The newest rows of those who left are all events, so that a comparison on the newest rows would find
    more of them than any version can expect.

    - `parts`: the files with them; the single file of an earlier version has other customers too
    - `dates`: the as-of dates to draw from; None without a horizon
    """

    storage: Storage
    snapshot: Snapshot
    contract: Contract
    parts: tuple[CustomerPart, ...]
    dates: tuple[date, ...] | None

    @classmethod
    def of(
        cls, storage: Storage, snapshot: Snapshot, contract: Contract, scratch: Path, spread: Spread = ONE_CORE
    ) -> Unseen:
        """Find the unseen customers of a snapshot.

        Raises:
            PartFault: a part of the snapshot is missing or has been changed.
        """
        parts = customer_parts(storage, snapshot, HOLDOUT)
        dates = None
        if snapshot.format == PANEL_FORMAT and contract.horizon_days is not None and contract.as_of is not None:
            work = by_threads(partial(_dates_of_part, storage, snapshot, contract, scratch))
            dates = _compared_dates(set().union(*spread.each(work, parts)))
        return cls(storage, snapshot, contract, tuple(parts), dates)

    def batches(self, part: CustomerPart, scratch: Path, rows: int) -> Iterator[pa.RecordBatch]:
        """The customers of a part, with at most this number of rows at a time.

        Raises:
            PartFault: the part is missing or has been changed.
        """
        with part.opened(self.storage, scratch) as file:
            for batch in self._counted(file, rows):
                buckets = batch[BUCKET].to_numpy()
                unseen = batch.filter(pa.array((buckets >= HOLDOUT.start) & (buckets < HOLDOUT.stop)))
                if len(unseen):
                    yield unseen

    def _counted(self, file: Path, rows: int) -> Iterator[pa.RecordBatch]:
        """The rows of a part; of a panel, one row of each customer that counts."""
        batches, contract = pq.ParquetFile(file).iter_batches(rows), self.contract
        if self.snapshot.format != PANEL_FORMAT:
            yield from batches
            return
        counting, target = counting_of(self.snapshot), contract.target.name
        counted = (batch.filter(pa.array(count_mask(batch, contract, counting))) for batch in batches)
        if self.dates is not None and contract.as_of is not None:
            as_of, dates, days = contract.as_of.name, self.dates, pa.array(self.dates, pa.date32())
            counted = (
                batch.filter(pc.equal(batch[as_of], days.take(pa.array(_drawn_dates(batch["_customer"], dates)))))
                for batch in counted
                if dates
            )
        for table in latest_rows(counted, contract):
            place = table.schema.get_field_index(target)
            labels = pc.fill_null(table[target], 0)
            yield from table.set_column(place, table.schema.field(place), labels).combine_chunks().to_batches()


def holdout_pieces(storage: Storage, snapshot: Snapshot, contract: Contract, rows: int) -> Iterator[pd.DataFrame]:
    """The unseen customers of a snapshot in frames of a limited number of rows.

    Raises:
        PartFault: a part of the snapshot is missing or has been changed.
    """
    waiting: list[pa.RecordBatch] = []  # parts with few rows are given together: each call of a model takes a while
    with storage.scratch() as folder:
        unseen = Unseen.of(storage, snapshot, contract, folder)
        for part in unseen.parts:
            for piece in unseen.batches(part, folder, rows):
                if waiting and sum(map(len, waiting)) + len(piece) > rows:
                    yield as_frame(waiting)
                    waiting = []
                waiting.append(piece)
        if waiting:
            yield as_frame(waiting)


def as_frame(batches: Sequence[pa.RecordBatch]) -> pd.DataFrame:
    """Rows as a frame."""
    frame: pd.DataFrame = pa.Table.from_batches(batches).to_pandas(date_as_object=False)
    return frame


def _dates_of_part(
    storage: Storage, snapshot: Snapshot, contract: Contract, scratch: Path, part: CustomerPart
) -> set[date]:
    """The as-of dates of the rows of a part that count."""
    name, counting, found = contract.row_key[-1].name, counting_of(snapshot), set[date]()
    wanted = [name, columnar.KIND, columnar.FIRST_AT, columnar.FIRST_LABELLED]
    with part.opened(storage, scratch) as file:
        for batch in pq.ParquetFile(file).iter_batches(columns=wanted):
            found |= set(batch.filter(pa.array(count_mask(batch, contract, counting)))[name].unique().to_pylist())
    return found


def _compared_dates(found: set[date]) -> tuple[date, ...]:
    newest = max(found, default=date.min)
    return tuple(sorted(day for day in found if (newest - day).days < _EVIDENCE_DAYS))


def _drawn_dates(customers: pa.Array, dates: Sequence[date]) -> np.ndarray[Any, np.dtype[np.int64]]:
    """The place of the date that is drawn for each customer: from bits of the keyed hash that no other draw uses."""
    mixed = customers.to_numpy(zero_copy_only=False).astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15)
    return np.asarray((mixed >> np.uint64(33)) % np.uint64(len(dates)), np.int64)
