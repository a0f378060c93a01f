"""Generates a panel from a seed: monthly files of customers whose labels come later, in files of leavers or of labels.

Customers leave by a hazard that depends on their features, so the truth is known: the chance to leave within the horizon is the one that
`generator.churn_probability` gives.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, timedelta
from itertools import pairwise

import numpy as np
import pandas as pd

from churn.contract import Column, Contract, Kind, Role
from churn.contracts.bank import BANK_CHURN
from churn.errors import ChurnError
from churn.intake.label_files import COMPLETE_FROM, COMPLETE_THROUGH, EVENT_DATE, ROW_COUNT
from churn.sample.generator import Night, churn_probability, draw_rows, resembles_bank

PANEL_HORIZON = 90
BANK_PANEL = Contract(
    "bank_panel",
    (
        *BANK_CHURN.columns,
        Column("AsOf", Kind.DATE, Role.AS_OF, description="The day on which the row was true."),
    ),
    BANK_CHURN.slices,
    event=BANK_CHURN.event,
    non_event=BANK_CHURN.non_event,
    horizon_days=PANEL_HORIZON,
)
"""The contract of the public bank file with an as-of date and a horizon of 90 days: `CHURN_CONTRACT=churn.sample.panels:BANK_PANEL`."""


@dataclass(frozen=True)
class PanelFile:
    """A file of the panel: its name, the day on which it arrives, and its text."""

    name: str
    arrives: date
    text: str


def make_panel(
    contract: Contract,
    customers: int,
    months: int,
    seed: int,
    labels_apart: bool = False,
    start: date = date(2026, 1, 1),
) -> list[PanelFile]:
    """The files of a panel, in the order of their arrival. The same arguments give the same files.

    Each month has a file with the rows of all customers who have not left yet, without a label, and one with those who left in the
    month before, complete through its end. With `labels_apart`, the labels of a month come in a file of their own instead, once its
    horizon has passed.

    Args:
        contract: with the features of the bank and a horizon.
        customers: in the first month; as many join as leave.
        months: the number of files of rows.
        seed: of the draws.
        labels_apart: whether labels come as labels.
        start: the first as-of date.

    Raises:
        ChurnError: the contract has no horizon, or other features.
    """
    if contract.horizon_days is None or contract.as_of is None or not resembles_bank(contract):
        raise ChurnError(
            f"Contract {contract.name} has no horizon_days, or other features than the bank file. "
            "Try CHURN_CONTRACT=churn.sample.panels:BANK_PANEL."
        )
    random = np.random.default_rng(seed)
    after = -(-contract.horizon_days // 28) if labels_apart else 0  # until the last horizon has passed
    days = [_month(start, month) for month in range(months + after + 1)]
    living = _customers(contract, customers, 30_000_001, seed)
    left: dict[int, date] = {}
    rows: list[tuple[date, pd.DataFrame]] = []
    files: list[PanelFile] = []
    for month, (day, end) in enumerate(pairwise(days)):
        if month < months:
            rows.append((day, living.assign(**{contract.as_of.name: day.isoformat()})))
            files.append(PanelFile(f"panel-{day:%Y-%m}.csv", day, _text(rows[-1][1], contract, labels=None)))
        hazard = _hazard(living, contract, (end - day).days)
        leaving = random.random(len(living)) < hazard
        dates = [day + timedelta(int(random.integers(1, (end - day).days))) for _ in range(int(leaving.sum()))]
        left |= dict(zip(living.loc[leaving, contract.key.name], dates, strict=True))
        if not labels_apart:
            files.append(_leavers(contract, living.loc[leaving, contract.key.name].tolist(), dates, (day, end)))
        joined = _customers(contract, int(leaving.sum()), 40_000_001 + month * customers, seed + month + 1)
        living = pd.concat([living[~leaving], joined], ignore_index=True)
    if labels_apart:
        files += [_labels(contract, frame, day, left) for day, frame in rows]
    return sorted(files, key=lambda file: (file.arrives, file.name))


def true_label(contract: Contract, day: date, event: date | None) -> int:
    """Whether an event falls into the horizon of a row."""
    return int(event is not None and day < event <= day + timedelta(contract.horizon_days or 0))


def _customers(contract: Contract, count: int, first: int, seed: int) -> pd.DataFrame:
    if not count:
        return draw_rows(contract, Night(1, first, seed), np.random.default_rng(seed)).head(0)
    return draw_rows(contract, Night(count, first, seed), np.random.default_rng(seed))


def _hazard(frame: pd.DataFrame, contract: Contract, days: int) -> np.ndarray:
    """The chance to leave within some days, if that to leave within the horizon is `churn_probability`."""
    if frame.empty:
        return np.zeros(0)
    stays = 1 - np.asarray(churn_probability(frame, contract), np.float64)
    return np.asarray(1 - stays ** (days / (contract.horizon_days or 1)))


def _leavers(contract: Contract, customers: list[int], dates: list[date], month: tuple[date, date]) -> PanelFile:
    begin, end = month
    through = end - timedelta(1)
    inside = list(zip(customers, dates, strict=True)) or [
        (1, through)
    ]  # a file needs a row to say something; nobody has this key
    lines = [f"{who},{day},{begin},{through},{len(inside)}" for who, day in inside]
    header = ",".join((contract.key.name, EVENT_DATE, COMPLETE_FROM, COMPLETE_THROUGH, ROW_COUNT))
    text = "\n".join([header, *lines]) + "\n"
    return PanelFile(f"leavers-{through:%Y-%m}.csv", end, text)


def _labels(contract: Contract, frame: pd.DataFrame, day: date, left: dict[int, date]) -> PanelFile:
    labels = [true_label(contract, day, left.get(who)) for who in frame[contract.key.name]]
    text = _text(frame[[contract.key.name, str(contract.row_key[-1].name)]], contract, labels)
    return PanelFile(f"labels-{day:%Y-%m}.csv", day + timedelta((contract.horizon_days or 0) + 1), text)


def _text(frame: pd.DataFrame, contract: Contract, labels: list[int] | None) -> str:
    names = [name for name in contract.names if name in frame.columns and name != contract.target.name]
    chosen = frame[names]
    if labels is not None:
        chosen = chosen.assign(**{contract.target.name: labels})
    return str(chosen.to_csv(index=False, lineterminator="\n"))


def _month(start: date, months: int) -> date:
    whole = start.year * 12 + start.month - 1 + months
    return date(whole // 12, whole % 12 + 1, 1)
