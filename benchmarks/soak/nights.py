"""Reads the table of the month, `month.md`: one row per night, with what is expected."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, time, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

MONTH = Path(__file__).with_name("month.md")
TIMEZONE = ZoneInfo("Europe/Berlin")
RUN_AT = time(2, 30)
"""The time of the nightly run. On the night of a clock change, it does not exist."""
LANDS_BEFORE = timedelta(hours=2)
NOTHING, EARLIER_CODE = "-", "earlier code"
_COLUMNS = (
    "night", "date", "lands", "happens", "fails", "verdict", "alerts", "production", "list",
    "arrived", "accepted", "quarantined", "short", "stack",
)  # fmt: skip


class MonthInvalid(Exception):  # noqa: N818 -- it says what is wrong
    """The table cannot be read; the message names the row."""


@dataclass(frozen=True)
class File:
    """A file that lands: its kind, and its number of rows if the table says one."""

    kind: str
    rows: int | None = None


@dataclass(frozen=True)
class Outcome:
    """What a night comes to, as expected or as measured.

    - `fails`: the task whose first attempt fails, and the type of the error; empty if none does
    - `alerts`: kinds of new alerts, sorted
    - `production`, `listed`: the night whose version is in production, or made a new list; None: none
    - `arrived`, `accepted`, `quarantined`: rows of the batches of the night
    """

    fails: str
    verdict: str
    alerts: tuple[str, ...]
    production: int | None
    listed: int | None
    arrived: int
    accepted: int
    quarantined: int


@dataclass(frozen=True)
class Night:
    """One row of the table."""

    number: int
    day: date
    lands: tuple[File, ...]
    happens: tuple[str, ...]
    expected: Outcome
    short: bool
    stack: bool

    @property
    def moment(self) -> datetime:
        """When the run starts, in UTC."""
        return datetime.combine(self.day, RUN_AT, TIMEZONE).astimezone(UTC)

    @property
    def run(self) -> str:
        """The id of the run."""
        return f"soak-{self.number:02d}"

    @property
    def ordinary(self) -> bool:
        """Whether an ordinary file lands and nothing happens, so that what the night adds can be compared."""
        return [file.kind for file in self.lands] == ["ordinary"] and not self.happens


def read_month(text: str | None = None) -> list[Night]:
    """Read the nights in their order.

    Args:
        text: the table; None: that of the repository.

    Raises:
        MonthInvalid: a row has other columns, or a cell cannot be read.
    """
    lines = (MONTH.read_text() if text is None else text).splitlines()
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines if line.startswith("|")]
    if not rows or tuple(rows[0]) != _COLUMNS:
        raise MonthInvalid(f"The table needs these columns: {', '.join(_COLUMNS)}.")
    return [_read_row(cells) for cells in rows[2:]]


def short_month(table: Sequence[Night]) -> list[Night]:
    """The nights of `make test`, all with today's code, and one after the other: a gap between them would be an alert."""
    short = [night for night in table if night.short]
    return [_with_todays_code(night, short[0].day + timedelta(place)) for place, night in enumerate(short)]


def stack_month(table: Sequence[Night], today: date) -> list[Night]:
    """The nights of the stack, all with today's code, and all of today, since its clock stands."""
    return [_with_todays_code(night, today) for night in table if night.stack]


def _with_todays_code(night: Night, day: date) -> Night:
    return replace(night, day=day, happens=tuple(what for what in night.happens if what != EARLIER_CODE))


def _read_row(cells: list[str]) -> Night:
    try:
        row = dict(zip(_COLUMNS, cells, strict=True))
        expected = Outcome(
            "" if row["fails"] == NOTHING else row["fails"],
            row["verdict"],
            tuple(sorted(_words(row["alerts"]))),
            _number(row["production"]),
            _number(row["list"]),
            int(row["arrived"]),
            int(row["accepted"]),
            int(row["quarantined"]),
        )
        return Night(
            int(row["night"]),
            date.fromisoformat(row["date"]),
            tuple(_file(words) for words in _words(row["lands"])),
            tuple(_words(row["happens"])),
            expected,
            row["short"] == "yes",
            row["stack"] == "yes",
        )
    except ValueError as error:
        raise MonthInvalid(f"Row {cells[0]} of the table cannot be read: {error}.") from error


def _words(cell: str) -> list[str]:
    return [] if cell == NOTHING else [word.strip() for word in cell.split(",")]


def _number(cell: str) -> int | None:
    return None if cell == NOTHING else int(cell)


def _file(words: str) -> File:
    kind, _, rows = words.partition(" ")
    return File(kind, int(rows) if rows else None)
