"""A bank with known truth: churn dates from a hazard, a campaign with a known effect, and labels that come late."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import date, timedelta

import numpy as np
import pandas as pd

from churn.intake.label_files import COMPLETE_FROM, COMPLETE_THROUGH, EVENT_DATE, ROW_COUNT
from churn.sample.generator import Night, churn_probability, draw_rows
from churn.sample.panels import BANK_PANEL

HORIZON = 28
WEEKLY = replace(BANK_PANEL, name="weekly_bank", horizon_days=HORIZON)
KEPT = 0.4
"""The share of leavers whom contact keeps."""
KEY, AS_OF, TARGET = WEEKLY.key.name, "AsOf", WEEKLY.target.name
_CHANCE, _PERSUADABLE, _SINCE = "_chance", "_persuadable", "_contacted_since"


@dataclass
class WeeklyBank:
    """Customers, who leave by a hazard and are replaced. A contacted one whom contact can keep does not leave.

    - `left`: the day on which a customer left
    - `rows`: customer, as-of date and true chance to leave within the horizon without contact, of each row that was sent
    """

    customers: int
    seed: int
    left: dict[int, date] = field(default_factory=dict)
    rows: list[pd.DataFrame] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.random, self.next = np.random.default_rng(self.seed), 50_000_000
        self.living = self._join(self.customers)

    def send_rows(self, day: date) -> str:
        """A file with the rows of all customers as of a day, without labels."""
        sent = self.living.assign(**{AS_OF: day.isoformat()})
        self.rows.append(sent[[KEY, AS_OF, _CHANCE]].assign(**{AS_OF: day}))
        names = [name for name in WEEKLY.names if name != TARGET]
        return str(sent[names].to_csv(index=False, lineterminator="\n"))

    def contact(self, customers: list[int], day: date) -> None:
        """Contact customers; it works from the day after."""
        fresh = self.living[KEY].isin(customers) & self.living[_SINCE].isna()
        self.living.loc[fresh, _SINCE] = pd.Timestamp(day)

    def live_a_week(self, day: date) -> str:
        """Let a week pass; returns the file of those who left in it, complete from the day after `day`."""
        stays = (1 - self.living[_CHANCE]) ** (7 / HORIZON)
        leaves = self.random.random(len(self.living)) < 1 - stays
        leaves &= ~(self.living[_PERSUADABLE] & self.living[_SINCE].notna())
        gone = self.living.loc[leaves, KEY].tolist()
        days = [day + timedelta(int(self.random.integers(1, 8))) for _ in gone]
        self.left |= dict(zip(gone, days, strict=True))
        self.living = pd.concat([self.living[~leaves], self._join(len(gone))], ignore_index=True)
        about = f"{day + timedelta(1)},{day + timedelta(7)},{len(gone)}"
        header = ",".join((KEY, EVENT_DATE, COMPLETE_FROM, COMPLETE_THROUGH, ROW_COUNT))
        return "\n".join([header, *(f"{who},{on},{about}" for who, on in zip(gone, days, strict=True))]) + "\n"

    def labels(self) -> pd.DataFrame:
        """Every row that was sent, with `label`: whether the customer left within the horizon."""
        sent = pd.concat(self.rows, ignore_index=True)
        days = [self.left.get(who) for who in sent[KEY]]
        within = [
            on is not None and day < on <= day + timedelta(HORIZON) for day, on in zip(sent[AS_OF], days, strict=True)
        ]
        return sent.assign(label=np.array(within, np.int64))

    def _join(self, count: int) -> pd.DataFrame:
        night = Night(max(count, 1), self.next, self.seed + self.next % 1009)
        frame = draw_rows(WEEKLY, night, np.random.default_rng(night.seed)).head(count)
        self.next += count
        return frame.assign(
            **{
                _CHANCE: np.asarray(churn_probability(frame, WEEKLY), np.float64),
                _PERSUADABLE: self.random.random(count) < KEPT,
                _SINCE: pd.Series([pd.NaT] * count, index=frame.index, dtype="datetime64[ns]"),
            }
        )
