"""How much each column of a customer adds to the score, in log-odds.

Of a smooth model the contributions are exact, and an interaction is split equally between its columns. Of trees they are Shapley
values by TreeSHAP (Lundberg and others, From Local Explanations to Global Understanding with Explainable AI for Trees, 2020). For an
average of models and for a recalibrated model, the contributions of what they are made of are rescaled for each customer, which
is an approximation. Of any other model they are estimated from its answers alone (Strumbelj and Kononenko, Explaining Prediction
Models and Individual Predictions with Feature Contributions, 2014).
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.special import expit, logit
from sklearn.compose import ColumnTransformer
from sklearn.ensemble import HistGradientBoostingClassifier, VotingClassifier
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import FeatureUnion, Pipeline
from sklearn.preprocessing import PolynomialFeatures, StandardScaler

from churn.decision.scoring import Scorer
from churn.serving.recalibration import Recalibrated, apply_curve

log = logging.getLogger(__name__)

EXACT, TREES, RESCALED, ESTIMATED = "exact", "trees", "rescaled", "estimated"
TOLERANCE = 1e-6
"""Largest difference between the sum of the contributions and the log-odds of the score."""
_DRAWS = 4  # pairs of orders, so each column is added eight times
_SEED = 18
_SMALLEST = 1e-15
Numbers = NDArray[np.float64]


@dataclass(frozen=True)
class Contributions:
    """What each column adds to a score.

    - `values`: shape (customers, columns), in log-odds; in probability for a customer whose score is 0 or 1
    - `base`: what they are added to, shape (customers,)
    - `method`: `exact`, `trees`, `rescaled` or `estimated`
    - `error`: largest difference between a sum and its score, or if estimated, the mean standard error of a contribution
    """

    values: Numbers
    base: Numbers
    method: str
    error: float


class _Shares(NamedTuple):
    """Contributions and base of some customers in one unit, log-odds or probability."""

    values: Numbers
    base: float


class _Unknown(Exception):  # noqa: N818 -- not an error: another way is taken
    """The model has steps that cannot be taken apart."""


def explain_scores(
    scorer: Scorer, model: Any | None, rows: pd.DataFrame, features: Sequence[str], others: pd.DataFrame
) -> Contributions:
    """Find how much each column adds to the scores of some customers.

    Args:
        scorer: gives the score of any rows.
        model: the fitted model behind it; None if another process has it.
        rows: the customers, as the model reads them.
        features: the columns of the model.
        others: rows of training customers, whose values stand for those that a model is not told.
    """
    score = np.asarray(scorer(rows), np.float64)
    if model is not None:
        try:
            found = _in_log_odds(model, rows, features)
        except _Unknown as unknown:
            log.info("The contributions are estimated from answers of the model: %s", unknown)
        except Exception as failure:  # the model of somebody else, whose steps may be any
            log.warning(
                "The contributions are estimated, because taking the model apart failed: %s", type(failure).__name__
            )
        else:
            values, base = found.values, np.full(len(rows), found.base)
            certain = (score <= 0) | (score >= 1)
            if certain.any():
                shares = _in_probability(model, rows[certain], features)
                values[certain], base[certain] = shares.values, shares.base
            sums = base + values.sum(axis=1)
            with np.errstate(divide="ignore"):
                difference = np.abs(sums - np.where(certain, score, logit(score)))
            error = float(difference.max(initial=0.0))
            if error <= TOLERANCE:
                return Contributions(values, base, _method_of(model), error)
            log.warning("The contributions miss the scores by up to %.3g, so they are estimated instead.", error)
    return _estimate(scorer, score, rows, features, others)


def _method_of(model: Any) -> str:
    inner = _thawed(model)
    if isinstance(inner, Recalibrated | VotingClassifier):
        return RESCALED
    return EXACT if isinstance(inner[-1], LogisticRegression) else TREES


def _in_log_odds(model: Any, rows: pd.DataFrame, features: Sequence[str]) -> _Shares:
    inner = _thawed(model)
    if isinstance(inner, Recalibrated | VotingClassifier):
        shares = _in_probability(inner, rows, features)
        slopes = _slopes(logit, shares.base + shares.values.sum(axis=1), shares.base)
        return _Shares(shares.values * slopes[:, None], float(logit(shares.base)))
    if not isinstance(inner, Pipeline):
        raise _Unknown(f"{type(inner).__name__} has no known steps.")
    last, prepared = inner[-1], inner[:-1]
    if isinstance(last, LogisticRegression) and isinstance(inner[-2], StandardScaler):
        terms = np.asarray(prepared.transform(rows)) * last.coef_[0]
        return _Shares(terms @ _columns_of(prepared, features), float(last.intercept_[0]))
    if isinstance(last, HistGradientBoostingClassifier):
        return _of_trees(last, np.asarray(prepared.transform(rows), np.float64), _columns_of(prepared, features))
    raise _Unknown(f"{type(last).__name__} cannot be taken apart.")


def _in_probability(model: Any, rows: pd.DataFrame, features: Sequence[str]) -> _Shares:
    inner = _thawed(model)
    if isinstance(inner, VotingClassifier):
        if inner.voting != "soft":
            raise _Unknown("the average is one of votes.")
        members = [_in_probability(member, rows, features) for member in inner.estimators_]
        weights = np.ones(len(members)) if inner.weights is None else np.asarray(inner.weights, np.float64)
        weights = weights / weights.sum()
        values = sum(weight * member.values for weight, member in zip(weights, members, strict=True))
        base = sum(weight * member.base for weight, member in zip(weights, members, strict=True))
        return _Shares(np.asarray(values), float(base))
    if isinstance(inner, Recalibrated):
        return _through(
            _in_probability(inner.estimator, rows, features), lambda scores: apply_curve(inner.curve, scores)
        )
    return _through(_in_log_odds(inner, rows, features), expit)


def _through(shares: _Shares, curve: Callable[[Numbers], Numbers]) -> _Shares:
    """What contributions become when their sum goes through a curve: each is multiplied by the slope from base to sum."""
    slopes = _slopes(curve, shares.base + shares.values.sum(axis=1), shares.base)
    return _Shares(shares.values * slopes[:, None], float(curve(np.array([shares.base]))[0]))


def _slopes(curve: Callable[[Numbers], Numbers], to: Numbers, start: float) -> Numbers:
    """The slope of the line from a curve at `start` to the curve at each place; where both are the same, any slope is right."""
    distance = to - start
    there = np.abs(distance) > _SMALLEST
    with np.errstate(divide="ignore", invalid="ignore"):
        rise = curve(to) - curve(np.array([start]))
        slopes: Numbers = np.where(there, rise / np.where(there, distance, 1.0), 0.0)
    return np.nan_to_num(slopes, nan=0.0, posinf=0.0, neginf=0.0)


def _of_trees(trees: HistGradientBoostingClassifier, rows: Numbers, columns: Numbers) -> _Shares:
    from shap import TreeExplainer  # takes seconds to import

    explainer = TreeExplainer(trees, feature_perturbation="tree_path_dependent")
    values = np.asarray(explainer.shap_values(rows, check_additivity=False), np.float64)
    return _Shares(values @ columns, float(np.ravel(explainer.expected_value)[0]))


def _columns_of(step: Any, features: Sequence[str]) -> Numbers:
    """The share that each column has in each output of a step, shape (outputs, columns); each row sums to 1."""
    if isinstance(step, Pipeline):
        shares = _columns_of(step[0], features)
        for further in step[1:]:
            shares = _after(further, shares)
        return shares
    if isinstance(step, FeatureUnion):
        return np.vstack([_columns_of(part, features) for _, part in step.transformer_list])
    if isinstance(step, ColumnTransformer):
        return _of_transformer(step, features)
    raise _Unknown(f"{type(step).__name__} cannot be taken apart.")


def _after(step: Any, shares: Numbers) -> Numbers:
    if isinstance(step, StandardScaler):
        return shares
    if isinstance(step, PolynomialFeatures):
        powers = np.asarray(step.powers_, np.float64)
        return np.asarray(powers @ shares / powers.sum(axis=1, keepdims=True), np.float64)
    raise _Unknown(f"{type(step).__name__} cannot be taken apart.")


def _of_transformer(step: ColumnTransformer, features: Sequence[str]) -> Numbers:
    outputs = max(part.stop for part in step.output_indices_.values())
    shares, names = np.zeros((outputs, len(features))), list(step.feature_names_in_)
    for name, _, wanted in step.transformers_:
        part = step.output_indices_[name]
        columns = [column if isinstance(column, str) else names[column] for column in wanted]
        if len(columns) == 1:
            shares[part, features.index(columns[0])] = 1.0
        elif len(columns) == part.stop - part.start:
            for output, column in zip(range(part.start, part.stop), columns, strict=True):
                shares[output, features.index(column)] = 1.0
        elif columns:
            raise _Unknown(f"the step {name} mixes columns.")
    return shares


def _thawed(model: Any) -> Any:
    return model.estimator if isinstance(model, FrozenEstimator) else model


def _estimate(
    scorer: Scorer, score: Numbers, rows: pd.DataFrame, features: Sequence[str], others: pd.DataFrame
) -> Contributions:
    """Estimate contributions: the columns of a customer replace those of another one after another, in random orders and back."""
    random = np.random.default_rng(_SEED)
    drawn = []
    for _ in range(_DRAWS):
        order = random.permutation(len(features))
        start = others.iloc[random.integers(0, len(others), len(rows))].reset_index(drop=True)
        drawn.append(
            (_walk(scorer, rows, start, features, order) + _walk(scorer, rows, start, features, order[::-1])) / 2
        )
    values = np.mean(drawn, axis=0)
    error = float(np.std(drawn, axis=0, ddof=1).mean() / np.sqrt(_DRAWS)) if len(rows) else 0.0
    return Contributions(values, _log_odds(score) - values.sum(axis=1), ESTIMATED, error)


def _walk(
    scorer: Scorer, rows: pd.DataFrame, start: pd.DataFrame, features: Sequence[str], order: NDArray[np.int64]
) -> Numbers:
    values, here = np.zeros((len(rows), len(features))), start.copy()
    before = _log_odds(np.asarray(scorer(here)))
    for place in order:
        here[features[place]] = rows[features[place]].to_numpy()
        now = _log_odds(np.asarray(scorer(here)))
        values[:, place], before = now - before, now
    return values


def _log_odds(score: Numbers) -> Numbers:
    return np.asarray(logit(np.clip(score, _SMALLEST, 1 - 1e-15)))
