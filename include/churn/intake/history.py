"""The history that was accepted before a batch, and what the comparison of the batch with it gives.

The history is the latest usable snapshot, and the batches that it does not contain. A snapshot is taken in every run, and within a run
of many files, so that reading the history costs the same however many batches there are.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from statistics import median

import duckdb
import pyarrow as pa

from churn.contract import Contract
from churn.foundation import columnar
from churn.foundation.ledger import Ledger
from churn.foundation.parts import has_table, part_names
from churn.foundation.paths import snapshot_rows
from churn.foundation.records import Snapshot
from churn.foundation.storage import Storage
from churn.intake.accepted_parts import AcceptedPart, accepted_parts
from churn.intake.judged_rows import Judged, batch_number
from churn.intake.label_files import EVENT_DATE, LABELS, LEAVERS, ROWS, known_periods

RECENT = 5
"""Number of snapshots to try, the latest first. A withdrawn batch makes those that contain it unusable."""
VIEWS = {ROWS: "more", LABELS: "labels_apart", LEAVERS: "leavers"}
"""The views of batches that the snapshot does not contain, by their kind."""


@dataclass(frozen=True)
class Known:
    """Where the accepted history is.

    - `base`: the files of a snapshot, in the order of its parts; none if no snapshot is usable
    - `base_rows`: its rows, and `base_salt`, the fingerprint of the salt that assigned its customers to buckets
    - `fresh`: the files of batches that the snapshot does not contain; their rank is a place in `arrivals`
    - `arrivals`: `_batch` and `_arrived_at` of those batches
    - `leavers`: the numbers of all batches of leavers
    - `periods`: those of which every event is known from files of leavers
    - `sizes`: the accepted rows of each batch, and `events`, those of all of them with the event
    """

    storage: Storage
    base: tuple[str, ...]
    base_rows: int
    base_salt: str | None
    fresh: tuple[AcceptedPart, ...]
    arrivals: pa.Table
    leavers: tuple[int, ...]
    periods: tuple[tuple[date, date], ...]
    sizes: tuple[int, ...]
    events: int

    def files(self, kind: str) -> list[str]:
        """The names of the files of batches of a kind that the snapshot does not contain."""
        return [part.name for part in self.fresh if part.kind == kind]


@dataclass(frozen=True)
class Question:
    """What a batch is compared with the history for.

    - `whole`: the data contract, and `contract`, that of the rows of the batch
    - `sampled`: the columns of which drift is measured
    - `rates`: whether the final labels are counted
    - `leavers`: of a file of leavers, the periods of which every event is known once it is accepted, and the days before it of which
      that is not so; otherwise None
    """

    whole: Contract
    contract: Contract
    sampled: tuple[str, ...] = ()
    rates: bool = False
    leavers: tuple[tuple[tuple[date, date], ...], tuple[date, date] | None] | None = None


@dataclass(frozen=True)
class Compared:
    """The answer for some customers or for all of them; answers for different customers can be added up.

    - `columns`: the columns of the contract that all of the history has
    - `customers`: those of the batch with history; `relabelled` and `changed` as `columnar.count_disputes`
    - `final`: the rows with a final label, and `final_events`, those of them with the event
    - `leavers`: what a file of leavers would do
    - `before`, `now`: samples of the history and of the batch
    """

    columns: tuple[str, ...]
    customers: int
    relabelled: int
    changed: int
    final: int
    final_events: int
    leavers: columnar.LeaversCount
    before: pa.Table
    now: pa.Table

    def __add__(self, more: Compared) -> Compared:
        """The answer for the customers of both."""
        return Compared(
            self.columns,
            self.customers + more.customers,
            self.relabelled + more.relabelled,
            self.changed + more.changed,
            self.final + more.final,
            self.final_events + more.final_events,
            self.leavers + more.leavers,
            pa.concat_tables([self.before, more.before]),
            pa.concat_tables([self.now, more.now]),
        )


@dataclass(frozen=True)
class History:
    """The accepted history as the rules for a batch need it."""

    known: Known
    compared: Compared

    @property
    def rows(self) -> int:
        """Number of accepted rows, including repeated customers."""
        return sum(self.known.sizes)

    @property
    def event_rate(self) -> float:
        """Share of events among all accepted rows."""
        return self.known.events / self.rows

    @property
    def median_size(self) -> float:
        """Median number of accepted rows per batch."""
        return median(self.known.sizes)


def find_history(storage: Storage, ledger: Ledger, contract: Contract) -> Known | None:
    """Find the accepted history; None before the first accepted batch of rows.

    Raises:
        PartFault: the manifest of an accepted batch has been changed.
    """
    batches = ledger.batches(state="accepted")
    if not any((batch.kind or ROWS) == ROWS for batch in batches):
        return None
    snapshot = _latest_usable(storage, ledger, contract, {batch.batch for batch in batches})
    held = set(snapshot.batches) if snapshot else set()
    base = part_names(storage, snapshot_rows(snapshot.snapshot)) if snapshot else []
    fresh = [batch for batch in batches if batch.batch not in held]
    sizes = ledger.accepted_sizes()
    return Known(
        storage,
        tuple(base),
        snapshot.rows if snapshot else 0,
        snapshot.salt_fingerprint if snapshot else None,
        tuple(part for rank, batch in enumerate(fresh) for part in accepted_parts(storage, batch, rank)),
        pa.table(
            {
                "_batch": pa.array([batch_number(batch.batch) for batch in fresh], pa.int64()),
                "_arrived_at": pa.array([batch.arrived_at for batch in fresh], pa.timestamp("us", "UTC")),
            }
        ),
        tuple(batch_number(batch.batch) for batch in batches if batch.kind == LEAVERS),
        tuple(known_periods(batches)),
        tuple(rows for rows, _ in sizes),
        sum(events for _, events in sizes),
    )


def count_fresh(storage: Storage, ledger: Ledger, contract: Contract) -> int:
    """Count the accepted batches that the latest usable snapshot does not contain: the next batch is compared with each of them."""
    accepted = set(ledger.hashes(state="accepted"))
    snapshot = _latest_usable(storage, ledger, contract, accepted)
    return len(accepted.difference(snapshot.batches if snapshot else ()))


def compare_here(
    connection: duckdb.DuckDBPyConnection, known: Known, judged: Judged, question: Question, sample: int
) -> Compared:
    """Compare a batch with the history on this machine.

    Args:
        connection: the engine.
        known: where the history is.
        judged: the batch.
        question: what is compared.
        sample: about this number of rows is sampled of each side.

    Raises:
        ChurnError: files of the history are missing or damaged, or were accepted under another contract.
    """
    if known.base:
        columnar.scan(connection, "latest", known.storage, known.base)
    views: dict[str, str | None] = dict.fromkeys(VIEWS)
    for kind, view in VIEWS.items():
        if files := known.files(kind):
            columnar.scan(connection, view, known.storage, files)
            views[kind] = view
    sampling = Sampled(sample, None, None)
    return compare(connection, "latest" if known.base else None, views, known, judged.good, question, sampling)


@dataclass(frozen=True)
class Sampled:
    """About how many rows are sampled of each side, and the rows that the batch and the history have if only a part of them is at hand."""

    rows: int
    now: int | None
    before: int | None


def compare(
    connection: duckdb.DuckDBPyConnection,
    latest: str | None,
    views: Mapping[str, str | None],
    known: Known,
    good: Sequence[Path],
    question: Question,
    sampled: Sampled,
) -> Compared:
    """Compare the good rows of some customers with their history.

    Args:
        connection: the engine.
        latest: the view of the snapshot, if there is one.
        views: those of other batches, by kind.
        known: what is known of the history.
        good: Parquet files of good rows.
        question: what is compared.
        sampled: how rows are sampled.
    """
    whole = question.whole
    stated = columnar.Statements(views[LABELS], views[LEAVERS], EVENT_DATE, known.leavers, known.periods)
    columns = columnar.unite_history(connection, latest, views[ROWS], known.arrivals, whole, stated)
    labelled = question.contract.labelled
    disputes = columnar.count_disputes(connection, good, columns, question.contract) if labelled else (0, 0, 0)
    final = columnar.count_final_labels(connection, whole) if question.rates else (0, 0)
    leavers = columnar.LeaversCount()
    if question.leavers is not None:
        leavers = columnar.count_leavers(connection, good, whole, EVENT_DATE, *question.leavers)
    names = [name for name in question.sampled if name in columns]
    before = now = pa.table({})
    if names:
        before = columnar.sample_rows(connection, "before", names, whole, sampled.rows, sampled.before)
        now = columnar.sample_rows(connection, good, names, whole, sampled.rows, sampled.now)
    return Compared(tuple(columns), *disputes, *final, leavers, before, now)


def _latest_usable(storage: Storage, ledger: Ledger, contract: Contract, accepted: Set[str]) -> Snapshot | None:
    """The latest snapshot of these batches or some of them, with its rows."""
    for snapshot in ledger.snapshots(limit=RECENT):
        usable = set(snapshot.batches) <= accepted and snapshot.contract_fingerprint == contract.fingerprint
        if usable and has_table(storage, snapshot_rows(snapshot.snapshot)):
            return snapshot
    return None
