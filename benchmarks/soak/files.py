"""The files of the month: customers of a nightly bank, whose labels are final after two days. The same night gives the same file."""

from __future__ import annotations

from datetime import date, timedelta

import numpy as np
import pandas as pd

from churn.sample.generator import Night as Draw
from churn.sample.generator import churn_probability, draw_rows
from soak.contracts import HORIZON, NIGHTLY
from soak.nights import File, Night

KEY, AS_OF, TARGET = NIGHTLY.key.name, "AsOf", NIGHTLY.target.name
SIZES = {"first": (5000, 0.01), "older": (8000, 0.6)}
"""Rows and share of older customers of the first two files."""
USUAL_SHARE, ORDINARY_ROWS = 0.3, 1500
FAULTS, FAULTY_EVERY, POISONED, WIDE_EVERY, WIDE_AGE, LEAVERS = 9, 10, 1000, 50, 105, 330
REPORTED = ((date(2027, 3, 24), date(2027, 3, 15)), (date.min, date(2027, 3, 1)))
"""From which night on rows are as of which date, newest first: a comparison draws one date for each customer, so there are few."""
_FIRST_CUSTOMER = 20_000_000
_PER_NIGHT = 100_000


class Bank:
    """Makes the files, and remembers what it has sent, so that files can repeat, contradict or complete earlier ones.

    Args:
        reported: the date as of which all rows are; None: as `REPORTED` says.
    """

    def __init__(self, reported: date | None = None) -> None:
        self._reported = reported
        self._sent: dict[int, pd.DataFrame] = {}
        self._last: str | None = None
        self._waiting: tuple[date, list[int]] | None = None

    def make(self, file: File, night: Night) -> tuple[str, str]:
        """Return the name and the text of a file.

        Raises:
            ValueError: the table names a kind of file that there is not, or one that needs an earlier file.
        """
        name, rows = f"{file.kind}-{night.number:02d}.csv", file.rows or ORDINARY_ROWS
        if file.kind == "again":
            text = self._again(night)
        elif file.kind == "poisoned":
            text = self._poisoned()
        elif file.kind == "waiting":
            text = self._waiting_rows(night, rows)
        elif file.kind == "leavers":
            text = self._leavers(night)
        else:
            text = self._labelled(file, night)
        if file.kind != "customers":
            self._last = text
        return name, text

    def _labelled(self, file: File, night: Night) -> str:
        rows, share = SIZES.get(file.kind, (file.rows or ORDINARY_ROWS, USUAL_SHARE))
        if file.kind not in {"ordinary", "late", "faulty", "wide", "customers", *SIZES}:
            raise ValueError(f"There is no kind of file {file.kind}.")
        frame = _draw(file.kind, night, rows, share)
        random = np.random.default_rng(night.number)
        frame[TARGET] = (random.random(rows) < churn_probability(frame, NIGHTLY)).astype(np.int64)
        if file.kind == "customers":
            return _text(frame.drop(columns=TARGET).assign(**{AS_OF: night.day.isoformat()}))
        dates = [day for first, day in REPORTED if night.day >= first]
        frame[AS_OF] = (self._reported or dates[0]).isoformat()
        if file.kind in {"ordinary", *SIZES}:
            self._sent[night.number] = frame.copy()
        if file.kind == "wide":
            frame.loc[frame.index % WIDE_EVERY == 0, "Age"] = WIDE_AGE
        faulty = frame.index[:FAULTS] if file.kind != "faulty" else frame.index[frame.index % FAULTY_EVERY == 0]
        frame["Geography"] = frame["Geography"].astype(object)
        frame.loc[faulty, "Geography"] = "Atlantis"
        return _text(frame)

    def _again(self, night: Night) -> str:
        if self._last is None:
            raise ValueError(f"Night {night.number} repeats a file, and there is none before it.")
        return self._last

    def _poisoned(self) -> str:
        known = self._sent[max(self._sent)].iloc[FAULTS : FAULTS + POISONED].copy()
        known[TARGET] = 1 - known[TARGET]
        return _text(known)

    def _waiting_rows(self, night: Night, rows: int) -> str:
        frame = _draw("waiting", night, rows, USUAL_SHARE)
        chance = np.asarray(churn_probability(frame, NIGHTLY), np.float64)
        leave = np.random.default_rng(night.number).choice(
            len(frame), size=LEAVERS, replace=False, p=chance / chance.sum()
        )
        self._waiting = (night.day, sorted(frame[KEY].iloc[leave].tolist()))
        return _text(frame.drop(columns=TARGET).assign(**{AS_OF: night.day.isoformat()}))

    def _leavers(self, night: Night) -> str:
        if self._waiting is None:
            raise ValueError(f"Night {night.number} has leavers, and no rows wait for them.")
        day, left = self._waiting
        first, last = day + timedelta(1), day + timedelta(HORIZON)
        lines = [f"{who},{first if who % 2 else last},{first},{last},{len(left)}" for who in left]
        return "\n".join([f"{KEY},event_date,complete_from,complete_through,rows", *lines]) + "\n"


def _draw(kind: str, night: Night, rows: int, share: float) -> pd.DataFrame:
    """Customers of their own for each night and kind of file."""
    at = sorted(("customers", "faulty", "first", "late", "older", "ordinary", "waiting", "wide")).index(kind)
    draw = Draw(
        rows, _FIRST_CUSTOMER + night.number * _PER_NIGHT + at * _PER_NIGHT // 10, 10 * night.number + at, share
    )
    return draw_rows(NIGHTLY, draw, np.random.default_rng(draw.seed))


def _text(frame: pd.DataFrame) -> str:
    names = [name for name in NIGHTLY.names if name in frame.columns]
    return str(frame[names].to_csv(index=False, lineterminator="\n"))
