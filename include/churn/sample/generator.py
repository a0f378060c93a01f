"""Generates files of a contract from a seed, with realistic relations, chosen drift and chosen faults.

The columns of the public bank file are drawn with its distributions: age, products, activity, country and gender drive churn. The
rows of any other contract are drawn from the contract alone (`joint_values`), so that the generator follows when a contract changes.
"""

from __future__ import annotations

import gzip
import hashlib
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from churn.contract import Column, Contract, Kind, Role
from churn.contracts.bank import BANK_CHURN
from churn.errors import ChurnError
from churn.foundation.examples import example_rows
from churn.sample.fault_injection import Fault, cell_faults, plant_faults
from churn.sample.joint_values import UPPER, draw_joint_values

OLDER = 45
SURNAMES = (
    "Keller",
    "Moreau",
    "Garcia",
    "Schmid",
    "Dubois",
    "Ruiz",
    "Brandt",
    "Laurent",
    "Vega",
    "Hofer",
    "Petit",
    "Navarro",
)

Draws = dict[str, np.ndarray[Any, np.dtype[Any]]]


@dataclass(frozen=True)
class Night:
    """One nightly file: its number of rows, its first customer number, and what is special about it.

    `older_share` is the share of customers aged 45 and older (about .2 in the public file); under another contract, of those in the
    upper group of some columns that go together. `faults` is the number of rows with a
    planted fault. `turned_round` inverts the labels.
    """

    rows: int
    first_customer: int
    seed: int
    older_share: float = UPPER
    faults: int = 0
    turned_round: bool = False


NIGHTS = (
    Night(rows=5000, first_customer=20_000_001, seed=101, older_share=0.008, faults=9),
    Night(rows=7000, first_customer=20_100_001, seed=102, older_share=0.5, faults=14),
    Night(rows=1500, first_customer=20_200_001, seed=103, older_share=0.25, faults=4),
)
"""The sample in data/sample. The second night brings a kind of customer that the first hardly has."""


def make_night(contract: Contract, night: Night) -> str:
    """The CSV text of one nightly file. The same arguments give the same text."""
    rng = np.random.default_rng(night.seed)
    if resembles_bank(contract):
        frame = draw_rows(contract, night, rng)
        probability = churn_probability(frame, contract)
    else:
        frame, probability = draw_joint_values(contract, night.rows, rng, night.older_share)
        frame[contract.key.name] = _keys(contract.key, night)
    if night.turned_round:
        probability = _turned_round(probability)
    frame[contract.target.name] = (rng.random(night.rows) < probability).astype("int64")
    for column in contract.columns:
        if column.values:
            frame[column.name] = frame[column.name].map(column.texts)
    text = frame.to_csv(index=False, lineterminator="\n")
    if night.faults > night.rows:
        raise ChurnError(f"{night.faults} faults do not fit into {night.rows} rows. Use fewer faults or more rows.")
    rows = sorted(rng.choice(night.rows, night.faults, replace=False))
    data, _ = plant_faults(text, contract, _chosen_faults(contract, night.faults, rng), rows)
    return data.decode()


def resembles_bank(contract: Contract) -> bool:
    """Whether most features are those of the public bank file, under their names and in their kinds."""
    known = {column.name: column for column in BANK_CHURN.features}
    shared = sum(column.name in known and column.kind is known[column.name].kind for column in contract.features)
    return shared > len(contract.features) / 2


def _chosen_faults(contract: Contract, count: int, rng: np.random.Generator) -> list[Fault]:
    """Choose faulty cells, every kind once before any is repeated."""
    faults = cell_faults(contract)
    turns = [rng.permutation(len(faults)) for _ in range(-(-count // len(faults)))]
    return [faults[at] for at in np.concatenate([[], *turns]).astype(int)[:count]]


def write_sample(contract: Contract, folder: Path) -> list[Path]:
    """Write the nightly files of the sample; returns them in order."""
    folder.mkdir(parents=True, exist_ok=True)
    files = []
    for number, night in enumerate(NIGHTS, start=1):
        file = folder / f"night-{number}.csv"
        file.write_text(make_night(contract, night))
        files.append(file)
    return files


def cut_into_nights(file: Path, nights: int, folder: Path) -> list[Path]:
    """Cut a file into nightly files of equal size, in its own order, each with the header. A gzipped file gives plain ones.

    Raises:
        ChurnError: the file cannot be read or has fewer rows than nights.
    """
    try:
        data = file.read_bytes()
    except OSError as error:
        raise ChurnError(f"Cannot read {file}: {error.strerror}. Give the path of a CSV or Parquet file.") from error
    if nights == 1:
        return [file]
    if data[:4] == b"PAR1":
        return _cut_parquet(file, nights, folder / f"{hashlib.sha256(data).hexdigest()[:12]}-{nights}")
    if data[:2] == b"\x1f\x8b":
        try:
            data, file = gzip.decompress(data), file.with_suffix("") if file.suffix == ".gz" else file
        except (OSError, EOFError, zlib.error) as error:
            raise ChurnError(f"{file} is damaged or incomplete. Ask the sender for a complete file.") from error
    header, *rows = data.splitlines(keepends=True) or [b""]
    _require_rows(file, len(rows), nights)
    folder = folder / f"{hashlib.sha256(data).hexdigest()[:12]}-{nights}"
    folder.mkdir(parents=True, exist_ok=True)
    bounds = np.linspace(0, len(rows), nights + 1).astype(int)
    files = []
    for number, (first, last) in enumerate(pairwise(bounds), start=1):
        part = folder / f"{file.stem}-night-{number}{file.suffix}"
        part.write_bytes(header + b"".join(rows[first:last]))
        files.append(part)
    return files


def _cut_parquet(file: Path, nights: int, folder: Path) -> list[Path]:
    try:
        table = pq.read_table(file)
    except pa.ArrowException as error:
        raise ChurnError(f"{file} is damaged or incomplete. Ask the sender for a complete file.") from error
    _require_rows(file, table.num_rows, nights)
    folder.mkdir(parents=True, exist_ok=True)
    files = []
    for number, (first, last) in enumerate(pairwise(np.linspace(0, table.num_rows, nights + 1).astype(int)), start=1):
        files.append(folder / f"{file.stem}-night-{number}.parquet")
        pq.write_table(table.slice(first, last - first), files[-1])
    return files


def _require_rows(file: Path, rows: int, nights: int) -> None:
    if rows < nights:
        raise ChurnError(
            f"{file} has {rows} rows, which are too few for {nights} nights. Use a smaller number of nights."
        )


def draw_rows(contract: Contract, night: Night, rng: np.random.Generator) -> pd.DataFrame:
    """Draw customers, without the target: as in the public file where a column has a name of that file, else from the contract."""
    rows = night.rows
    older = rng.random(rows) < night.older_share
    age = np.where(older, OLDER + rng.gamma(2.2, 5.5, rows), 18 + (OLDER - 18) * rng.beta(3.2, 2.2, rows))
    country = rng.choice(["France", "Germany", "Spain"], rows, p=[0.5, 0.25, 0.25])
    balance = np.where(
        rng.random(rows) < np.where(country == "Germany", 0.0, 0.48), 0, rng.normal(119_800, 30_000, rows).clip(0)
    )
    draws: Draws = {
        "RowNumber": np.arange(1, rows + 1),
        "CustomerId": night.first_customer + rng.permutation(rows),
        "Surname": rng.choice(SURNAMES, rows),
        "CreditScore": rng.normal(650, 97, rows),
        "Geography": country,
        "Gender": rng.choice(["Female", "Male"], rows, p=[0.455, 0.545]),
        "Age": np.floor(age),
        "Tenure": rng.integers(0, 11, rows),
        "Balance": balance.round(2),
        "NumOfProducts": rng.choice([1, 2, 3, 4], rows, p=[0.51, 0.46, 0.025, 0.005]),
        "HasCrCard": rng.choice([0, 1], rows, p=[0.295, 0.705]),
        "IsActiveMember": rng.choice([0, 1], rows, p=[0.485, 0.515]),
        "EstimatedSalary": rng.uniform(100, 200_000, rows).round(2),
    }
    drawn = example_rows(contract, rows, seed=night.seed)
    for column in contract.columns:
        if column.name in draws and _fits(column, draws[column.name]):
            drawn[column.name] = _within(column, draws[column.name])
        elif column.role is Role.KEY:
            drawn[column.name] = _keys(column, night)
    return drawn


def _fits(column: Column, values: np.ndarray[Any, np.dtype[Any]]) -> bool:
    """Whether a column with a known name still has the values that the name suggests."""
    text = values.dtype.kind in "UO"
    return column.numeric != text and (not column.categories or set(values) <= set(column.categories))


def _within(column: Column, values: np.ndarray[Any, np.dtype[Any]]) -> Any:
    if not column.numeric:
        return values.astype(object)
    clipped = np.clip(values.astype("float64"), column.minimum, column.maximum)
    return np.round(clipped).astype("int64") if column.kind is Kind.INTEGER else clipped


def _keys(column: Column, night: Night) -> Any:
    numbers = np.arange(night.first_customer, night.first_customer + night.rows)
    return numbers if column.numeric else [f"C{number}" for number in numbers]


def churn_probability(frame: pd.DataFrame, contract: Contract) -> Any:
    """The probability of churn: logistic, with effects as in the public file, and a small fixed effect of any other feature."""
    effects: dict[str, Callable[[pd.Series], Any]] = {
        "Age": lambda age: 1.9 * np.tanh((age - 44) / 9) - 0.1 * np.maximum(age - 62, 0),
        "NumOfProducts": lambda products: products.map({1: 0.45, 2: -1.1, 3: 2.6, 4: 4.0}).fillna(0),
        "IsActiveMember": lambda active: np.where(active == 1, -0.65, 0.65),
        "Geography": lambda country: np.where(country == "Germany", 0.9, -0.3),
        "Gender": lambda gender: np.where(gender == "Female", 0.4, -0.35),
        "Balance": lambda balance: balance / 1.2e6,
        "CreditScore": lambda score: (650 - score) / 1400,
    }
    logit = np.full(len(frame), -0.75)
    for column in contract.features:
        if (
            column.name in effects
            and column.name in contract.names
            and column.numeric == (column.name not in ("Geography", "Gender"))
        ):
            logit = logit + np.asarray(effects[column.name](frame[column.name]), dtype="float64")
        elif column.name not in BANK_NOISE:
            logit = logit + _unknown_effect(frame[column.name], column)
    if {"Age", "IsActiveMember"} <= set(contract.feature_names) and contract["Age"].numeric:
        logit = logit + np.where(frame["Age"] >= OLDER, np.where(frame["IsActiveMember"] == 1, -0.9, 0.9), 0)
    return 1 / (1 + np.exp(-logit))


def _turned_round(probability: Any) -> Any:
    """Logits with the same spread around their mean, and every relation to the features inverted."""
    logit = np.log(probability / (1 - probability))
    return 1 / (1 + np.exp(logit - 2 * logit.mean()))


BANK_NOISE = frozenset({"Tenure", "HasCrCard", "EstimatedSalary"})


def _unknown_effect(values: pd.Series, column: Column) -> Any:
    """The effect of an unknown feature: higher values and later categories churn more."""
    if not column.numeric:  # of a text without a list of categories, the first ones are as good as any
        levels = column.categories or sorted(values.dropna().unique())
        values = values.map({name: rank for rank, name in enumerate(levels)})
    position = values
    numbers = position.astype("float64").fillna(position.astype("float64").median())
    spread = numbers.std()
    return np.asarray((numbers - numbers.mean()) / spread if spread else numbers * 0)
