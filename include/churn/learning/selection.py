"""From training rows to a fitted model: the search, the selection, and the fit of what was selected."""

from __future__ import annotations

import logging
import pickle
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from joblib import cpu_count
from sklearn.ensemble import VotingClassifier
from sklearn.frozen import FrozenEstimator

from churn.candidate import Candidate, Context
from churn.checkout import HOME
from churn.contract import Contract
from churn.foundation.examples import model_input
from churn.learning.candidate_checks import CandidateUnusable
from churn.learning.candidate_module import STANDARD, own_module, read_candidates
from churn.learning.extra_packages import EXTRA_LOCK, SERVING_LOCK
from churn.learning.fitting import Customers, FitAll, Setup, Shuffle, read_rows
from churn.learning.fitting_process import CandidateFailed, FittingProcess, Limits, fitting_processes
from churn.learning.importance import Importance, rank_features
from churn.learning.readiness import Locks, Ready, find_unready, require_ready
from churn.learning.search import Plan, Search, select
from churn.learning.trials import Target, Trial
from churn.serving.recalibration import Recalibrated, fit_curve

log = logging.getLogger(__name__)

_SHUFFLED_ROWS, _REPEATS = 5_000, 3


@dataclass(frozen=True)
class SearchSpec:
    """What decides the outcome of a search besides the rows, and the limits of each candidate.

    `candidates` names the function that returns them. `lock` and `extra_lock` have the packages that an image can have. `cores` None
    means all that this process may use.
    """

    candidates: str
    folds: int
    seed: int
    max_rows: int
    limits: Limits
    lock: Path = HOME / SERVING_LOCK
    extra_lock: Path = HOME / EXTRA_LOCK
    cores: int | None = None


@dataclass(frozen=True)
class Selected:
    """The fitted model, the trial that won, all trials in order, what each feature is worth, and candidates left out, with reasons.

    `ready` is what the model needs wherever it is loaded; it has been tried with no more than that.
    """

    model: Any
    ready: Ready
    chosen: Trial
    trials: Sequence[Trial]
    importance: Sequence[Importance]
    left_out: Mapping[str, str]
    rows: int


def select_model(
    file: Path, target: Target, plan: Plan, contract: Contract, spec: SearchSpec, customers: Customers = None
) -> Selected:
    """Search, select and fit.

    Args:
        file: Parquet file with features and target in the order of a draw; the first `plan.end` rows are used.
        target: the labels of these rows, shape (plan.end,).
        plan: the rows of each part.
        contract: the data contract.
        spec: candidates, folds and limits.
        customers: whose row each is, shape (plan.end,); None if each customer has one.

    Raises:
        CandidateFailed: a standard candidate failed.
        CandidateUnusable: the selected model cannot be used where nothing exists but what its image will have.
        NoCandidate: every candidate failed.
    """
    context = Context(plan.rows, spec.seed)
    read = read_candidates(spec.candidates, contract, context)
    forgiving = spec.candidates != STANDARD
    if read.left_out and not forgiving:
        raise CandidateUnusable(*next(iter(read.left_out.items())))
    for name, reason in read.left_out.items():
        log.warning("%s It is left out of this run.", CandidateUnusable(name, reason))
    cores = spec.cores or cpu_count()
    locks = Locks(spec.candidates, own_module(spec.candidates), spec.lock, spec.extra_lock)
    setups = [Setup(spec.candidates, name, contract, context, file) for name in read.usable]
    with fitting_processes(setups, spec.limits) as processes:
        unready = find_unready(read.usable, processes, plan, contract, locks, cores) if forgiving else {}
        candidates = {name: candidate for name, candidate in read.usable.items() if name not in unready}
        search = Search(
            processes,
            candidates,
            target,
            plan,
            spec.folds,
            spec.seed,
            cores=cores,
            forgiving=forgiving,
            customers=customers,
        )
        found = search.run()
        compared, stopping = target[: plan.rows], None
        if plan.apart:
            stopping, compared = target[plan.rows : plan.rows + plan.apart], target[plan.rows + plan.apart :]
        while True:
            chosen, made = select(found, compared, stopping)
            log.info("Selected %s from %d candidates.", chosen.name, len(found.final) + len(made))
            try:
                model = _fit(chosen, compared, stopping, file, contract, candidates, processes, plan, cores)
                made_of = [candidates[trial.kind] for trial in chosen.members or (chosen,)]
                ready = require_ready(chosen.name, model, made_of, contract, locks)
                importance = _importance(chosen, contract, processes, plan, spec.folds, cores)
                break
            except (CandidateFailed, CandidateUnusable) as fault:
                if not forgiving:
                    raise
                at_fault = fault.name if isinstance(fault, CandidateFailed) else chosen.kind
                log.warning("%s The next best is selected.", fault)
                found = found.without(at_fault, fault.reason)
        smaller = search.learning_curve(found)
    left_out = {**read.left_out, **unready, **found.left_out}
    return Selected(
        model, ready, chosen, [*smaller, *found.earlier, *found.final, *made], importance, left_out, plan.rows
    )


def _fit(
    chosen: Trial,
    compared: Target,
    stopping: Target | None,
    file: Path,
    contract: Contract,
    candidates: Mapping[str, Candidate],
    processes: Mapping[str, FittingProcess],
    plan: Plan,
    cores: int,
) -> Any:
    """The model of a trial: fitted on all rows, unless the last rung has done so."""
    models = []
    for trial in chosen.members or (chosen,):
        pickled = trial.model
        if not pickled:
            rows = min(plan.rows, candidates[trial.kind].max_rows or plan.rows)
            pickled = processes[trial.kind].ask(FitAll(trial.capacity, rows, trial.iterations, cores)).model
        models.append(pickle.loads(pickled))  # noqa: S301 -- written by a process of ours
    model = models[0]
    if chosen.members:
        names = [f"{trial.kind}_{place}" for place, trial in enumerate(chosen.members, start=1)]
        frozen = [(name, FrozenEstimator(fitted)) for name, fitted in zip(names, models, strict=True)]
        labels = read_rows(file, 0, plan.rows, [contract.target.name])[contract.target.name].to_numpy(dtype="int64")
        both = sorted({int(labels.argmin()), int(labels.argmax())})
        of_both = read_rows(file, 0, both[-1] + 1).iloc[both]
        model = VotingClassifier(frozen, voting="soft").fit(model_input(contract, of_both), labels[both])
    if chosen.method and chosen.uncorrected is not None:
        if chosen.stopping is not None and stopping is not None:
            curve = fit_curve(chosen.method, chosen.stopping, stopping)
        else:
            curve = fit_curve(chosen.method, chosen.uncorrected, compared)
        model = Recalibrated(model, curve)
    return model


def _importance(
    chosen: Trial,
    contract: Contract,
    processes: Mapping[str, FittingProcess],
    plan: Plan,
    folds: int,
    cores: int,
) -> list[Importance]:
    first, end = (plan.rows + plan.apart, plan.end) if plan.apart else (0, plan.rows)
    answers = [
        processes[trial.kind].ask(
            Shuffle(
                trial.capacity,
                _SHUFFLED_ROWS,
                None if plan.apart else folds,
                trial.iterations,
                first,
                end,
                _REPEATS,
                cores,
            )
        )
        for trial in chosen.members or (chosen,)
    ]
    return rank_features(contract.feature_names, answers)
