"""The candidate models, as scikit-learn pipelines that include the preprocessing.

Which kind wins, and with how much capacity, depends on the data: smooth or small models at a few thousand rows, large trees from a
million on. All kinds compete in every run, and so does the average of the best two.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.compose import ColumnTransformer
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedKFold
from sklearn.pipeline import FeatureUnion, make_pipeline
from sklearn.preprocessing import (
    OneHotEncoder,
    OrdinalEncoder,
    PolynomialFeatures,
    SplineTransformer,
    StandardScaler,
    TargetEncoder,
)

from churn.candidate import Candidate, Context
from churn.contract import Column, Contract, Kind
from churn.serving.levels import KnownLevels

SMOOTH = "logistic_splines"
INTERACTIONS = "logistic_interactions"
BOOSTED = "boosted_trees"
FEW_LEVELS = 20
"""Up to this number of whole numbers, each is a level of its own in a smooth model."""
_FEW_PRODUCTS = 40
"""With more columns than this there are too many pairs for a model of all interactions."""
_ORDERED_LEVELS = 8
"""A text with more levels is encoded by the rate of the event, which trees can split in fewer steps than an alphabet."""
_LARGE, _HUGE = 20_000, 500_000


def standard(contract: Contract, context: Context) -> dict[str, Candidate]:
    """The candidates that compete unless a setting names others, the simplest first."""
    candidates = {SMOOTH: _smooth(contract)}
    if len(contract.features) <= _FEW_PRODUCTS and sum(map(_width, contract.features)) <= _FEW_PRODUCTS:
        candidates[INTERACTIONS] = _interactions(contract)
    return candidates | {BOOSTED: _boosted(contract, context)}


def _smooth(contract: Contract) -> Candidate:
    model = make_pipeline(_additive(contract), StandardScaler(copy=False), LogisticRegression(max_iter=2000))
    return Candidate(
        model,
        [
            _knots(contract, "columntransformer", 4) | {"logisticregression__C": 0.003},
            _knots(contract, "columntransformer", 4) | {"logisticregression__C": 0.03},
            _knots(contract, "columntransformer", 6) | {"logisticregression__C": 0.3},
            _knots(contract, "columntransformer", 10) | {"logisticregression__C": 0.3},
        ],
        max_rows=500_000,
    )


def _interactions(contract: Contract) -> Candidate:
    """Splines of every column, and the product of every pair of columns."""
    products = make_pipeline(
        ColumnTransformer(
            [(column.name, _linear_part(column), [column.name]) for column in contract.features], sparse_threshold=0
        ),
        StandardScaler(copy=False),
        PolynomialFeatures(2, interaction_only=True, include_bias=False),
    )
    model = make_pipeline(
        FeatureUnion([("additive", _additive(contract)), ("products", products)]),
        StandardScaler(copy=False),
        LogisticRegression(max_iter=2000),
    )
    knots = _knots(contract, "featureunion__additive", 6)
    return Candidate(model, [knots | {"logisticregression__C": C} for C in (0.003, 0.03)], max_rows=200_000)


def _additive(contract: Contract) -> ColumnTransformer:
    return ColumnTransformer(
        [(column.name, _smooth_part(column), [column.name]) for column in contract.features], sparse_threshold=0
    )


def _smooth_part(column: Column) -> Any:
    if not column.numeric:
        return _one_hot(column)
    levels = _level_count(column)
    if levels == 2:  # noqa: PLR2004 -- a flag is its own feature
        return _filled(column, "passthrough")
    if levels is not None and levels <= FEW_LEVELS:
        return _filled(column, OneHotEncoder(handle_unknown="ignore"))
    return _filled(column, SplineTransformer(degree=3, knots="quantile", extrapolation="linear"))


def _linear_part(column: Column) -> Any:
    if not column.numeric:
        return _one_hot(column)
    levels = _level_count(column)
    if levels is not None and 2 < levels <= _ORDERED_LEVELS:  # noqa: PLR2004 -- more than a flag
        return _filled(column, OneHotEncoder(handle_unknown="ignore"))
    return _filled(column, "passthrough")


def _width(column: Column) -> int:
    """The number of columns that a feature has in the products."""
    if not column.numeric:
        return column.max_levels or len(_levels(column))
    levels = _level_count(column)
    return levels if levels is not None and 2 < levels <= _ORDERED_LEVELS else 1  # noqa: PLR2004


def _one_hot(column: Column) -> Any:
    if column.max_levels:
        return make_pipeline(KnownLevels(column.max_levels), OneHotEncoder(handle_unknown="ignore"))
    return _filled(column, OneHotEncoder(categories=[list(_levels(column))], handle_unknown="ignore", drop="if_binary"))


def _knots(contract: Contract, prefix: str, number: int) -> dict[str, int]:
    """The parameters that give each spline this number of knots."""
    splines = [column for column in contract.features if _has_spline(column)]
    return {
        f"{prefix}__{column.name}__{'splinetransformer__' if column.nullable else ''}n_knots": number
        for column in splines
    }


def _has_spline(column: Column) -> bool:
    levels = _level_count(column)
    return column.numeric and (levels is None or levels > FEW_LEVELS)


def _filled(column: Column, step: Any) -> Any:
    """Put an imputer before a step where the contract allows missing values."""
    if not column.nullable:
        return step
    filler = (
        SimpleImputer(strategy="median", keep_empty_features=True)
        if column.numeric
        else SimpleImputer(missing_values=None, strategy="constant", fill_value="")
    )
    return filler if step == "passthrough" else make_pipeline(filler, step)


def _boosted(contract: Contract, context: Context) -> Candidate:
    # Few levels as ordinals, which trees can split. The categorical mode of the trees would put a `functools.partial` into the
    # saved model, which no reviewed list of types should trust.
    texts = [column for column in contract.features if not column.numeric]
    few = [column for column in texts if not column.max_levels and len(_levels(column)) <= _ORDERED_LEVELS]
    parts: list[tuple[str, Any, list[str]]] = [
        (
            "texts",
            OrdinalEncoder(
                categories=[list(_levels(column)) for column in few],
                handle_unknown="use_encoded_value",
                unknown_value=np.nan,
                encoded_missing_value=np.nan,
            ),
            [column.name for column in few],
        )
    ]
    parts += [(column.name, _rates(column, context.seed), [column.name]) for column in texts if column not in few]
    prepare = ColumnTransformer(parts, remainder="passthrough", verbose_feature_names_out=False)
    boosting = HistGradientBoostingClassifier(
        max_iter=1500, l2_regularization=5.0, max_features=0.5, early_stopping=False, random_state=context.seed
    )
    step = "histgradientboostingclassifier"
    sizes = [(4, 0.1, 30), (8, 0.1, 30), (16, 0.1, 20), (31, 0.05, 20)]
    if context.rows > _LARGE:
        sizes.append((63, 0.05, 20))
    if context.rows > _HUGE:
        sizes[-2:] = [(31, 0.1, 50), (63, 0.1, 100)]
    return Candidate(
        make_pipeline(prepare, boosting),
        [
            {f"{step}__max_leaf_nodes": leaves, f"{step}__learning_rate": rate, f"{step}__min_samples_leaf": least}
            for leaves, rate, least in sizes
        ],
        iterations=f"{step}__max_iter",
    )


def _rates(column: Column, seed: int) -> Any:
    known = KnownLevels(column.max_levels or len(_levels(column)))
    return make_pipeline(
        known, TargetEncoder(target_type="binary", cv=StratifiedKFold(5, shuffle=True, random_state=seed))
    )


def _levels(column: Column) -> tuple[str, ...]:
    return (*column.categories, "") if column.nullable else column.categories


def _level_count(column: Column) -> int | None:
    if column.kind is not Kind.INTEGER or column.minimum is None or column.maximum is None:
        return None
    return int(column.maximum - column.minimum) + 1
