"""Candidates for tests that are not about learning: one capacity of each kind, and fits in the test's own process."""

from __future__ import annotations

from churn.candidate import Candidate, Context
from churn.contract import Contract
from churn.learning.candidates import BOOSTED, SMOOTH, standard
from churn.learning.fitting import Answer, Fitter, Setup
from churn.learning.fitting_process import CandidateFailed, Limits

CAPACITIES = {SMOOTH: 2, BOOSTED: 1}


def quick(contract: Contract, context: Context) -> dict[str, Candidate]:
    """Two of the standard candidates, each with one capacity."""
    candidates = standard(contract, context)
    return {
        name: Candidate(
            candidates[name].estimator, [candidates[name].capacities[place]], iterations=candidates[name].iterations
        )
        for name, place in CAPACITIES.items()
    }


def smooth_only(contract: Contract, context: Context) -> dict[str, Candidate]:
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
