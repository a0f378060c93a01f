"""Tries candidates where nothing exists but what an image will have: each of them before it competes, and the model that is selected."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from churn.candidate import Candidate
from churn.contract import Contract
from churn.learning.candidate_checks import CandidateUnusable
from churn.learning.candidate_module import OwnModule
from churn.learning.example_answers import answer_examples
from churn.learning.fitting import AnswerExamples
from churn.learning.fitting_process import CandidateFailed, FittingProcess
from churn.learning.needs import ModelNeeds, needs_of
from churn.learning.search import RUNGS, Plan, none_left
from churn.learning.serving_trial import has_only_trusted_types, try_model

log = logging.getLogger(__name__)

_ITERATIONS = 20
"""Iterations of boosting in a model that is only tried."""


@dataclass(frozen=True)
class Locks:
    """Where the candidates come from, and the packages that an image can have. `extra_lock` may not exist."""

    reference: str
    module: OwnModule | None
    lock: Path
    extra_lock: Path


@dataclass(frozen=True)
class Ready:
    """What a model needs, and the types in it that are loaded because its candidates declare or define them. It was tried with that."""

    needs: ModelNeeds
    types: list[str]


def require_ready(name: str, model: Any, made_of: Iterable[Candidate], contract: Contract, locks: Locks) -> Ready:
    """Try a fitted model with no more than what it says that it needs.

    Args:
        name: what the model is called, for errors.
        model: the fitted estimator.
        made_of: the candidates that it is made of.
        contract: the data contract.
        locks: module and packages.

    Raises:
        CandidateUnusable: something is missing, or the answers are not the same; names it, and the fix.
    """
    needs = needs_of(name, made_of, locks.reference, locks.module, locks.lock, locks.extra_lock)
    return Ready(needs, try_model(name, answer_examples(name, model, contract), contract, needs))


def find_unready(
    candidates: Mapping[str, Candidate],
    processes: Mapping[str, FittingProcess],
    plan: Plan,
    contract: Contract,
    locks: Locks,
    cores: int,
) -> dict[str, str]:
    """Fit each candidate with its first capacity on a few rows, and try it. Returns why some cannot be used, by name.

    Its code runs in its own process. A candidate that is made of nothing but what every image has needs no further one.

    Raises:
        NoCandidate: no candidate can be used.
    """
    rows = min(plan.rows, RUNGS[0])

    def fault_of(name: str) -> str | None:
        candidate = candidates[name]
        try:
            examples = processes[name].ask(AnswerExamples(candidate.capacities[0], rows, _ITERATIONS, 1)).examples
            if candidate.requirements or not has_only_trusted_types(examples):
                needs = needs_of(name, [candidate], locks.reference, locks.module, locks.lock, locks.extra_lock)
                try_model(name, examples, contract, needs)
        except (CandidateFailed, CandidateUnusable) as fault:
            log.warning("%s It is left out of this run.", fault)
            return fault.reason
        return None

    with ThreadPoolExecutor(min(cores, len(candidates))) as pool:
        faults = dict(zip(candidates, pool.map(fault_of, candidates), strict=True))
    unready = {name: reason for name, reason in faults.items() if reason}
    if len(unready) == len(candidates):
        raise none_left(unready)
    return unready
