"""Draws plausible rows of any contract: columns that go together, and an event that depends on them.

A Gaussian copula with three factors. Each column has a loading on one factor, so that columns of one factor are correlated; its
place among all customers, a number from 0 to 1, then becomes a value of the column. The probability of the event is logistic in
a few columns with different weights and one interaction, scaled so that a good model reaches a ROC AUC of about .85, and a
fifth of the customers have the event. Everything that describes the population follows from the names in the contract, and not
from the night: nights of one contract are samples of one population.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.special import expit, ndtr, ndtri

from churn.contract import Column, Contract, Kind
from churn.foundation.examples import example_rows

Places = dict[str, NDArray[np.float64]]
"""The place of each customer in each column, as a standard normal number; shape (rows,)."""
FACTORS = 3
INTERCEPT, SPREAD = -1.95, 1.8
"""Mean and standard deviation of the logit: about a fifth of the customers have the event."""
UPPER = 0.2
"""The share of customers in the upper group of the first factor, unless a night asks for another one."""
_STRONG = 6
"""Number of columns that matter much for the event."""
_INTERACTION = 0.5
_MISSING = 0.03
_EDGE = 1e-6


@dataclass(frozen=True)
class _Trait:
    """How a column behaves in the population: its factor, its loading on it, its weight for the event, and its shape."""

    factor: int
    loading: float
    weight: float
    shape: float


def draw_joint_values(
    contract: Contract, rows: int, rng: np.random.Generator, upper_share: float = UPPER
) -> tuple[pd.DataFrame, NDArray[np.float64]]:
    """Draw rows whose columns go together.

    Args:
        contract: the data contract.
        rows: number of rows.
        rng: the source of all random numbers.
        upper_share: share of customers in the upper group of the first factor; another one than usual is drift.

    Returns:
        Rows with every column of the contract in its types, and the probability of the event, shape (rows,). The label is to be
        drawn from it; keys and other columns that say nothing are those of `example_rows`.
    """
    traits = _traits(contract)
    factors = rng.normal(size=(FACTORS, rows))
    if upper_share != UPPER:
        upper = rng.random(rows) < upper_share
        place = np.where(upper, 1 - UPPER * rng.random(rows), (1 - UPPER) * rng.random(rows))
        factors[0] = ndtri(np.clip(place, _EDGE, 1 - _EDGE))
    places: Places = {
        name: trait.loading * factors[trait.factor] + np.sqrt(1 - trait.loading**2) * rng.normal(size=rows)
        for name, trait in traits.items()
    }
    frame = example_rows(contract, rows, seed=int(rng.integers(2**31)))
    for column in contract.attributes:
        if column.name in traits:
            frame[column.name] = _values(column, places[column.name], traits[column.name], rng)
    for relation in contract.relations:
        greater, lesser = frame[relation.greater], frame[relation.lesser]
        frame[relation.lesser] = lesser.mask((lesser > greater).fillna(False), greater)
    return frame, expit(INTERCEPT + SPREAD * _risk(places, traits))


def _traits(contract: Contract) -> dict[str, _Trait]:
    """The behaviour of each column, from the names in the contract: the same in every night."""
    drawn = [column for column in contract.attributes if column.kind is not Kind.DATE]
    by_strength = sorted(
        (column.name for column in drawn if column.modelled), key=lambda name: _number(name, "strength")
    )
    weights = {name: 0.75**rank if rank < _STRONG else 0.05 for rank, name in enumerate(by_strength)}
    in_turn = sorted((column.name for column in drawn), key=lambda name: _number(name, "factor"))
    return {
        column.name: _Trait(
            factor=in_turn.index(column.name) % FACTORS,
            loading=(0.45 + 0.4 * _number(column.name, "loading")) * (1 if _number(column.name, "side") < 0.5 else -1),  # noqa: PLR2004
            weight=weights.get(column.name, 0.0) * (1 if _number(column.name, "sign") < 0.5 else -1),  # noqa: PLR2004
            shape=_number(column.name, "shape"),
        )
        for column in drawn
    }


def _number(name: str, label: str) -> float:
    """A number from 0 to 1 that follows from a name."""
    return int.from_bytes(hashlib.sha256(f"{label}\x1f{name}".encode()).digest()[:6]) / 2**48


def _risk(places: Places, traits: dict[str, _Trait]) -> NDArray[np.float64]:
    """The risk of each customer, with mean 0 and standard deviation 1 in the population."""
    first, *others = sorted(traits, key=lambda name: -abs(traits[name].weight))
    second = others[0] if others else first
    total = sum(trait.weight * places[name] for name, trait in traits.items())
    variance = sum(
        one.weight
        * other.weight
        * (1.0 if a == b else one.loading * other.loading if one.factor == other.factor else 0.0)
        for a, one in traits.items()
        for b, other in traits.items()
    )
    joined = np.tanh(places[first]) * np.tanh(places[second])
    mean_joined = 0.4 * _correlation(traits[first], traits[second], same=first == second)
    plain = total / np.sqrt(variance)
    risk: NDArray[np.float64] = (plain + _INTERACTION * (joined - mean_joined)) / np.sqrt(1 + 0.15 * _INTERACTION**2)
    return risk


def _correlation(one: _Trait, other: _Trait, *, same: bool) -> float:
    if same:
        return 1.0
    return one.loading * other.loading if one.factor == other.factor else 0.0


def _values(column: Column, place: NDArray[np.float64], trait: _Trait, rng: np.random.Generator) -> Any:
    """Turn the places of customers into values of a column."""
    rank = np.clip(ndtr(place), _EDGE, 1 - _EDGE)
    if column.values:
        values: Any = np.array(sorted(column.texts))[_level(rank, len(column.texts), trait)]
    elif column.kind is Kind.TEXT:
        count = 2 * column.max_levels if column.max_levels else 0
        levels = list(column.categories) or [f"{column.name}-{number}" for number in range(1, max(count, 2) + 1)]
        values = np.array(levels, dtype=object)[_level(rank, len(levels), trait)]
    else:
        values = _numbers(column, rank, trait)
    series = pd.Series(values, dtype="object" if column.kind is Kind.TEXT else "float64")
    if column.kind is Kind.INTEGER:
        series = series.round().astype("Int64" if column.nullable else "int64")
    if column.nullable:
        series[rng.random(len(series)) < _MISSING] = None if column.kind is Kind.TEXT else pd.NA
    return series


def _level(rank: NDArray[np.float64], levels: int, trait: _Trait) -> NDArray[np.int64]:
    """The level of each customer: later levels are rarer, the more so the larger the shape."""
    shares = (1.0 + np.arange(levels)) ** -(0.4 + trait.shape)
    return np.searchsorted(np.cumsum(shares / shares.sum())[:-1], rank)


def _numbers(column: Column, rank: NDArray[np.float64], trait: _Trait) -> NDArray[np.float64]:
    """Numbers between the bounds, more of them near the lower one; without bounds, around a hundred."""
    low, high = column.minimum, column.maximum
    if low is not None and high is not None:
        if column.kind is Kind.INTEGER and high - low <= _STRONG:
            return (low + _level(rank, int(high - low) + 1, trait)).astype(np.float64)
        place = rank ** (1.2 + 1.5 * trait.shape) * (0.6 + 0.4 * rank)
        return (low + (high - low) * place).round(2).astype(np.float64)
    spread: NDArray[np.float64] = (np.exp(0.6 * ndtri(rank)) * 100).round(2)
    if low is not None:
        return low + spread
    return high - spread if high is not None else spread
