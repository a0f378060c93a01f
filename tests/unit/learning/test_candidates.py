"""The standard candidates fit data of any contract, and can be saved without trusting unreviewed types."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import skops.io
from sklearn.base import clone

from churn.candidate import Candidate, Context
from churn.contract import Column, Contract, Kind, Role
from churn.contracts.bank import BANK_CHURN
from churn.foundation.examples import example_rows, model_input
from churn.learning.candidates import BOOSTED, INTERACTIONS, SMOOTH, standard
from churn.serving.checks import add_checks
from churn.serving.model import TRUSTED_TYPES

MIXED = Contract(
    "mixed",
    (
        Column("id", Kind.TEXT, Role.KEY),
        Column("left", Kind.INTEGER, Role.TARGET, 0, 1),
        Column("balance", Kind.NUMBER, Role.FEATURE, nullable=True),
        Column("visits", Kind.INTEGER, Role.FEATURE, 0, 5, nullable=True),
        Column("flag", Kind.INTEGER, Role.FEATURE, 0, 1),
        Column("plan", Kind.TEXT, Role.FEATURE, categories=("basic", "gold"), nullable=True),
        Column("city", Kind.TEXT, Role.FEATURE, categories=tuple(f"city {number}" for number in range(12))),
        Column("employer", Kind.TEXT, Role.FEATURE, max_levels=4, nullable=True),
        Column("shoe", Kind.NUMBER, Role.FEATURE, 20, 50, feature=False),
    ),
)


def _fitted(candidate: Candidate, contract: Contract, rows: int = 600) -> Iterator[tuple[Any, pd.DataFrame]]:
    features = model_input(contract, example_rows(contract, rows, seed=1))
    target = np.random.default_rng(1).integers(0, 2, rows)
    for capacity in (candidate.capacities[0], candidate.capacities[-1]):
        model = clone(candidate.estimator).set_params(**capacity)
        if candidate.iterations:
            model.set_params(**{candidate.iterations: 5})
        yield model.fit(features, target), features


@pytest.mark.parametrize("contract", [BANK_CHURN, MIXED], ids=lambda contract: contract.name)
def test_every_kind_fits_and_is_saved_from_trusted_types(contract: Contract, tmp_path: Path) -> None:
    """With missing values, open texts, many categories and texts that nobody has seen."""
    candidates = standard(contract, Context(600, seed=3))
    assert list(candidates) == [SMOOTH, INTERACTIONS, BOOSTED]
    for candidate in candidates.values():
        for model, features in _fitted(candidate, contract):
            scores = model.predict_proba(features)
            skops.io.dump(add_checks(model, contract), tmp_path / "model.skops")
            loaded = skops.io.load(tmp_path / "model.skops", trusted=TRUSTED_TYPES)
            np.testing.assert_array_equal(loaded.predict_proba(features), scores)


def test_an_unknown_text_is_treated_as_the_rare_ones() -> None:
    """Every candidate scores an employer that it has never seen like one that is too rare to have a level of its own."""
    for candidate in standard(MIXED, Context(600, seed=3)).values():
        for model, features in _fitted(candidate, MIXED):
            row = features.iloc[[0, 0]].assign(employer=["never seen", features["employer"].value_counts().index[-1]])
            unseen, rare = model.predict_proba(row)[:, 1]
            assert unseen == rare


def test_products_of_all_columns_are_left_out_where_there_are_too_many() -> None:
    """Sixty columns have 1,770 pairs."""
    wide = Contract(
        "wide",
        (
            *MIXED.columns[:2],
            *(Column(f"x{number}", Kind.NUMBER, Role.FEATURE, 0, 1) for number in range(60)),
        ),
    )
    assert list(standard(wide, Context(600, seed=3))) == [SMOOTH, BOOSTED]


@pytest.mark.parametrize(("rows", "leaves"), [(10_000, 31), (30_000, 63), (2_000_000, 63)])
def test_more_rows_allow_larger_trees(rows: int, leaves: int) -> None:
    sizes = [
        capacity["histgradientboostingclassifier__max_leaf_nodes"]
        for capacity in standard(BANK_CHURN, Context(rows, seed=3))[BOOSTED].capacities
    ]
    assert sizes == sorted(sizes)
    assert sizes[-1] == leaves
