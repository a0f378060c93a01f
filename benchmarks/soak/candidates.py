"""The candidates of the month where Airflow runs it: the quickest of the standard ones, so that all ways come to the same verdicts."""

from __future__ import annotations

from churn.candidate import Candidate, Context
from churn.contract import Contract
from churn.learning.candidates import SMOOTH, standard


def quick(contract: Contract, context: Context) -> dict[str, Candidate]:
    """One smooth model with one capacity, as `support.candidates.quick`."""
    candidate = standard(contract, context)[SMOOTH]
    return {SMOOTH: Candidate(candidate.estimator, candidate.capacities[2:3])}
