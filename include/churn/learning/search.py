"""The search for the kind of model and its capacity: successive halving over growing subsamples.

The budget is counted in fits and rows, never in seconds, so the same rows give the same model (Jamieson and Talwalkar,
Non-stochastic Best Arm Identification and Hyperparameter Optimization, 2016). Every rung keeps the better half of the capacities of
each kind, and the next larger one than its best, because more rows support more capacity.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial

import numpy as np

from churn.candidate import Candidate
from churn.errors import ChurnError
from churn.learning.fitting import CrossValidate, Customers, FitApart, fold_splits
from churn.learning.fitting_process import CandidateFailed, FittingProcess
from churn.learning.trials import AVERAGE, Target, Trial, average, choose_trial, correct, measure

log = logging.getLogger(__name__)

RUNGS = (20_000, 200_000)
"""Rows of the early rungs."""
EARLY_FOLDS = 2
"""Folds that an early rung evaluates."""
FOLDS_AT_MOST = 100_000
"""Up to this number of rows, the last rung cross-validates; with more, one part of them is enough to compare on."""
APART, APART_AT_MOST = 0.05, 100_000
"""Share and number of the rows that early stopping and the last comparison each get if the last rung does not cross-validate."""

CURVE, CURVE_AT_LEAST = (4, 2), 1_000
"""Without early rungs, the learning curve also has a quarter and half of the rows, if these are enough."""


class NoCandidate(ChurnError):  # noqa: N818 -- it says what happened
    """Every candidate failed."""


@dataclass(frozen=True)
class Plan:
    """The rows of each rung. `apart` rows are for early stopping and `compared` for the last comparison, if it does not cross-validate."""

    early: tuple[int, ...]
    rows: int
    apart: int
    compared: int | None = None

    @property
    def end(self) -> int:
        """The number of rows of all parts."""
        return self.rows + self.apart + (self.apart if self.compared is None else self.compared)

    def between_customers(self, customers: Customers) -> Plan:
        """The plan with its borders moved down to where a customer begins, so that no customer is on both sides of one.

        Args:
            customers: whose row each is, shape (end,), those of a customer after one another; None if each has one row.
        """
        if customers is None or not self.apart:
            return self
        begins = np.flatnonzero(np.concatenate([[True], customers[1:] != customers[:-1]]))
        first, second = (
            int(begins[np.searchsorted(begins, border, side="right") - 1])
            for border in (self.rows, self.rows + self.apart)
        )
        return Plan(self.early, first, second - first, self.end - second)


@dataclass(frozen=True)
class Found:
    """The trials of the last rung, the simplest first, those of the rungs before, and why candidates were left out, by name."""

    final: Sequence[Trial]
    earlier: Sequence[Trial]
    left_out: Mapping[str, str]

    def without(self, name: str, reason: str) -> Found:
        """What is left without one kind, or without the average.

        Raises:
            NoCandidate: nothing is left.
        """
        left_out = {**self.left_out, name: reason}
        final = [trial for trial in self.final if trial.kind != name]
        if not final:
            raise none_left(left_out)
        return Found(final, self.earlier, left_out)


def plan_search(available: int, most: int) -> Plan:
    """Divide the training rows.

    Args:
        available: number of training rows.
        most: number of rows to fit on at most.
    """
    if min(available, most) <= FOLDS_AT_MOST:
        rows, apart = min(available, most), 0
    else:
        apart = min(APART_AT_MOST, int(available * APART))
        rows = min(available - 2 * apart, most)
    return Plan(tuple(size for size in RUNGS if size <= rows // 2), rows, apart)


class Search:
    """A search over candidates.

    Args:
        processes: fit the candidates, by name.
        candidates: by name, the simplest first.
        target: the labels of all parts of the plan, shape (plan.end,).
        plan: the rows of each rung.
        folds: number of folds of a cross-validation.
        seed: the seed of the folds.
        customers: whose row each is, shape (plan.end,); None if each customer has one.
        cores: number of threads that may run at the same time.
        forgiving: whether to go on without a candidate that fails.
    """

    def __init__(
        self,
        processes: Mapping[str, FittingProcess],
        candidates: Mapping[str, Candidate],
        target: Target,
        plan: Plan,
        folds: int,
        seed: int,
        *,
        cores: int,
        forgiving: bool,
        customers: Customers = None,
    ) -> None:
        self._customers = customers
        self._processes, self._candidates, self._target, self._plan = processes, candidates, target, plan
        self._folds, self._seed, self._cores, self._forgiving = folds, seed, cores, forgiving
        self._left_out: dict[str, str] = {}

    @property
    def _at_once(self) -> int:
        """Number of kinds that are fitted side by side."""
        return min(self._cores, len(self._candidates))

    def run(self) -> Found:
        """Run all rungs.

        Raises:
            CandidateFailed: a candidate failed and the search is not forgiving.
            NoCandidate: every candidate failed.
        """
        alive: Mapping[str, Sequence[int]] = {
            name: range(len(candidate.capacities)) for name, candidate in self._candidates.items()
        }
        earlier: list[Trial] = []
        latest: list[Trial] = []
        for rung, rows in enumerate(self._plan.early, start=1):
            latest = self._rung(rung, alive, partial(self._cross_validate, rung, rows, EARLY_FOLDS))
            earlier += latest
            alive = {name: keep_better(trials) for name, trials in by_kind(latest).items()}
        last = len(self._plan.early) + 1
        if self._plan.apart:
            best = sorted(latest, key=lambda trial: trial.loss)[:2]
            alive = {name: sorted(trial.place for trial in trials) for name, trials in by_kind(best).items()}
            for name in self._candidates.keys() - alive.keys():
                self._processes[name].close()  # a process keeps memory that the last fits need
            final = self._rung(last, alive, partial(self._fit_apart, last), at_once=1)
        else:
            final = self._rung(last, alive, partial(self._cross_validate, last, self._plan.rows, self._folds))
        return Found(final, earlier, dict(self._left_out))

    def learning_curve(self, found: Found) -> list[Trial]:
        """Fit the best capacity of each kind on fewer rows, if no early rung has done so. Selects nothing.

        All sizes are measured on the rows of the last rung, so that the curve shows nothing but the size. A candidate that fails on so few rows has no point in the curve.
        """
        if self._plan.early:
            return []
        sizes = [self._plan.rows // part for part in CURVE if self._plan.rows // part >= CURVE_AT_LEAST]

        def fit_kind(trials: Sequence[Trial]) -> list[Trial]:
            best = min(trials, key=lambda trial: trial.loss)
            try:
                return [self._fit_fewer(rows, best.kind, best.place) for rows in sizes]
            except CandidateFailed as failed:
                log.warning("%s The learning curve does not show it.", failed)
                return []

        with ThreadPoolExecutor(self._at_once) as pool:
            return [trial for of_kind in pool.map(fit_kind, by_kind(found.final).values()) for trial in of_kind]

    def _rung(
        self,
        rung: int,
        alive: Mapping[str, Sequence[int]],
        fit: Callable[[str, int], Trial],
        at_once: int | None = None,
    ) -> list[Trial]:
        """Measure the capacities that are left, the kinds side by side."""

        def fit_kind(name: str) -> list[Trial]:
            try:
                return [fit(name, place) for place in alive[name]]
            except CandidateFailed as failed:
                if not self._forgiving:
                    raise
                log.warning("%s It is left out of this run.", failed)
                self._left_out[name] = failed.reason
                return []

        running = [name for name in self._candidates if name not in self._left_out and alive.get(name)]
        with ThreadPoolExecutor(at_once or self._at_once) as pool:
            trials = [trial for of_kind in pool.map(fit_kind, running) for trial in of_kind]
        if not trials:
            raise none_left(self._left_out)
        best = min(trials, key=lambda trial: trial.loss)
        log.info(
            "Rung %d: %d fits, log loss %.4f by %s on %d rows.", rung, len(trials), best.loss, best.name, best.rows
        )
        return trials

    def _cross_validate(self, rung: int, rows: int, evaluated: int, name: str, place: int) -> Trial:
        capacity = self._candidates[name].capacities[place]
        answer = self._processes[name].ask(
            CrossValidate(capacity, rows, self._folds, evaluated, self._cores // self._at_once)
        )
        customers = None if self._customers is None else self._customers[:rows]
        splits = fold_splits(self._target[:rows], self._folds, self._seed, customers)[:evaluated]
        scored = np.sort(np.concatenate([test for _, test in splits]))
        measured = measure(self._target[scored], answer.scores[scored])
        return Trial(
            name, capacity, place, rung, rows, measured, answer.iterations, answer.seconds,
            customers=None if customers is None else customers[scored],
        )  # fmt: skip

    def _fit_fewer(self, rows: int, name: str, place: int) -> Trial:
        capacity, fitted = self._candidates[name].capacities[place], rows * (self._folds - 1) // self._folds
        threads = self._cores // self._at_once
        answer = self._processes[name].ask(
            CrossValidate(capacity, self._plan.rows, self._folds, self._folds, threads, fitted)
        )
        measured = measure(self._target[: self._plan.rows], answer.scores)
        customers = None if self._customers is None else self._customers[: self._plan.rows]
        return Trial(name, capacity, place, 0, rows, measured, answer.iterations, answer.seconds, customers=customers)

    def _fit_apart(self, rung: int, name: str, place: int) -> Trial:
        plan, candidate = self._plan, self._candidates[name]
        rows = min(plan.rows, candidate.max_rows or plan.rows)
        job = FitApart(candidate.capacities[place], rows, plan.rows, plan.rows + plan.apart, plan.end, self._cores)
        answer = self._processes[name].ask(job)
        measured = measure(self._target[plan.rows + plan.apart :], answer.scores[plan.apart :])
        return Trial(
            name, job.capacity, place, rung, rows, measured, answer.iterations, answer.seconds,
            stopping=answer.scores[: plan.apart], model=answer.model,
            customers=None if self._customers is None else self._customers[plan.rows + plan.apart :],
        )  # fmt: skip


def none_left(left_out: Mapping[str, str]) -> NoCandidate:
    """The error if every candidate was left out."""
    reasons = " ".join(f"{name}: {reason}" for name, reason in left_out.items())
    return NoCandidate(f"No candidate is left, so nothing was trained. {reasons}")


def by_kind(trials: Sequence[Trial]) -> dict[str, list[Trial]]:
    """Group trials by their kind, in order."""
    groups: dict[str, list[Trial]] = {}
    for trial in trials:
        groups.setdefault(trial.kind, []).append(trial)
    return groups


def keep_better(trials: Sequence[Trial]) -> list[int]:
    """The places of the capacities of one kind that go on: the better half, and the next larger one than the best."""
    ranked = sorted(trials, key=lambda trial: trial.loss)
    kept = {trial.place for trial in ranked[: (len(ranked) + 1) // 2]}
    larger = [trial.place for trial in trials if trial.place > ranked[0].place]
    return sorted(kept | set(larger[:1]))


def select(found: Found, target: Target, stopping: Target | None) -> tuple[Trial, list[Trial]]:
    """Select what to train: of the trials, the average of the best two, and corrections of its probabilities.

    Args:
        found: a search.
        target: the labels of the rows that the last rung compared on.
        stopping: the labels of the rows for early stopping, if the last rung did not cross-validate.

    Returns:
        The selected trial, and the trials that are made of others: the average, and the corrections.
    """
    made = average(found.final, target) if AVERAGE not in found.left_out else []
    plain = choose_trial([*found.final, *made])
    corrected = correct(plain, target, stopping)
    return choose_trial([plain, *corrected]), [*made, *corrected]
