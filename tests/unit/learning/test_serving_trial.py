"""A model is tried where nothing exists but what its image will have; whatever is missing is one error that names it."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sklearn.ensemble import VotingClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, OrdinalEncoder

from churn.candidate import Candidate, Context
from churn.contracts.bank import BANK_CHURN
from churn.foundation.examples import example_rows, model_input
from churn.learning.candidate_checks import CandidateUnusable
from churn.learning.candidate_module import load_candidates, own_module
from churn.learning.candidates import standard
from churn.learning.example_answers import answer_examples
from churn.learning.needs import needs_of
from churn.learning.serving_trial import try_model
from support.basics import ROOT

CONTRACT, CONTEXT = BANK_CHURN, Context(rows=300, seed=1)
ROWS = example_rows(CONTRACT, 300)
FEATURES, TARGET = model_input(CONTRACT, ROWS), (ROWS["Age"] > 55).astype(int).to_numpy()
SERVING, EXTRA = ROOT / "requirements-serving.lock", ROOT / "requirements-dev.lock"
OWN = """
import sys
import numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin
from churn.candidate import Candidate
{imports}
class Own(ClassifierMixin, BaseEstimator):
    def fit(self, rows, target):
        self.classes_, self.middle_, self.state_ = np.array([0, 1]), float(rows["Age"].mean()), {state}
        return self
    def predict_proba(self, rows):
        {use}
        high = 1 / (1 + np.exp(({middle} - rows["Age"].to_numpy()) / 9))
        return np.column_stack([1 - high, high])
def make(contract, context):
    return {{"own": Candidate(Own(), requirements={requirements}, trusted_types={types})}}
"""


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Path]:
    (tmp_path / "candidates").mkdir()
    path = list(sys.path)
    yield tmp_path
    sys.path[:] = path
    for name in ("mine", "neighbour"):
        sys.modules.pop(name, None)


def tried(home: Path, **parts: str) -> list[str]:
    """Fit the own model with parts replaced, and try it."""
    defaults = {"imports": "", "state": "0", "use": "", "middle": "self.middle_", "requirements": "()", "types": "()"}
    (home / "candidates/mine.py").write_text(OWN.format(**defaults | parts))
    candidate = load_candidates("mine:make", CONTRACT, CONTEXT, home)["own"]
    model = candidate.estimator.fit(FEATURES, TARGET)
    needs = needs_of("own", [candidate], "mine:make", own_module("mine:make", home), SERVING, EXTRA)
    return try_model("own", answer_examples("own", model, CONTRACT), CONTRACT, needs)


def test_the_standard_candidates_pass() -> None:
    """All of them in one model, as in an average."""
    candidates = standard(CONTRACT, CONTEXT)
    for candidate in candidates.values():
        if candidate.iterations:
            candidate.estimator.set_params(**{candidate.iterations: 20})
    model = VotingClassifier([(name, each.estimator) for name, each in candidates.items()], voting="soft")
    needs = needs_of("all", candidates.values(), "churn.learning.candidates:standard", None, SERVING, EXTRA)
    assert try_model("all", answer_examples("all", model.fit(FEATURES, TARGET), CONTRACT), CONTRACT, needs) == []


def test_classes_of_the_own_module_are_recorded_as_trusted(home: Path) -> None:
    assert tried(home) == ["mine.Own"]


def test_a_package_is_there_only_if_it_is_named(home: Path) -> None:
    """LightGBM is installed where the tests run, but that does not bring it into the image."""
    with pytest.raises(
        CandidateUnusable, match=r'package lightgbm, which is not in the image.* make lock EXTRA="lightgbm"'
    ):
        tried(home, imports="import lightgbm")
    with pytest.raises(CandidateUnusable, match=r"the package pyarrow, which is not in the image"):
        tried(home, use="import pyarrow")
    assert tried(home, imports="import lightgbm", requirements='("lightgbm",)') == ["mine.Own"]


def test_code_that_does_not_travel_is_named(home: Path) -> None:
    """A second file of the project, and the product's own modules."""
    (home / "candidates/neighbour.py").write_text("")
    with pytest.raises(CandidateUnusable, match="the module neighbour, which does not travel"):
        tried(home, imports="import neighbour")
    with pytest.raises(CandidateUnusable, match=r"imports churn\.learning.*inside the function"):
        tried(home, imports="from churn.learning.candidates import standard")


def test_a_type_that_may_not_be_loaded_is_named_with_the_line_to_add(home: Path) -> None:
    dated = {"imports": "from datetime import timedelta", "state": "timedelta(1)"}
    with pytest.raises(CandidateUnusable, match=r'trusted_types=\("datetime.timedelta",\)'):
        tried(home, **dated)
    assert tried(home, **dated, types='("datetime.timedelta",)') == ["datetime.timedelta", "mine.Own"]


FAULTS = {
    "label": ({"use": 'rows["Exited"]'}, "asks for the column Exited, which is what a model has to predict"),
    "key": ({"use": 'rows["CustomerId"]'}, "asks for the column CustomerId, which identifies the customer"),
    "unsaved": ({"state": "(lambda: 1)"}, "cannot be (saved|loaded)"),
    "batch": ({"middle": 'rows["Age"].mean()'}, "depends on the other rows of the request"),
    "elsewhere": (
        {"middle": '(40 if "pytest" in sys.modules else 50)'},
        "its scores change when it is saved and loaded, by up to 0",
    ),
    "ends": ({"use": '"pytest" in sys.modules or __import__("os")._exit(3)'}, "ended with status 3"),
    "files": (
        {"imports": "open(__file__.replace('mine.py', 'table.json'), 'a' if 'pytest' in sys.modules else 'r')"},
        r"FileNotFoundError.* \(raised at mine\.py:6\)",
    ),
    "nan": ({"middle": "np.nan"}, "200 of 200 scores are NaN"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_is_one_error_that_names_the_candidate(home: Path, fault: str) -> None:
    parts, message = FAULTS[fault]
    with pytest.raises(CandidateUnusable, match=message) as caught:
        tried(home, **parts)
    assert caught.value.candidate == "own"


def test_a_plain_estimator_needs_nothing(home: Path) -> None:
    model: Any = make_pipeline(OneHotEncoder(handle_unknown="ignore"), LogisticRegression()).fit(FEATURES, TARGET)
    needs = needs_of("plain", [Candidate(model)], "mine:make", None, SERVING, home / "no.lock")
    assert try_model("plain", answer_examples("plain", model, CONTRACT), CONTRACT, needs) == []


LIBRARIES = {
    "LightGBM": ("lightgbm", "LGBMClassifier", {"n_estimators": 5, "verbose": -1}),
    "XGBoost": ("xgboost-cpu", "XGBClassifier", {"n_estimators": 5}),
    "CatBoost": ("catboost", "CatBoostClassifier", {"iterations": 5, "verbose": False, "allow_writing_files": False}),
}


@pytest.mark.parametrize("library", LIBRARIES)
def test_a_library_needs_the_types_of_the_page_and_no_others(library: str) -> None:
    """Its model is saved by skops, and answers the same in the image. The page lists the types of each."""
    package, name, parameters = LIBRARIES[library]
    module: Any = pytest.importorskip(package.removesuffix("-cpu"))
    page = (ROOT / "docs/pages/your-own-model.md").read_text()
    (line,) = [line for line in page.splitlines() if line.startswith(f"| {library} |")]
    types = tuple(re.findall("`([^`]+)`", line.partition("|")[2].partition("|")[2]))
    boosting = getattr(module, name)(**parameters)
    model = make_pipeline(OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=-1), boosting).fit(
        FEATURES, TARGET
    )
    candidate = Candidate(model, requirements=(package,), trusted_types=types)
    needs = needs_of(library, [candidate], "mine:make", None, SERVING, EXTRA)
    assert try_model(library, answer_examples(library, model, CONTRACT), CONTRACT, needs) == sorted(types)
