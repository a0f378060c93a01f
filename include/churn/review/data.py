"""The data: what arrived, what became of it, which rules its rows broke, and what drifted. It shows no customer data."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from churn.foundation.ledger import Ledger
from churn.foundation.links import docs_page
from churn.foundation.records import Batch, Drift, Sighting, Snapshot, Withdrawal
from churn.foundation.wording import cause_of_rejection
from churn.intake.rule_words import in_words
from churn.review.presentation import ROWS_SHOWN, Link
from churn.settings import Settings

PAGE, EARLIER, HEAT = ROWS_SHOWN, 20, 20
"""Batches on a page; number of earlier batches that a newly broken rule is judged by; batches in the heat map."""


@dataclass(frozen=True)
class Reason:
    """A rule that rows broke.

    `rows` is their number and `share` their share of the rows that arrived. `new` marks a rule that no earlier batch had broken.
    """

    rule: str
    rows: int
    share: float
    new: bool


@dataclass(frozen=True)
class BatchLine:
    """A batch, with arrived = accepted + set aside (quarantined). Counts are None until it is validated."""

    batch: str
    name: str
    state: str
    arrived_at: datetime
    night: str | None
    arrived: int | None
    accepted: int | None
    set_aside: int | None
    unlabelled: int | None
    reasons: list[Reason]
    why: str | None
    warnings: list[str]
    drifted: list[str]
    monitored: bool


@dataclass(frozen=True)
class Heat:
    """Drift by feature (rows) and batch (columns, oldest first).

    `values` are population stability indices, None where drift was not measured; `drifted` marks values beyond their bound.
    """

    columns: list[str]
    batches: list[str]
    times: list[datetime]
    values: list[list[float | None]]
    bounds: list[list[float | None]]
    drifted: list[list[bool]]
    verdict: str
    reference: str


@dataclass(frozen=True)
class Data:
    """A page of batches, newest first; `older` is the cursor of the next page, None at the end."""

    headline: str
    total: int
    waiting: int
    lines: list[BatchLine]
    older: int | None
    first: bool
    heat: Heat | None


@dataclass(frozen=True)
class Place:
    """A snapshot that contains a batch."""

    snapshot: str
    made_at: datetime
    rows: int


@dataclass(frozen=True)
class BatchView:
    """The page of a batch. `first` and `last` are the first and last snapshot that contain it, None if there are none.

    `meanings` has the words for each rule that rows broke.
    """

    line: BatchLine
    size: int
    seen: list[Sighting]
    origin: str | None
    withdrawals: list[Withdrawal]
    first: Place | None
    last: Place | None
    drift: list[Drift]
    meanings: dict[str, str]
    reference_rows: int | None
    commands: list[str]
    links: list[Link]


def load_data(ledger: Ledger, before: int | None = None, limit: int = PAGE) -> Data:
    """Read a page of batches, and their drift.

    Args:
        ledger: the ledger.
        before: the cursor of the page; None for the newest one.
        limit: batches on the page.
    """
    rows = ledger.newest_batches(limit + EARLIER, before)
    drift = ledger.drifts_of([batch.batch for batch in rows[:limit]])
    older = rows[limit - 1].arrival if len(rows) > limit else None
    return make_data(rows, drift, ledger.count_batches(), ledger.count_batches("arrived"), older, before is None, limit)


def make_data(
    rows: Sequence[Batch],
    drift: dict[str, list[Drift]],
    total: int,
    waiting: int,
    older: int | None = None,
    first: bool = True,
    limit: int = PAGE,
) -> Data:
    """Make a page from what the ledger says; pure.

    Args:
        rows: batches, newest first; those after `limit` only serve to find newly broken rules.
        drift: the drift of each batch, by its hash.
        total: the number of batches in the ledger.
        waiting: how many of them are not validated yet.
        older: the cursor of the next page.
        first: whether this is the newest page.
        limit: batches on the page.
    """
    lines = [
        _make_line(batch, rows[at + 1 : at + 1 + EARLIER], drift.get(batch.batch, []))
        for at, batch in enumerate(rows[:limit])
    ]
    heat = make_heat(rows[:HEAT], drift, first)
    return Data(_write_headline(lines, total, first), total, waiting, lines, older, first, heat)


def make_heat(rows: Sequence[Batch], drift: dict[str, list[Drift]], first: bool = True) -> Heat | None:
    """Arrange drift as a grid; None if no batch was compared with earlier rows.

    Args:
        rows: batches, newest first.
        drift: the drift of each batch, by its hash.
        first: whether the first of the batches is the newest of all.
    """
    measured = [batch for batch in reversed(rows) if drift.get(batch.batch)]
    if not measured:
        return None
    newest = measured[-1]
    columns = sorted({cell.column for batch in measured for cell in drift[batch.batch]})
    by_column = [{cell.column: cell for cell in drift[batch.batch]} for batch in measured]
    grid = [[cells.get(column) for cells in by_column] for column in columns]
    drifted = sorted((cell for cell in drift[newest.batch] if cell.drifted), key=lambda cell: -cell.psi)
    named = ", ".join(f"{cell.column} ({cell.psi:.2f}, bound {cell.bound:.2f})" for cell in drifted)
    newest_here = "The newest batch" if first else "The newest batch on this page"
    subject = newest_here if newest == rows[0] else f"{rows[0].name} was not measured; the newest measured batch"
    result = (
        f"drifted in {len(drifted)} of {len(by_column[-1])} columns: {named}"
        if drifted
        else f"not drifted in any of {len(by_column[-1])} columns"
    )
    reference_rows = drift[newest.batch][0].reference_rows
    return Heat(
        columns,
        [batch.batch for batch in measured],
        [batch.arrived_at for batch in measured],
        [[cell.psi if cell else None for cell in row] for row in grid],
        [[cell.bound if cell else None for cell in row] for row in grid],
        [[bool(cell and cell.drifted) for cell in row] for row in grid],
        f"{subject}, {newest.name}, has {result}.",
        f"Each batch is compared with all rows accepted before it ({reference_rows:,} for the newest; larger histories are "
        "sampled). The measure is the population stability index.",
    )


def load_batch(ledger: Ledger, settings: Settings, name: str) -> BatchView | None:
    """Read the page of a batch by its full hash; None if the ledger does not have it."""
    batch = ledger.batch(name)
    if batch is None:
        return None
    earlier = ledger.newest_batches(EARLIER, batch.arrival)
    first = ledger.first_snapshot(batch.judged_at) if batch.judged_at else None
    withdrawals = ledger.withdrawals_of([name])
    withdrawn_at = withdrawals[-1].at if batch.state == "withdrawn" and withdrawals else None
    last = ledger.last_snapshot(until=withdrawn_at)
    return make_batch(
        batch,
        earlier,
        ledger.drift(name),
        ledger.sightings_of([name]),
        withdrawals,
        [snapshot for snapshot in (first, last) if snapshot],
        settings,
    )


def make_batch(
    batch: Batch,
    earlier: Sequence[Batch],
    drift: Sequence[Drift],
    seen: Sequence[Sighting],
    withdrawals: Sequence[Withdrawal],
    snapshots: Sequence[Snapshot],
    settings: Settings,
) -> BatchView:
    """Make the page from what the ledger says; pure."""
    short_hash = batch.batch[:12]
    places = [
        Place(snapshot.snapshot, snapshot.made_at, snapshot.rows)
        for snapshot in snapshots
        if batch.batch in snapshot.batches
    ]
    judged = batch.state in ("accepted", "rejected", "withdrawn")
    return BatchView(
        line=_make_line(batch, earlier, drift),
        size=batch.size,
        seen=list(seen),
        origin=batch.origin,
        withdrawals=list(withdrawals),
        first=places[0] if places else None,
        last=places[-1] if places else None,
        drift=list(drift),
        reference_rows=drift[0].reference_rows if drift else None,
        commands=[
            *([f"churn quarantine export {short_hash} -o rows.csv"] if batch.quarantined_rows else []),
            f"churn batches show {short_hash}",
        ],
        meanings={rule: in_words(rule, settings.contract) for rule, _, _ in batch.rules or []},
        links=[Link("Data Docs", docs_page(settings, batch.batch))] if judged else [],
    )


def _write_headline(lines: Sequence[BatchLine], total: int, first: bool) -> str:
    if not lines:
        return "No file has arrived yet."
    if not first:
        return f"Earlier batches ({total:,} in total)"
    newest = lines[0]
    if newest.arrived is None:
        return f"{newest.name} arrived {newest.arrived_at:%Y-%m-%d %H:%M} UTC and has not been validated yet."
    if newest.state == "rejected":
        return f"The newest batch, {newest.name}, was rejected: none of its {newest.arrived:,} rows are used."
    newly_broken = [reason.rule for reason in newest.reasons if reason.new]
    broken = f" Newly broken rules: {', '.join(newly_broken)}." if newly_broken else ""
    state = " It has been withdrawn." if newest.state == "withdrawn" else ""
    return (
        f"The newest batch, {newest.name}: {newest.arrived:,} rows arrived = {newest.accepted or 0:,} accepted + "
        f"{newest.set_aside or 0:,} quarantined.{state}{broken}"
    )


def _make_line(batch: Batch, earlier: Sequence[Batch], drift: Sequence[Drift]) -> BatchLine:
    broken_before = {rule[0] for previous in earlier for rule in previous.rules or []}
    has_history = any(previous.rules is not None for previous in earlier)
    return BatchLine(
        batch=batch.batch,
        name=batch.name,
        state=batch.state,
        arrived_at=batch.arrived_at,
        night=batch.night,
        arrived=batch.arrived_rows,
        accepted=batch.accepted_rows,
        set_aside=batch.quarantined_rows,
        unlabelled=batch.unlabelled_rows,
        reasons=[
            Reason(rule[0], rule[1], rule[1] / (batch.arrived_rows or 1), has_history and rule[0] not in broken_before)
            for rule in batch.rules or []
        ],
        why=batch.reason and cause_of_rejection(batch.reason),
        warnings=batch.warnings or [],
        drifted=[cell.column for cell in drift if cell.drifted],
        monitored=bool(drift),
    )
