"""Candidates for tests that are not about learning: one capacity of a kind, fitted in the test's own process, and not tried.

They consist of what every image has. Candidates of any other module are tried, and travel, as in production.
"""

from __future__ import annotations

import json
from types import SimpleNamespace

import pytest
from skops.io import _persist

from churn.candidate import Candidate, Context
from churn.contract import Contract
from churn.learning import fitting_process, readiness, search, selection, training
from churn.learning.candidate_module import OwnModule, own_module
from churn.learning.candidates import BOOSTED, SMOOTH, standard
from churn.learning.fitting import Answer, Fitter, Setup
from churn.learning.fitting_process import CandidateFailed, Limits
from churn.learning.needs import ModelNeeds

CAPACITIES = {SMOOTH: 2, BOOSTED: 1}


def two_kinds(contract: Contract, context: Context) -> dict[str, Candidate]:
    """Two of the standard candidates, each with one capacity; their average is a third."""
    candidates = standard(contract, context)
    return {
        name: Candidate(
            candidates[name].estimator, [candidates[name].capacities[place]], iterations=candidates[name].iterations
        )
        for name, place in CAPACITIES.items()
    }


def quick(contract: Contract, context: Context) -> dict[str, Candidate]:
    """The quickest candidate."""
    candidate = standard(contract, context)[SMOOTH]
    return {SMOOTH: Candidate(candidate.estimator, candidate.capacities[2:3])}


class FitterHere:
    """Stands in for `FittingProcess`, without a process."""

    def __init__(self, setup: Setup, limits: Limits) -> None:
        self.name, self._setup = setup.name, setup
        self._fitter: Fitter | None = None

    def ask(self, job: object) -> Answer:
        try:
            self._fitter = self._fitter or Fitter(self._setup)
            return self._fitter.answer(job)
        except Exception as error:
            raise CandidateFailed(self.name, f"failed: {type(error).__name__}: {error}") from error

    def close(self) -> None:
        self._fitter = None


def stand_in(monkeypatch: pytest.MonkeyPatch) -> None:
    """Replace what takes longer in a test than its fits: the processes of candidates, trials of those in this module, many shuffled rows, learning curves, and indented text in saved models."""
    find_unready, try_model = readiness.find_unready, readiness.try_model

    def module_of(reference: str) -> OwnModule | None:
        return None if _is_ours(reference) else own_module(reference)

    def unready(
        candidates: object, processes: object, plan: object, contract: object, locks: readiness.Locks, cores: int
    ) -> object:
        return {} if _is_ours(locks.reference) else find_unready(candidates, processes, plan, contract, locks, cores)

    def tried(name: str, examples: object, contract: Contract, needs: ModelNeeds) -> list[str]:
        return [] if _is_ours(needs.reference) else try_model(name, examples, contract, needs)

    monkeypatch.setattr(fitting_process, "FittingProcess", FitterHere)
    monkeypatch.setattr(selection, "own_module", module_of)
    monkeypatch.setattr(training, "own_module", module_of)
    monkeypatch.setattr(selection, "find_unready", unready)
    monkeypatch.setattr(readiness, "try_model", tried)
    monkeypatch.setattr(selection, "_SHUFFLED_ROWS", 300)
    monkeypatch.setattr(selection, "_REPEATS", 1)
    monkeypatch.setattr(search, "CURVE", ())
    # Only Python's slow encoder can indent; the text says the same.
    monkeypatch.setattr(
        _persist, "json", SimpleNamespace(**vars(json) | {"dumps": lambda state, **_: json.dumps(state)})
    )


def _is_ours(reference: str) -> bool:
    return reference.startswith(f"{__name__}:")
