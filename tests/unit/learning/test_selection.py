"""From training rows to a fitted model: the same rows give the same model, small or large."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from churn.contracts.bank import BANK_CHURN
from churn.foundation.examples import model_input
from churn.learning import search
from churn.learning.fitting_process import Limits
from churn.learning.search import plan_search
from churn.learning.search_report import describe_capacity, write_search
from churn.learning.selection import SearchSpec, Selected, select_model
from churn.sample.generator import Night, make_night
from churn.serving.model import TRUSTED_TYPES
from support.basics import TWO_KINDS

SPEC = SearchSpec(TWO_KINDS, folds=3, seed=20, max_rows=100_000, limits=Limits(10**10, 600), cores=1)


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("rows")
    (folder / "night.csv").write_text(make_night(BANK_CHURN, Night(3000, 1, 7, older_share=0.3)))
    night = pd.read_csv(folder / "night.csv")
    features = model_input(BANK_CHURN, night).assign(Exited=night["Exited"])
    features.to_parquet(folder / "rows.parquet", index=False, row_group_size=500)
    return folder / "rows.parquet"


def _select(rows: Path) -> Selected:
    target = pd.read_parquet(rows)["Exited"].to_numpy(dtype="int64")
    plan = plan_search(len(target), SPEC.max_rows)
    return select_model(rows, target[: plan.end], plan, BANK_CHURN, SPEC)


@pytest.mark.parametrize("apart", [False, True], ids=["cross-validated", "apart"])
def test_the_same_rows_give_the_same_model(
    rows: Path, apart: bool, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Bit for bit, with one thread. The table says how each trial did, and the pictures can be opened."""
    monkeypatch.setattr(search, "CURVE", (4, 2))
    if apart:
        monkeypatch.setattr(search, "FOLDS_AT_MOST", 1000)
        monkeypatch.setattr(search, "RUNGS", (500,))
        monkeypatch.setattr(search, "APART", 0.2)
    first, second = _select(rows), _select(rows)
    features = pd.read_parquet(rows)[BANK_CHURN.feature_names]
    np.testing.assert_array_equal(first.model.predict_proba(features), second.model.predict_proba(features))
    assert first.chosen.name == second.chosen.name
    assert {each.feature for each in first.importance} == set(BANK_CHURN.feature_names)
    assert first.importance[0].lower > 0
    assert first.importance[0].feature in {"Age", "NumOfProducts"}
    write_search(first, tmp_path)
    table = pd.read_csv(tmp_path / "trials.csv")
    assert (table["selected"] == "yes").sum() == 1
    assert (table["lower"] < table["log_loss"]).all()
    assert {"logistic_splines", "boosted_trees", "average"} <= set(table["kind"])
    assert sorted(set(table["rung"])) == ([1, 2] if apart else [0, 1])
    for picture in ("learning_curve.svg", "permutation_importance.svg"):
        assert (tmp_path / picture).read_text().startswith("<svg")
    assert describe_capacity(first.chosen)


@pytest.mark.parametrize("apart", [False, True], ids=["cross-validated", "apart"])
@pytest.mark.parametrize("kind", ["average", "average_sigmoid", "boosted_trees_isotonic"])
def test_what_is_made_of_trials_scores_as_it_was_measured(
    rows: Path, kind: str, apart: bool, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """An average and a correction are saved from trusted types, and on the rows of the comparison they score as in the search."""
    import skops.io

    from churn.learning import selection
    from churn.learning.search import Found
    from churn.learning.trials import Target, Trial, average, correct

    def choose(found: Found, target: Target, stopping: Target | None) -> tuple[Trial, list[Trial]]:
        made = average(found.final, target)
        plain = [*found.final, *made]
        made += [each for trial in plain for each in correct(trial, target, stopping)]
        return next(trial for trial in [*plain, *made] if trial.name == kind), made

    if apart:
        monkeypatch.setattr(search, "FOLDS_AT_MOST", 1000)
        monkeypatch.setattr(search, "RUNGS", (500,))
        monkeypatch.setattr(search, "APART", 0.2)
    monkeypatch.setattr(selection, "select", choose)
    selected = _select(rows)
    features = pd.read_parquet(rows)[BANK_CHURN.feature_names]
    scores = selected.model.predict_proba(features)
    np.testing.assert_allclose(scores.sum(axis=1), 1)
    skops.io.dump(selected.model, tmp_path / "model.skops")
    loaded = skops.io.load(tmp_path / "model.skops", trusted=TRUSTED_TYPES)
    np.testing.assert_array_equal(loaded.predict_proba(features), scores)
    if apart:
        compared = selected.chosen.measured.scores
        np.testing.assert_allclose(scores[-len(compared) :, 1], compared, atol=1e-12)
