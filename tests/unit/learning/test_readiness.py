"""A candidate that its image could not serve never competes, and the others compete on."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import psutil
import pytest

from churn.contracts.bank import BANK_CHURN
from churn.foundation.examples import example_rows, model_input
from churn.learning import fitting_process
from churn.learning.fitting_process import FittingProcess, Limits
from churn.learning.readiness import Ready
from churn.learning.search import NoCandidate, plan_search
from churn.learning.selection import SearchSpec, Selected, select_model
from support.basics import ROOT

MODULE = """
import os, sys, time
from datetime import timedelta
import numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder
from sklearn.svm import LinearSVC
from churn.candidate import Candidate

class ByAge(ClassifierMixin, BaseEstimator):
    def __init__(self, fault=""):
        self.fault = fault
    def fit(self, rows, target):
        self.classes_, self.middle_ = np.array([0, 1]), float(rows["Age"].mean())
        if self.fault == "turned":
            self.classes_ = self.classes_[::-1]
        self.state_ = {"type": timedelta(1)}.get(self.fault)
        if self.fault == "raises":
            raise ValueError("no such thing")
        if self.fault in ("CustomerId", "Exited"):
            rows[self.fault]
        return self
    def predict_proba(self, rows):
        if self.fault == "package":
            import pyarrow
        if self.fault == "exits":
            os._exit(5)
        if self.fault == "leaves":
            sys.exit(6)
        if self.fault == "hogs":
            self.kept_ = np.ones(250_000_000)
            time.sleep(60)
        high = 1 / (1 + np.exp((self.middle_ - rows["Age"].to_numpy()) / 9))
        high = {"nan": high * np.nan, "same": high * 0 + 0.5, "batch": high * len(rows) / 1e6}.get(self.fault, high)
        return np.column_stack([1 - high, high])

class DummyOrByAge(ByAge):
    def predict_proba(self, rows):
        high = super().predict_proba(rows)
        return 0.5 + high / 1e6 - 5e-7 if self.fault == "dummy" else high

FAULTS = ("raises", "CustomerId", "Exited", "type", "package", "nan", "same", "batch", "turned", "exits", "leaves", "hogs")

def mixed(contract, context):
    bad = {fault.lower(): ByAge(fault) for fault in FAULTS}
    plain = make_pipeline(OneHotEncoder(handle_unknown="ignore"), LogisticRegression())
    return {**bad, "no_probabilities": LinearSVC(), "good": ByAge(), "plain": plain}

def none_left(contract, context):
    return {"type": ByAge("type"), "nan": ByAge("nan")}

def logistic(contract, context):
    return {"logistic": make_pipeline(OneHotEncoder(handle_unknown="ignore"), LogisticRegression())}

def fails_late(contract, context):
    late = Candidate(DummyOrByAge(), [{"fault": "dummy"}, {"fault": "type"}])
    return {"dummy": DummyOrByAge("dummy"), "late": late}
"""
REASONS = {
    "raises": "failed: ValueError: no such thing (raised at ",
    "customerid": "asks for the column CustomerId, which identifies the customer",
    "exited": "asks for the column Exited, which is what a model has to predict",
    "type": "types that may not be loaded: datetime.timedelta",
    "package": 'make lock EXTRA="pyarrow"',
    "nan": "scores are NaN",
    "same": "every row gets the same score, 0.5",
    "batch": "the score of a row depends on the other rows",
    "turned": "its classes_ are [1, 0]",
    "exits": "ended its process with exit status 5",
    "leaves": "failed: SystemExit: 6",
    "hogs": "MB of memory, more than 1,500 MB",
    "no_probabilities": "LinearSVC has no method predict_proba",
}


@pytest.fixture(autouse=True)
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The module is on the Python path, and candidates are fitted in processes of their own, as in production."""
    (tmp_path / "by_age.py").write_text(MODULE)
    monkeypatch.setattr(sys, "path", [*sys.path, str(tmp_path)])
    monkeypatch.setattr(fitting_process, "FittingProcess", FittingProcess)
    yield
    sys.modules.pop("by_age", None)


def selected(folder: Path, spec: SearchSpec) -> Selected:
    rows = example_rows(BANK_CHURN, 400, seed=1)
    old = (rows["Age"] + np.random.default_rng(1).normal(0, 20, 400)) > 60
    file = folder / "rows.parquet"
    model_input(BANK_CHURN, rows).assign(Exited=old.astype("int64")).to_parquet(file, index=False)
    target = pd.read_parquet(file)["Exited"].to_numpy()
    return select_model(file, target, plan_search(len(target), spec.max_rows), BANK_CHURN, spec)


def spec(function: str) -> SearchSpec:
    return SearchSpec(function, folds=2, seed=1, max_rows=1000, limits=Limits(1_500_000_000, 300), cores=2)


def test_the_others_compete_on_and_every_reason_is_kept(tmp_path: Path) -> None:
    found = selected(tmp_path, spec("by_age:mixed"))
    assert {name: reason for name, reason in REASONS.items() if reason not in found.left_out.get(name, "")} == {}
    assert found.left_out.keys() == REASONS.keys()
    line = MODULE.splitlines().index('            raise ValueError("no such thing")') + 1
    assert found.left_out["raises"].endswith(f"by_age.py:{line})")
    assert psutil.Process().memory_info().rss < 1_500_000_000  # nothing of a candidate has run in this process
    assert {trial.kind for trial in found.trials} == {"good", "plain", "average"}
    assert isinstance(found.ready, Ready)
    needs = found.ready.needs
    assert needs.module is not None
    assert needs.travelling(["by_age.ByAge"]) == needs.module
    assert needs.travelling(["lightgbm.basic.Booster"]) is None  # then it is only kept with the training


def test_the_next_best_is_selected_if_the_best_cannot_be_served_after_all(tmp_path: Path) -> None:
    """The trial before the search is of the first capacity; what a larger one contains shows only in the end."""
    found = selected(tmp_path, spec("by_age:fails_late"))
    assert found.chosen.kind == "dummy"
    assert {name: "datetime.timedelta" in reason for name, reason in found.left_out.items()} == {"late": True}


def test_if_no_candidate_is_left_the_error_has_all_reasons(tmp_path: Path) -> None:
    with pytest.raises(NoCandidate, match=r"type: it contains types .* nan: .* scores are NaN"):
        selected(tmp_path, spec("by_age:none_left"))


def test_the_selected_model_is_tried_with_nothing_but_the_packages_of_its_image(tmp_path: Path) -> None:
    """One of scikit-learn too: without a library that it imports in the lock, the model cannot be served."""
    lock, keep = [], True
    for line in (ROOT / "requirements-serving.lock").read_text().splitlines():
        keep = not line.startswith("joblib==") if line[:1].isalpha() else keep
        lock += [line] if keep else []
    (tmp_path / "serving.lock").write_text("\n".join(lock))
    with pytest.raises(NoCandidate, match=r"package joblib, which is not in the image"):
        selected(tmp_path, replace(spec("by_age:logistic"), lock=tmp_path / "serving.lock"))
