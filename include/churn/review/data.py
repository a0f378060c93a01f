"""The data: what arrived and what became of it, which rules its rows broke, and what drifted. Nothing of a customer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from churn.foundation.ledger import Ledger
from churn.foundation.links import docs_page
from churn.foundation.records import Batch, Drift, Sighting, Snapshot, Withdrawal
from churn.review.presentation import Link
from churn.settings import Settings

PAGE, EARLIER, HEAT = 20, 20, 20
"""Batches on a page; how many before a batch say whether a rule is broken anew; batches in the heat map."""


@dataclass(frozen=True)
class Reason:
    """A rule that rows broke: how many, and whether none of the batches before had any; `share` is of the rows that arrived."""

    rule: str
    rows: int
    share: float
    new: bool


@dataclass(frozen=True)
class BatchLine:
    """A batch: arrived = accepted + set aside. Counts are None until it is judged."""

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
    """Drift as feature x batch; a cell is the population stability index, None where it was not measured.

    `drifted` tells of each cell whether it is beyond its bound; batches are the oldest first.
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
    """A page of batches, newest first; `older` is where the next page begins, None at the end."""

    headline: str
    total: int
    waiting: int
    lines: list[BatchLine]
    older: int | None
    first: bool
    heat: Heat | None


@dataclass(frozen=True)
class Place:
    """A snapshot that a batch is part of."""

    snapshot: str
    made_at: datetime
    rows: int


@dataclass(frozen=True)
class BatchView:
    """The page of a batch. `first` and `last` are the first and the last snapshot that hold it, None where none does."""

    line: BatchLine
    size: int
    seen: list[Sighting]
    origin: str | None
    withdrawals: list[Withdrawal]
    first: Place | None
    last: Place | None
    drift: list[Drift]
    reference_rows: int | None
    commands: list[str]
    links: list[Link]


def load_data(ledger: Ledger, before: int | None = None, limit: int = PAGE) -> Data:
    """Read a page of batches, with the drift of its newest."""
    rows = ledger.newest_batches(limit + EARLIER, before)
    shown = rows[:limit]
    found = ledger.drifts_of([one.batch for one in shown])
    older = rows[limit - 1].arrival if len(rows) > limit else None
    return make_data(rows, found, ledger.count_batches(), ledger.count_batches("arrived"), older, before is None, limit)


def make_data(
    rows: Sequence[Batch],
    drift: dict[str, list[Drift]],
    total: int,
    waiting: int,
    older: int | None = None,
    first: bool = True,
    limit: int = PAGE,
) -> Data:
    """The page of what the ledger says; pure.

    Args:
        rows: batches, newest first; those after `limit` only say whether a rule is broken anew.
        drift: of each batch that has it.
        total: batches in the ledger.
        waiting: of them not judged.
        older: where the next page begins.
        first: whether this is the newest page.
        limit: batches on the page.
    """
    lines = [
        _line(one, rows[at + 1 : at + 1 + EARLIER], drift.get(one.batch, [])) for at, one in enumerate(rows[:limit])
    ]
    return Data(
        _headline(lines, total, first), total, waiting, lines, older, first, make_heat(rows[:HEAT], drift, first)
    )


def make_heat(rows: Sequence[Batch], drift: dict[str, list[Drift]], first: bool = True) -> Heat | None:
    """Drift as a grid; None where no batch has been held against a history.

    Args:
        rows: batches, newest first.
        drift: of each batch that has it.
        first: whether the first of them is the newest of all.
    """
    shown = [one for one in reversed(rows) if drift.get(one.batch)]
    if not shown:
        return None
    newest = shown[-1]
    columns = sorted({one.column for batch in shown for one in drift[batch.batch]})
    cells = [{one.column: one for one in drift[batch.batch]} for batch in shown]
    grid = [[by.get(column) for by in cells] for column in columns]
    beyond = sorted((one for one in drift[newest.batch] if one.drifted), key=lambda one: -one.psi)
    named = ", ".join(f"{one.column} ({one.psi:.2f}, bound {one.bound:.2f})" for one in beyond)
    newest_here = "The newest batch" if first else "The newest of these"
    whose = newest_here if newest == rows[0] else f"{rows[0].name} was not measured; the newest that was"
    drifted = (
        f"drifted in {len(beyond)} of {len(cells[-1])} columns: {named}"
        if beyond
        else f"not drifted in any of {len(cells[-1])} columns"
    )
    verdict = f"{whose}, {newest.name}, has {drifted}."
    return Heat(
        columns,
        [one.batch for one in shown],
        [one.arrived_at for one in shown],
        [[one.psi if one else None for one in row] for row in grid],
        [[one.bound if one else None for one in row] for row in grid],
        [[bool(one and one.drifted) for one in row] for row in grid],
        verdict,
        f"Each batch is held against all rows that were accepted before it ({drift[newest.batch][0].reference_rows:,} for the newest; "
        "larger histories are sampled), by the population stability index.",
    )


def load_batch(ledger: Ledger, settings: Settings, name: str) -> BatchView | None:
    """Read a batch by its whole hash; None where there is none."""
    batch = ledger.batch(name)
    if batch is None:
        return None
    earlier = ledger.newest_batches(EARLIER, batch.arrival)
    first = ledger.first_snapshot(batch.judged_at) if batch.judged_at else None
    withdrawals = ledger.withdrawals_of([name])
    gone = withdrawals[-1].at if batch.state == "withdrawn" and withdrawals else None
    last = ledger.last_snapshot(until=gone)
    return make_batch(
        batch,
        earlier,
        ledger.drift(name),
        ledger.sightings_of([name]),
        withdrawals,
        [one for one in (first, last) if one],
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
    """The page of what the ledger says; pure."""
    beginning = batch.batch[:12]
    places = [Place(one.snapshot, one.made_at, one.rows) for one in snapshots if batch.batch in one.batches]
    judged = batch.state in ("accepted", "rejected", "withdrawn")
    return BatchView(
        line=_line(batch, earlier, drift),
        size=batch.size,
        seen=list(seen),
        origin=batch.origin,
        withdrawals=list(withdrawals),
        first=places[0] if places else None,
        last=places[-1] if places else None,
        drift=list(drift),
        reference_rows=drift[0].reference_rows if drift else None,
        commands=[
            *([f"churn quarantine export {beginning} -o rows.csv"] if batch.quarantined_rows else []),
            f"churn batches show {beginning}",
        ],
        links=[Link("Data Docs", docs_page(settings, batch.batch))] if judged else [],
    )


def _headline(lines: Sequence[BatchLine], total: int, first: bool) -> str:
    if not lines:
        return "No file has arrived yet."
    if not first:
        return f"Earlier batches, of {total:,} in all."
    newest = lines[0]
    if newest.arrived is None:
        return f"{newest.name} arrived {newest.arrived_at:%Y-%m-%d %H:%M} UTC and is not judged yet."
    if newest.state == "rejected":
        return f"The newest batch, {newest.name}, is rejected: none of its {newest.arrived:,} rows is used."
    anew = [one.rule for one in newest.reasons if one.new]
    broken = f" Newly broken: {', '.join(anew)}." if anew else ""
    state = " It is withdrawn." if newest.state == "withdrawn" else ""
    return (
        f"The newest batch, {newest.name}: {newest.arrived:,} rows arrived = {newest.accepted or 0:,} accepted + "
        f"{newest.set_aside or 0:,} set aside.{state}{broken}"
    )


def _line(batch: Batch, earlier: Sequence[Batch], drift: Sequence[Drift]) -> BatchLine:
    known = {rule[0] for one in earlier for rule in one.rules or []}
    judged_before = any(one.rules is not None for one in earlier)
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
            Reason(rule[0], rule[1], rule[1] / (batch.arrived_rows or 1), judged_before and rule[0] not in known)
            for rule in batch.rules or []
        ],
        why=batch.reason,
        warnings=batch.warnings or [],
        drifted=[one.column for one in drift if one.drifted],
        monitored=bool(drift),
    )
