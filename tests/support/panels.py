"""Panels that were accepted in batches of rows, labels and leavers, and what they come to by the plainest means."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from churn.contract import Column, Contract, Kind, Role
from churn.foundation.ledger import Ledger
from churn.foundation.parts import WrittenPart, store_parts
from churn.foundation.paths import accepted
from churn.foundation.records import BatchVerdict
from churn.foundation.storage import Storage
from churn.intake.judged_rows import accepted_schema, batch_number
from churn.intake.label_files import LABELS, LEAVERS, ROWS, contract_of

HORIZON = 30
PANEL = Contract(
    "panel",
    (
        Column("Customer", Kind.INTEGER, Role.KEY, 1, 10**9),
        Column("AsOf", Kind.DATE, Role.AS_OF),
        Column("Balance", Kind.NUMBER, Role.FEATURE),
        Column("Segment", Kind.TEXT, Role.FEATURE, nullable=True, max_levels=5),
        Column("Left", Kind.INTEGER, Role.TARGET, 0, 1),
    ),
    horizon_days=HORIZON,
)
numbers = count(1)


def at_noon(day: date) -> datetime:
    """The time at which the files of a day arrive."""
    return datetime.combine(day, time(12), UTC)


@dataclass
class PanelBatches:
    """Accepted batches: their lines, kind, date and what they state, by hash, in the order in which they were accepted."""

    storage: Storage
    ledger: Ledger
    folder: Path
    lines: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    about: dict[str, tuple[str, datetime, date | None]] = field(default_factory=dict)
    withdrawn: set[str] = field(default_factory=set)

    def accept(
        self, lines: list[dict[str, Any]], day: date, kind: str = ROWS, through: date | None = None, parts: int = 1
    ) -> str:
        """Store lines as intake does after it has accepted them."""
        batch, contract = f"{next(numbers):064x}"[::-1], contract_of(kind, PANEL)
        added = {"_batch": batch_number(batch)}
        full = [line | added | {"_line": number} for number, line in enumerate(lines, start=2)]
        table = pa.Table.from_pylist(full, accepted_schema(contract))
        written = []
        for number, bounds in enumerate(np.array_split(np.arange(len(lines)), parts)):
            file = self.folder / f"{batch}-{number}.parquet"
            pq.write_table(table.take(pa.array(bounds, pa.int64())), file)
            written.append(WrittenPart.of(file))
        manifest = store_parts(self.storage, accepted(batch), written)
        self.ledger.add_batch(batch, f"{batch}.csv", 1, at_noon(day))
        verdict = BatchVerdict(
            "accepted", len(lines), len(lines), 0, accepted_sha256=manifest.digest, kind=kind,
            complete_through=through.isoformat() if through else None,
        )  # fmt: skip
        self.ledger.judge_batch(batch, "night", verdict)
        self.lines[batch], self.about[batch] = lines, (kind, at_noon(day), through)
        return batch

    def panel(self) -> Panel:
        """The panel of all batches that are not withdrawn, statement by statement."""
        found = Panel()
        living = sorted(self.lines.keys() - self.withdrawn, key=lambda batch: (self.about[batch][1], f"{batch}.csv"))
        for rank, batch in enumerate(living):
            kind, at, through = self.about[batch]
            if through:
                found.through = max(found.through or through, through)
            for line in self.lines[batch]:
                if kind == LEAVERS:
                    found.events[line["Customer"], line["event_date"]] = (rank, at)
                    continue
                place = (line["Customer"], line["AsOf"])
                if kind == ROWS:
                    found.rows[place] = {name: line.get(name) for name in ("Balance", "Segment")}
                    found.first.setdefault(place, (at, line.get("Left") is not None))
                if line.get("Left") is not None:
                    found.labels[place] = (rank, at, line["Left"])
        return found


@dataclass
class Panel:
    """Rows, labels and events by customer and date, as they were last said."""

    rows: dict[tuple[int, date], dict[str, Any]] = field(default_factory=dict)
    first: dict[tuple[int, date], tuple[datetime, bool]] = field(default_factory=dict)
    labels: dict[tuple[int, date], tuple[int, datetime, int]] = field(default_factory=dict)
    events: dict[tuple[int, date], tuple[int, datetime]] = field(default_factory=dict)
    through: date | None = None

    def label(self, place: tuple[int, date]) -> tuple[int, datetime, int] | None:
        """The last word on the label of a row: rank of the batch, time, and label. A 0 before the horizon has passed undoes no event."""
        events = [
            (rank, at, 1)
            for (customer, day), (rank, at) in self.events.items()
            if customer == place[0] and place[1] < day <= place[1] + timedelta(HORIZON)
        ]
        said = [self.labels[place]] if place in self.labels else []
        if events and said and said[0][2] == 0 and said[0][1].date() <= place[1] + timedelta(HORIZON):
            said = []
        return max(said + events, default=None, key=lambda word: word[0])

    def complete(self, cutoff: date) -> set[date]:
        """The as-of dates of which every label is final."""
        dates = set()
        for day in {day for _, day in self.rows}:
            end = day + timedelta(HORIZON)
            words = [self.label(place) for place in self.rows if place[1] == day]
            labelled = all(word is not None and word[1].date() > end for word in words)
            if end < cutoff and (labelled or (self.through is not None and end <= self.through)):
                dates.add(day)
        return dates

    def counted(self, cutoff: date) -> dict[tuple[int, date], int]:
        """The rows that count, with their labels."""
        complete, found = self.complete(cutoff), {}
        for place in self.rows:
            end, word = place[1] + timedelta(HORIZON), self.label(place)
            first, labelled = self.first[place]
            arrived_after = first.date() > end and labelled
            if end < cutoff and (arrived_after or place[1] in complete):
                found[place] = word[2] if word else 0
        return found


__all__ = ["HORIZON", "LABELS", "LEAVERS", "PANEL", "ROWS", "Panel", "PanelBatches", "at_noon"]
