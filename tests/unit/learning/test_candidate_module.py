"""Candidates come from a module that a setting names; every fault of it is one error that names it."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from churn.candidate import Candidate, Context
from churn.contracts.bank import BANK_CHURN
from churn.errors import ChurnError
from churn.learning.candidate_checks import CandidateUnusable
from churn.learning.candidate_module import CandidateModuleError, load_candidates, own_module, read_candidates

CONTEXT = Context(rows=1000, seed=1)
TREE = "from sklearn.tree import DecisionTreeClassifier as Tree\nfrom churn.candidate import Candidate\n"
BOOSTING = """
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.pipeline import make_pipeline
def boosting():
    return make_pipeline(HistGradientBoostingClassifier())
"""


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Path]:
    """A project folder with a folder for candidates; what is imported from it is forgotten."""
    (tmp_path / "candidates").mkdir()
    before, path = set(sys.modules), list(sys.path)
    yield tmp_path
    sys.path[:] = path
    for name in set(sys.modules) - before:
        if name.startswith("mine"):
            del sys.modules[name]


def load(home: Path, source: str, reference: str = "mine:make") -> dict[str, Candidate]:
    (home / "candidates/mine.py").write_text(source)
    return load_candidates(reference, BANK_CHURN, CONTEXT, home)


def returning(value: str) -> str:
    return f"{TREE}def make(contract, context):\n    return {value}\n"


def test_a_plain_estimator_is_a_candidate(home: Path) -> None:
    """The order of the function is kept, and what it is given is contract and context."""
    source = returning('{"b": Tree(random_state=context.seed), "a": Candidate(Tree(max_depth=len(contract.features)))}')
    loaded = load(home, source)
    assert list(loaded) == ["b", "a"]
    assert (loaded["b"].estimator.random_state, loaded["a"].estimator.max_depth) == (1, len(BANK_CHURN.features))


def test_a_contract_may_have_the_name_of_the_module(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its folder is on the Python path before, and it is imported already."""
    (home / "contracts").mkdir()
    (home / "contracts/mine.py").write_text("MINE = 1\n")
    monkeypatch.syspath_prepend(home / "contracts")
    importlib.import_module("mine")
    assert list(load(home, returning('{"a": Tree()}'))) == ["a"]


def test_the_standard_candidates_are_written_in_the_same_way() -> None:
    """The default is a function like any other, and nothing of it travels."""
    reference = "churn.learning.candidates:standard"
    assert load_candidates(reference, BANK_CHURN, CONTEXT)
    assert own_module(reference) is None


@pytest.mark.parametrize("place", ["candidates/mine.py", "mine.py", "candidates/mine/__init__.py"])
def test_a_module_is_found_in_the_documented_places(home: Path, place: str) -> None:
    (home / place).parent.mkdir(exist_ok=True)
    (home / place).write_text(returning('{"tree": Tree()}'))
    assert list(load_candidates("mine:make", BANK_CHURN, CONTEXT, home)) == ["tree"]


def test_a_module_that_changed_is_imported_anew(home: Path) -> None:
    load(home, returning('{"old": Tree()}'))
    assert list(load(home, returning('{"new": Tree()}'))) == ["new"]


def test_only_the_source_travels(home: Path, tmp_path: Path) -> None:
    """A package travels as a whole, without data that lies in it; its hash follows its source."""
    package = home / "candidates/mine"
    package.mkdir()
    (package / "__init__.py").write_text(returning('{"tree": Tree()}'))
    (package / "parts.py").write_text("")
    (package / "customers.csv").write_text("private")
    own = own_module("mine.parts:make", home)
    assert own is not None
    copy = own.copy_to(tmp_path / "copy")
    assert sorted(path.name for path in copy.rglob("*")) == ["__init__.py", "parts.py"]
    (package / "customers.csv").write_text("other")
    assert own_module("mine:make", home) == own
    (package / "parts.py").write_text("changed = True")
    changed = own_module("mine:make", home)
    assert changed is not None
    assert changed.sha256 != own.sha256


FAULTS = {
    "syntax": ("def make(:\n", r"mine:make: the module does not import at .*mine\.py:1: SyntaxError"),
    "raises": ("\n1 / 0\n", r"does not import at .*mine\.py:2: ZeroDivisionError: division by zero\."),
    "package": ("import no_such_package\n", r'mine\.py:1: .*no_such_package.* make lock EXTRA="no_such_package"'),
    "function": ("def other(): ...\n", r"module mine has no function make\. It has other"),
    "call": (returning("1 / 0"), r"make failed at .*mine\.py:4: ZeroDivisionError"),
    "nothing": (returning("None"), r"make returns nothing instead of candidates by name\. Return a dict"),
    "empty": (returning("{}"), r"make returns an empty dict"),
    "list": (returning("[Tree()]"), r"make returns list instead"),
    "name": (returning('{"a b": Tree()}'), r"Candidate a b .* is not a name for a candidate\. .* such as my_model"),
    "capitals": (returning('{"Tree": Tree()}'), r"'Tree' is not a name"),
    "number": (returning("{1: Tree()}"), r"Candidate 1 .* 1 is not a name"),
    "reserved": (returning('{"average": Tree()}'), r"average and endings such as _sigmoid are reserved"),
    "ending": (returning('{"tree_isotonic": Tree()}'), r"'tree_isotonic' is not a name"),
    "exits": ("raise SystemExit(3)\n", r"does not import at .*mine\.py:1: SystemExit: 3"),
    "stopping": (
        returning('{"tree": Candidate(Tree(), iterations="max_depth")}'),
        r"iterations is only for a pipeline that ends with a HistGradientBoostingClassifier",
    ),
    "class": (
        returning('{"tree": Tree}'),
        r"Candidate tree .* is the class DecisionTreeClassifier\. Return an instance",
    ),
    "probabilities": (
        "from sklearn.svm import LinearSVC\n" + returning('{"svm": LinearSVC()}'),
        r"Candidate svm .* LinearSVC has no method predict_proba",
    ),
    "text": (returning('{"tree": "Tree"}'), r"Candidate tree .* str has no method fit and no method predict_proba"),
    "capacity": (
        returning('{"tree": Candidate(Tree(), [{"depth": 3}])}'),
        r"Candidate tree .* DecisionTreeClassifier has no parameter depth",
    ),
    "iterations": (
        BOOSTING + returning('{"tree": Candidate(boosting(), iterations="rounds")}'),
        r"has no parameter rounds",
    ),
    "capacities": (returning('{"tree": Candidate(Tree(), {"max_depth": 3})}'), r"capacities must be a list of dicts"),
    "capacities that can be read once": (
        returning('{"tree": Candidate(Tree(), ({} for _ in range(2)))}'),
        r"capacities must be a list of dicts",
    ),
    "rows": (returning('{"tree": Candidate(Tree(), max_rows="many")}'), r"max_rows must be a whole number of rows"),
    "requirements as a text": (
        returning('{"tree": Candidate(Tree(), requirements="numpy")}'),
        r"requirements must be a tuple of texts, such as \('lightgbm',\)",
    ),
    "requirement": (
        returning('{"tree": Candidate(Tree(), requirements=("no-such-package",))}'),
        r'needs the package no-such-package, which is not installed: make lock EXTRA="no-such-package"',
    ),
    "version": (
        returning('{"tree": Candidate(Tree(), requirements=("numpy<1",))}'),
        r"needs numpy<1, and .* is installed",
    ),
    "types": (returning('{"tree": Candidate(Tree(), trusted_types="a.B")}'), r"trusted_types must be a tuple of texts"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_is_one_error_that_names_it(home: Path, fault: str) -> None:
    source, message = FAULTS[fault]
    with pytest.raises(ChurnError, match=message) as caught:
        load(home, source)
    assert isinstance(caught.value, CandidateModuleError | CandidateUnusable)


def test_the_others_compete_without_a_candidate_that_cannot_be_used(home: Path) -> None:
    """It is left out by name. If none is left, the error has the reasons of all."""
    source = returning('{"tree": Tree(), "text": "Tree"}')
    (home / "candidates/mine.py").write_text(source)
    candidates = read_candidates("mine:make", BANK_CHURN, CONTEXT, home)
    assert list(candidates.usable) == ["tree"]
    assert list(candidates.left_out) == ["text"]
    assert "no method fit" in candidates.left_out["text"]
    (home / "candidates/mine.py").write_text(returning('{"text": "Tree", "other": 1}'))
    with pytest.raises(CandidateModuleError, match=r"no candidate can be used\. Candidate text .* Candidate other "):
        read_candidates("mine:make", BANK_CHURN, CONTEXT, home)


def test_a_missing_module_says_where_it_was_searched(home: Path) -> None:
    with pytest.raises(
        CandidateModuleError, match=f"no module missing. Searched: {home}/candidates, {home}, and the Python"
    ):
        load_candidates("missing:make", BANK_CHURN, CONTEXT, home)


@pytest.mark.parametrize("name", ["json", "lightgbm"])
def test_a_module_cannot_hide_a_package(home: Path, name: str) -> None:
    (home / f"candidates/{name}.py").write_text("")
    with pytest.raises(CandidateModuleError, match="has the name of another package"):
        load_candidates(f"{name}:make", BANK_CHURN, CONTEXT, home)
