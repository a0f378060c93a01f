"""The history that was accepted before a batch: the latest usable snapshot, and the batches that it does not contain.

A snapshot is taken in every run, so that reading the history costs the same however many batches there are.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, datetime
from statistics import median

import duckdb
import pyarrow as pa

from churn.contract import Contract
from churn.foundation import columnar
from churn.foundation.ledger import Ledger
from churn.foundation.parts import has_table, part_names
from churn.foundation.paths import accepted, snapshot_rows
from churn.foundation.storage import Storage
from churn.intake.judged_rows import batch_number
from churn.intake.label_files import EVENT_DATE, LABELS, LEAVERS, ROWS, known_periods

RECENT = 5
"""Number of snapshots to try, the latest first. A withdrawn batch makes those that contain it unusable."""


@dataclass(frozen=True)
class History:
    """The accepted history. Its rows are in the view `before` of the engine.

    - `columns`: the columns of the contract that all of it has
    - `sizes`: the accepted rows of each batch
    - `events`: the accepted rows with the event
    - `periods`: those of which every event is known from files of leavers
    """

    columns: list[str]
    sizes: list[int]
    events: int
    periods: tuple[tuple[date, date], ...]

    @property
    def rows(self) -> int:
        """Number of accepted rows, including repeated customers."""
        return sum(self.sizes)

    @property
    def event_rate(self) -> float:
        """Share of events among all accepted rows."""
        return self.events / self.rows

    @property
    def median_size(self) -> float:
        """Median number of accepted rows per batch."""
        return median(self.sizes)


def open_history(
    connection: duckdb.DuckDBPyConnection, storage: Storage, ledger: Ledger, contract: Contract
) -> History | None:
    """Make the accepted history readable as the view `before`; None before the first accepted batch."""
    accepted_batches = ledger.batches(state="accepted")
    batches = [batch.batch for batch in accepted_batches]
    if not any((batch.kind or ROWS) == ROWS for batch in accepted_batches):
        return None
    held: set[str] = set()
    base: list[str] = []
    for snapshot in ledger.snapshots(limit=RECENT):
        usable = set(snapshot.batches) <= set(batches) and snapshot.contract_fingerprint == contract.fingerprint
        if usable and has_table(storage, snapshot_rows(snapshot.snapshot)):
            held, base = set(snapshot.batches), part_names(storage, snapshot_rows(snapshot.snapshot))
            break
    if base:
        columnar.scan(connection, "latest", storage, base)
    arrivals: dict[str, datetime] = {}
    views: dict[str, str | None] = {ROWS: None, LABELS: None, LEAVERS: None}
    for kind, view in ((ROWS, "more"), (LABELS, "labels_apart"), (LEAVERS, "leavers")):
        fresh = [batch for batch in accepted_batches if batch.batch not in held and (batch.kind or ROWS) == kind]
        if fresh:
            names = [name for batch in fresh for name in part_names(storage, accepted(batch.batch))]
            columnar.scan(connection, view, storage, names)
            arrivals |= {batch.batch: batch.arrived_at for batch in fresh}
            views[kind] = view
    table = pa.table(
        {
            "_batch": pa.array([batch_number(batch) for batch in arrivals], pa.int64()),
            "_arrived_at": pa.array(list(arrivals.values()), pa.timestamp("us", "UTC")),
        }
    )
    periods = known_periods(accepted_batches)
    leavers = tuple(batch_number(batch.batch) for batch in accepted_batches if batch.kind == LEAVERS)
    stated = columnar.Statements(views[LABELS], views[LEAVERS], EVENT_DATE, leavers, periods)
    columns = columnar.unite_history(connection, "latest" if base else None, views[ROWS], table, contract, stated)
    sizes = ledger.accepted_sizes()
    return History(columns, [rows for rows, _ in sizes], sum(events for _, events in sizes), periods)
