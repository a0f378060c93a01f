"""A model in another process: the same scores, and an end that says why."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import skops.io
import yaml
from sklearn.linear_model import LogisticRegression

from churn.decision import scoring_process as module
from churn.decision.scoring_process import ScoringEnded, ScoringSilent, scoring_process
from churn.foundation.local_server import bare_environment

ROWS = pd.DataFrame({"Age": [20.0, 40.0, 60.0, 80.0]})
MODEL = LogisticRegression().fit(ROWS, [0, 0, 1, 1])


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The folder of an MLflow model."""
    flavor = {"serialization_format": "skops", "pickled_model": "model.skops"}
    (tmp_path / "MLmodel").write_text(yaml.safe_dump({"flavors": {"sklearn": flavor}}))
    skops.io.dump(MODEL, tmp_path / "model.skops")
    return tmp_path


def test_the_scores_are_the_models(folder: Path) -> None:
    """As often as it is asked."""
    with scoring_process(folder, [], bare_environment()) as score:
        for rows in (ROWS, ROWS.iloc[:1]):
            np.testing.assert_array_equal(score(rows), MODEL.predict_proba(rows)[:, 1])


def test_a_model_that_cannot_be_loaded_is_said(folder: Path) -> None:
    (folder / "model.skops").write_bytes(b"no model")
    with (
        pytest.raises(ScoringEnded, match=r"ended with status 1: zipfile.BadZipFile$"),
        scoring_process(folder, [], bare_environment()),
    ):
        pass


def test_rows_that_the_model_fails_on_are_one_error(folder: Path) -> None:
    with (
        scoring_process(folder, [], bare_environment()) as score,
        pytest.raises(ScoringEnded, match=r"ended with status 1: ValueError$"),
    ):
        score(pd.DataFrame({"Age": ["old"]}))


def test_a_process_that_does_not_answer_is_an_outage(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is ended, and the step can be run again."""
    monkeypatch.setattr(module, "_SECONDS", 0.01)
    started: list[Any] = []
    popen = module.subprocess.Popen

    def remembered(*args: Any, **options: Any) -> Any:
        started.append(popen(*args, **options))
        return started[-1]

    monkeypatch.setattr(module.subprocess, "Popen", remembered)
    with (
        pytest.raises(ScoringSilent, match="has not answered within"),
        scoring_process(folder, [], bare_environment()),
    ):
        pass
    assert started[0].returncode == -9
