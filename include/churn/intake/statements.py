"""What the rows of a file of leavers say of the file as a whole, read part by part, wherever the parts were judged."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from functools import partial, reduce
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from churn.foundation.scratch import given
from churn.foundation.spread import Spread, by_threads
from churn.intake.label_files import COMPLETE_FROM, COMPLETE_THROUGH, EVENT_DATE, ROW_COUNT


@dataclass(frozen=True)
class Said:
    """What the rows say in one column: on how many of them, and the least and the greatest value."""

    rows: int
    least: Any = None
    greatest: Any = None

    @property
    def agreed(self) -> bool:
        """Whether at least one row says it, and no two differ."""
        return self.rows > 0 and self.least == self.greatest


@dataclass(frozen=True)
class Statements:
    """What the rows of a file of leavers say.

    - `rows`: their number
    - `silent`: rows that say nothing of the file
    - `complete_from`, `complete_through`, `row_count`, `event_date`: what they say in these columns
    - `ahead`: events that were not yet known when the file arrived
    """

    rows: int
    silent: int
    complete_from: Said
    complete_through: Said
    row_count: Said
    event_date: Said
    ahead: int


def read_statements(spread: Spread, parts: Sequence[Path], arrived: date) -> Statements:
    """Read what the good rows of a file of leavers say.

    Args:
        spread: where the parts are read.
        parts: Parquet files of its good rows, in the scratch folder.
        arrived: the date of its arrival, in UTC. The bank's date may be a day ahead of it.
    """
    return reduce(_joined, spread.each(by_threads(partial(_statements_of, arrived + timedelta(1))), parts))


def _statements_of(last_known: date, file: Path) -> Statements:
    """What the rows of a part say. Events after `last_known` were not yet known."""
    about = [COMPLETE_FROM, COMPLETE_THROUGH, ROW_COUNT]
    rows = pq.read_table(given(file), columns=[*about, EVENT_DATE])
    silent = pc.and_(
        pc.and_(rows[COMPLETE_FROM].is_null(), rows[COMPLETE_THROUGH].is_null()), rows[ROW_COUNT].is_null()
    )
    ahead = pc.greater(rows[EVENT_DATE], pa.scalar(last_known, pa.date32()))
    begin, through, count, event = (_said(rows[name]) for name in (*about, EVENT_DATE))
    return Statements(rows.num_rows, _count(silent), begin, through, count, event, _count(ahead))


def _said(cells: pa.ChunkedArray) -> Said:
    span = pc.min_max(cells).as_py()
    return Said(len(cells) - cells.null_count, span["min"], span["max"])


def _count(marked: pa.ChunkedArray) -> int:
    return int(pc.sum(marked).as_py() or 0)


def _joined(one: Statements, other: Statements) -> Statements:
    return Statements(
        one.rows + other.rows,
        one.silent + other.silent,
        _said_by_both(one.complete_from, other.complete_from),
        _said_by_both(one.complete_through, other.complete_through),
        _said_by_both(one.row_count, other.row_count),
        _said_by_both(one.event_date, other.event_date),
        one.ahead + other.ahead,
    )


def _said_by_both(one: Said, other: Said) -> Said:
    if not (one.rows and other.rows):
        return one if one.rows else other
    return Said(one.rows + other.rows, min(one.least, other.least), max(one.greatest, other.greatest))
