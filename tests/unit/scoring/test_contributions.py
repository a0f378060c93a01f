"""What each column adds to a score: exact of smooth models and trees, rescaled of what is made of them, estimated of any other."""

from __future__ import annotations

from collections.abc import Callable
from io import StringIO
from itertools import combinations, permutations
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy.special import expit, logit
from sklearn.ensemble import HistGradientBoostingClassifier, RandomForestClassifier, VotingClassifier
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

from churn.candidate import Context
from churn.contract import Contract
from churn.contracts.bank import BANK_CHURN
from churn.foundation.examples import model_input
from churn.learning.candidates import BOOSTED, INTERACTIONS, SMOOTH, standard
from churn.scoring.contributions import ESTIMATED, EXACT, RESCALED, TREES, Contributions, explain_scores
from churn.serving.recalibration import ISOTONIC, SIGMOID, Recalibrated, fit_curve
from support.basics import small_file

FEATURES = BANK_CHURN.feature_names


@pytest.fixture(scope="module")
def rows() -> pd.DataFrame:
    return pd.read_csv(StringIO(small_file(1500)))


@pytest.fixture(scope="module")
def fitted(rows: pd.DataFrame) -> Callable[[str], Any]:
    """Fits a standard candidate, once."""
    candidates = standard(BANK_CHURN, Context(rows=len(rows), seed=1))
    models: dict[str, Any] = {}

    def fit(name: str) -> Any:
        if name not in models:
            candidate = candidates[name]
            capacity = candidate.capacities[-1] | ({candidate.iterations: 60} if candidate.iterations else {})
            model = candidate.estimator.set_params(**capacity)
            models[name] = model.fit(model_input(BANK_CHURN, rows), rows[BANK_CHURN.target.name])
        return models[name]

    return fit


def explained(model: Any, rows: pd.DataFrame, contract: Contract = BANK_CHURN) -> tuple[Contributions, np.ndarray]:
    """The contributions, and the scores."""
    wanted = model_input(contract, rows)

    def score(some: pd.DataFrame) -> np.ndarray:
        return np.asarray(model.predict_proba(some)[:, 1])

    return explain_scores(score, model, wanted, contract.feature_names, wanted), score(wanted)


def require_sums(found: Contributions, scores: np.ndarray) -> None:
    assert found.values.shape == (len(scores), len(FEATURES))
    assert np.abs(found.base + found.values.sum(axis=1) - logit(scores)).max() < 1e-6


@pytest.mark.parametrize(("name", "method"), [(SMOOTH, EXACT), (INTERACTIONS, EXACT), (BOOSTED, TREES)])
def test_contributions_add_up_to_the_log_odds(
    name: str, method: str, fitted: Callable[[str], Any], rows: pd.DataFrame
) -> None:
    found, scores = explained(fitted(name), rows)
    assert (found.method, found.error < 1e-9) == (method, True)
    require_sums(found, scores)


def test_a_column_of_a_smooth_model_adds_what_a_change_of_it_changes(
    fitted: Callable[[str], Any], rows: pd.DataFrame
) -> None:
    """Without interactions, another value of a column changes the log-odds by the difference of its contributions, and no other column's."""
    changed = rows.assign(Age=rows["Age"].sample(frac=1, random_state=3).to_numpy())
    before, scores = explained(fitted(SMOOTH), rows)
    after, again = explained(fitted(SMOOTH), changed)
    age = FEATURES.index("Age")
    assert after.values[:, age] - before.values[:, age] == pytest.approx(logit(again) - logit(scores), abs=1e-9)
    others = [place for place in range(len(FEATURES)) if place != age]
    assert np.abs(after.values[:, others] - before.values[:, others]).max() < 1e-12


def test_the_mean_contribution_of_a_smooth_model_to_its_training_rows_is_zero(
    fitted: Callable[[str], Any], rows: pd.DataFrame
) -> None:
    for name in (SMOOTH, INTERACTIONS):
        found, _ = explained(fitted(name), rows)
        assert np.abs(found.values.mean(axis=0)).max() < 1e-9
        assert np.abs(found.values).max() > 0.1


def test_an_interaction_is_split_equally_between_its_columns(fitted: Callable[[str], Any], rows: pd.DataFrame) -> None:
    """Compared with a computation that goes through the outputs of the steps one by one."""
    model = fitted(INTERACTIONS)
    union, terms = model[0], model[:-1].transform(model_input(BANK_CHURN, rows)) * model[-1].coef_[0]
    names = [name for part in ("additive", "products") for name in _origins(dict(union.transformer_list)[part])]
    expected = np.zeros((len(rows), len(FEATURES)))
    for output, origin in enumerate(names):
        for column in origin:
            expected[:, FEATURES.index(column)] += terms[:, output] / len(origin)
    assert np.abs(explained(model, rows)[0].values - expected).max() < 1e-9


def _origins(part: Any) -> list[tuple[str, ...]]:
    """The columns that each output of a part of the model is made of."""
    transformer = part[0] if isinstance(part, Pipeline) else part
    outputs: list[str] = [""] * max(place.stop for place in transformer.output_indices_.values())
    for name, place in transformer.output_indices_.items():
        outputs[place] = [name] * (place.stop - place.start)
    if not isinstance(part, Pipeline):
        return [(name,) for name in outputs]
    return [(name,) for name in outputs] + list(combinations(outputs, 2))


def test_contributions_of_trees_are_shapley_values(rows: pd.DataFrame) -> None:
    """Of two columns, by the definition: the mean over both orders, what is not known being averaged as the tree saw it."""
    from sklearn.ensemble import HistGradientBoostingClassifier

    two = rows[["Age", "Balance"]].astype(float)
    trees = HistGradientBoostingClassifier(max_iter=1, max_leaf_nodes=3, min_samples_leaf=1, early_stopping=False)
    trees.fit(two.to_numpy(), rows["Exited"])
    nodes = trees._predictors[0][0].nodes

    def value(row: np.ndarray, known: set[int], node: int = 0) -> float:
        here = nodes[node]
        if here["is_leaf"]:
            return float(here["value"])
        left, right = int(here["left"]), int(here["right"])
        if int(here["feature_idx"]) in known:
            return value(row, known, left if row[here["feature_idx"]] <= here["num_threshold"] else right)
        weights = np.array([nodes[left]["count"], nodes[right]["count"]], float)
        return float(np.average([value(row, known, left), value(row, known, right)], weights=weights))

    from churn.scoring.contributions import _of_trees

    found = _of_trees(trees, two.to_numpy()[:40], np.eye(2))
    for row, values in zip(two.to_numpy()[:40], found.values, strict=True):
        expected = np.zeros(2)
        for order in permutations(range(2)):
            known: set[int] = set()
            for column in order:
                before = value(row, known)
                known = known | {column}
                expected[column] += (value(row, known) - before) / 2
        assert values == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize("curve", [None, SIGMOID, ISOTONIC])
def test_averages_and_corrections_are_rescaled_to_the_score(
    curve: str | None, fitted: Callable[[str], Any], rows: pd.DataFrame
) -> None:
    members = [(name, FrozenEstimator(fitted(name))) for name in (SMOOTH, BOOSTED)]
    wanted, target = model_input(BANK_CHURN, rows), rows["Exited"].to_numpy()
    model: Any = VotingClassifier(members, voting="soft").fit(wanted, target)
    if curve:
        model = Recalibrated(model, fit_curve(curve, model.predict_proba(wanted)[:, 1], target))
    found, scores = explained(model, rows)
    assert found.method == RESCALED
    require_sums(found, scores)
    apart = [explained(fitted(name), rows)[0].values for name in (SMOOTH, BOOSTED)]
    agreed = (apart[0] > 0.05) & (apart[1] > 0.05)
    assert agreed.sum() > 100
    if curve != ISOTONIC:  # a curve may be almost flat
        assert (found.values[agreed] > 0).all()


def test_a_score_of_one_has_contributions_in_probability(fitted: Callable[[str], Any], rows: pd.DataFrame) -> None:
    """Its log-odds are infinite."""

    class Certain:
        """A curve that ends in certainty."""

        def predict(self, scores: np.ndarray) -> np.ndarray:
            return np.where(scores > 0.5, 1.0, scores)

    model = Recalibrated(fitted(SMOOTH), Certain())
    found, scores = explained(model, rows)
    assert np.isfinite(found.values).all()
    certain = scores == 1.0
    assert 0 < certain.sum() < len(rows)
    assert found.base[certain] + found.values[certain].sum(axis=1) == pytest.approx(1.0, abs=1e-9)
    require_sums(
        Contributions(found.values[~certain], found.base[~certain], found.method, found.error), scores[~certain]
    )


def test_of_any_other_model_contributions_are_estimated_with_their_error(rows: pd.DataFrame) -> None:
    """Of a model without interactions, the estimate agrees with the exact contributions but for their constants."""
    numbers = ["Age", "Balance", "NumOfProducts"]
    wanted = rows[numbers].astype(float)

    def score(some: pd.DataFrame) -> np.ndarray:
        return np.asarray(expit(0.05 * some["Age"] + 1e-6 * some["Balance"] - 0.3 * some["NumOfProducts"] - 2))

    found = explain_scores(score, None, wanted, numbers, wanted)
    assert found.method == ESTIMATED
    exact = np.column_stack([0.05 * wanted["Age"], 1e-6 * wanted["Balance"], -0.3 * wanted["NumOfProducts"]])
    assert np.abs(found.base + found.values.sum(axis=1) - logit(score(wanted))).max() < 1e-9
    differences = found.values - (exact - exact.mean(axis=0))
    assert 0 < found.error < 0.3
    assert np.abs(differences).mean() < 3 * found.error


@pytest.mark.parametrize(
    "steps",
    [
        [RandomForestClassifier(20, random_state=0)],
        [LogisticRegression()],
        [HistGradientBoostingClassifier(max_iter=5)],
        [
            OneHotEncoder(handle_unknown="ignore"),
            StandardScaler(with_mean=False),
            LogisticRegression(),
        ],
    ],
    ids=lambda steps: type(steps[0]).__name__,
)
def test_a_model_that_cannot_be_taken_apart_is_asked(rows: pd.DataFrame, steps: list[Any]) -> None:
    """Whatever the steps of somebody's own model do, the list has reasons."""
    numbers = ["Age", "NumOfProducts"]
    wanted = rows[numbers].astype(float)
    model = make_pipeline(*steps).fit(wanted, rows["Exited"])
    found = explain_scores(lambda some: model.predict_proba(some)[:, 1], model, wanted, numbers, wanted)
    assert found.method == ESTIMATED
    scores = model.predict_proba(wanted)[:, 1]
    inside = (scores > 0) & (scores < 1)
    sums = found.base + found.values.sum(axis=1)
    assert np.abs(sums - logit(scores))[inside].max() < 1e-9
