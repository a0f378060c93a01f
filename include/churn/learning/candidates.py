"""The candidate models, as scikit-learn pipelines that include the preprocessing.

Which kind wins depends on the number of rows: smooth or small models at ten thousand, boosting from a million on. Both kinds
compete in every run, and so does their average.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.compose import ColumnTransformer
from sklearn.ensemble import HistGradientBoostingClassifier, VotingClassifier
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import OneHotEncoder, OrdinalEncoder, SplineTransformer, StandardScaler

from churn.candidate import Candidate, Context
from churn.contract import Column, Contract, Kind

SMOOTH = "logistic_splines"
BOOSTED = "boosted_trees"
AVERAGE = "average"
FEW_LEVELS = 20


def standard(contract: Contract, context: Context) -> dict[str, Candidate]:
    """The candidates that compete unless a setting names others, the simplest first."""
    return {SMOOTH: Candidate(_smooth(contract)), BOOSTED: Candidate(_boosted(contract, context.seed))}


def make_candidates(contract: Contract, seed: int) -> dict[str, Any]:
    """Create the unfitted candidates by name, the simplest first.

    Args:
        contract: defines the features and their values.
        seed: the seed of everything random in a fit.
    """
    smooth, boosted = _smooth(contract), _boosted(contract, seed)
    average = VotingClassifier([(SMOOTH, _smooth(contract)), (BOOSTED, _boosted(contract, seed))], voting="soft")
    return {SMOOTH: smooth, BOOSTED: boosted, AVERAGE: average}


def _smooth(contract: Contract) -> Pipeline:
    parts = [(column.name, _smooth_part(column), [column.name]) for column in contract.features]
    return make_pipeline(
        ColumnTransformer(parts, sparse_threshold=0), StandardScaler(), LogisticRegression(C=0.3, max_iter=2000)
    )


def _smooth_part(column: Column) -> Any:
    if not column.numeric:
        return _filled(
            column, OneHotEncoder(categories=[list(_levels(column))], handle_unknown="ignore", drop="if_binary")
        )
    levels = _level_count(column)
    if levels == 2:  # noqa: PLR2004 -- a flag is its own feature
        return _filled(column, "passthrough")
    if levels is not None and levels <= FEW_LEVELS:
        return _filled(column, OneHotEncoder(handle_unknown="ignore"))
    return _filled(column, SplineTransformer(n_knots=6, degree=3, extrapolation="linear"))


def _filled(column: Column, step: Any) -> Any:
    """Put an imputer before a step where the contract allows missing values."""
    if not column.nullable:
        return step
    filler = (
        SimpleImputer(strategy="median")
        if column.numeric
        else SimpleImputer(missing_values=None, strategy="constant", fill_value="")
    )
    return filler if step == "passthrough" else make_pipeline(filler, step)


def _boosted(contract: Contract, seed: int) -> Pipeline:
    # Texts as ordinals, which trees can split. The categorical mode of the trees would put a `functools.partial` into the
    # saved model, which no reviewed list of types should trust.
    texts = [column for column in contract.features if not column.numeric]
    ordinal = OrdinalEncoder(
        categories=[list(_levels(column)) for column in texts],
        handle_unknown="use_encoded_value",
        unknown_value=np.nan,
        encoded_missing_value=np.nan,
    )
    prepare = ColumnTransformer(
        [("texts", ordinal, [column.name for column in texts])],
        remainder="passthrough",
        verbose_feature_names_out=False,
    )
    return make_pipeline(
        prepare,
        HistGradientBoostingClassifier(
            learning_rate=0.03,
            max_iter=250,
            max_leaf_nodes=8,
            min_samples_leaf=30,
            l2_regularization=5.0,
            max_features=0.5,
            early_stopping=False,
            random_state=seed,
        ),
    )


def _levels(column: Column) -> tuple[str, ...]:
    return (*column.categories, "") if column.nullable else column.categories


def _level_count(column: Column) -> int | None:
    if column.kind is not Kind.INTEGER or column.minimum is None or column.maximum is None:
        return None
    return int(column.maximum - column.minimum) + 1
