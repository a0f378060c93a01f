"""Sets of customers to measure learning on: the public files, and sets that are drawn with a probability that is known."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.special import expit
from sklearn.datasets import make_classification

from churn.contract import Column, Contract, Kind, Role
from churn.contracts.bank import BANK_CHURN
from churn.foundation.examples import model_input
from churn.sample.generator import Night, churn_probability, draw_rows
from support.judged_files import judge_whole

Labels = NDArray[np.int64]
Customers = tuple[Contract, pd.DataFrame, Labels]
"""A contract, the features as a model gets them, shape (rows, features), and the labels, shape (rows,)."""
_EVENT = "event"


def read_customers(file: Path, contract: Contract) -> Customers:
    """The accepted rows of a file."""
    rows = judge_whole(file.read_bytes(), contract).good.to_pandas()
    return contract, model_input(contract, rows), rows[contract.target.name].to_numpy(dtype="int64")


def draw_bank(rows: int, seed: int) -> tuple[Contract, pd.DataFrame, Labels, NDArray[np.float64]]:
    """Customers of the bank contract, with the probability that each label is drawn from."""
    night = Night(rows=rows, first_customer=1, seed=seed, older_share=0.25)
    drawn = draw_rows(BANK_CHURN, night, np.random.default_rng(seed))
    probability = np.asarray(churn_probability(drawn, BANK_CHURN))
    labels = (np.random.default_rng(seed + 1).random(rows) < probability).astype("int64")
    return BANK_CHURN, model_input(BANK_CHURN, drawn), labels, probability


def contract_of(name: str, features: pd.DataFrame) -> Contract:
    """A contract that these features satisfy."""
    columns = [Column("id", Kind.INTEGER, Role.KEY, 0, 2**53), Column(_EVENT, Kind.INTEGER, Role.TARGET, 0, 1)]
    for column in features:
        values = features[column]
        if not pd.api.types.is_numeric_dtype(values):
            columns.append(Column(column, Kind.TEXT, Role.FEATURE, categories=tuple(sorted(values.unique()))))
        else:
            whole = bool((values % 1 == 0).all())
            kind = Kind.INTEGER if whole else Kind.NUMBER
            columns.append(Column(column, kind, Role.FEATURE, float(values.min()), float(values.max())))
    return Contract(name, tuple(columns))


def _with_contract(name: str, features: pd.DataFrame, labels: Any) -> Customers:
    contract = contract_of(name, features)
    return contract, model_input(contract, features), np.asarray(labels, dtype="int64")


def _card() -> Customers:
    """Like the attrition of a credit card: few events, decided by interactions of counts and amounts."""
    rng, rows = np.random.default_rng(1), 10_127
    products, idle, calls = rng.integers(1, 7, rows), rng.integers(0, 7, rows), rng.integers(0, 7, rows)
    limit = np.exp(rng.normal(8.6, 0.9, rows)).clip(1400, 34_500)
    often = rng.random(rows) < 0.6
    payments = np.where(often, rng.normal(75, 14, rows), rng.normal(42, 9, rows)).clip(10, 139).round()
    amount = (payments * rng.gamma(9, 7, rows)).round()
    change, amount_change = rng.gamma(12, 0.06, rows), rng.gamma(14, 0.055, rows)
    owed = np.where(rng.random(rows) < 0.25, 0, rng.normal(1500, 500, rows).clip(0, 2517))
    logit = (
        -3.6
        + 2.2 * (payments < 55) * (amount > 1800)
        - 3.0 * (payments > 78)
        + 1.6 * (products <= 2)
        - 1.0 * (products >= 4)
        + 2.4 * (owed < 400) * (payments < 62)
        + 0.55 * (calls - 2.5)
        + 0.5 * (idle - 2.3)
        + 3.0 * (change < 0.5)
        + 2.5 * (amount > 5000) * (amount < 9500) * (payments < 80)
        - 1.2 * (amount_change > 0.9)
        + 1.5 * (idle == 0)
    )
    features = pd.DataFrame(
        {
            "products": products,
            "idle": idle,
            "calls": calls,
            "limit": limit,
            "payments": payments,
            "amount": amount,
            "change": change,
            "amount_change": amount_change,
            "owed": owed,
            "used": (owed / limit).clip(0, 1),
            "card": rng.choice(["blue", "silver", "gold", "platinum"], rows, p=[0.93, 0.05, 0.015, 0.005]),
        }
    )
    return _with_contract("card", features, rng.random(rows) < expit(1.6 * logit))


def _clusters(seed: int, rows: int, **options: Any) -> Customers:
    values, labels = make_classification(rows, random_state=seed, **options)
    return _with_contract("clusters", _numbered(values), labels)


def _smooth() -> Customers:
    """Smooth effects, one product, and columns without any effect."""
    rng = np.random.default_rng(5)
    x = rng.normal(size=(20_000, 15))
    logit = -1.8 + x[:, 0] + 0.7 * x[:, 1] - 0.5 * x[:, 2] + 0.4 * x[:, 3] * x[:, 4] + 0.6 * np.sin(2 * x[:, 5])
    return _with_contract("smooth", _numbered(x), rng.random(len(x)) < expit(logit))


def _wide() -> Customers:
    """Sixty numbers, and three texts of forty levels each."""
    rng = np.random.default_rng(9)
    x, levels, effects = rng.normal(size=(30_000, 60)), rng.integers(0, 40, (30_000, 3)), rng.normal(0, 0.7, (3, 40))
    logit = -2.2 + 0.15 * x[:, :20].sum(axis=1) + 0.8 * (x[:, 0] > 0) * (x[:, 1] > 0.5)
    logit += sum(effects[text][levels[:, text]] for text in range(3))
    features = _numbered(x).assign(
        **{f"text{text}": [f"L{level:02d}" for level in levels[:, text]] for text in range(3)}
    )
    return _with_contract("wide", features, rng.random(len(x)) < expit(logit))


def _noise() -> Customers:
    """Hardly anything to learn."""
    rng = np.random.default_rng(3)
    x = rng.normal(size=(8000, 12))
    return _with_contract("noise", _numbered(x), rng.random(len(x)) < expit(-1.5 + 0.25 * x[:, 0] + 0.2 * x[:, 1]))


def _numbered(values: NDArray[np.float64]) -> pd.DataFrame:
    return pd.DataFrame(values, columns=[f"x{place}" for place in range(values.shape[1])])


DRAWN: dict[str, Callable[[], Customers]] = {
    "card, 10,127": _card,
    "clusters, 5,000": lambda: _clusters(
        1, 5000, n_informative=8, n_redundant=5, weights=[0.85], flip_y=0.05, class_sep=0.8
    ),
    "clusters, 50,000": lambda: _clusters(
        2, 50_000, n_features=25, n_informative=12, n_redundant=4, weights=[0.8], flip_y=0.02, n_clusters_per_class=3
    ),
    "rare, 30,000": lambda: _clusters(3, 30_000, n_features=15, n_informative=6, weights=[0.97], flip_y=0.01),
    "smooth, 20,000": _smooth,
    "wide, 30,000": _wide,
    "noise, 8,000": _noise,
}
"""Drawn sets by name and number of rows."""
