"""Fits one candidate, in a process of its own.

What it is asked comes in through a pipe, one job at a time, and answers go back the same way. A candidate that takes too much memory
or time can thereby be ended without harm to the run.
"""

from __future__ import annotations

import pickle
import sys
import time
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
from numpy.typing import NDArray
from sklearn.base import clone
from sklearn.model_selection import StratifiedGroupKFold, StratifiedKFold
from threadpoolctl import threadpool_limits

from churn.candidate import Candidate, Context
from churn.contract import Contract
from churn.errors import ChurnError
from churn.foundation.examples import model_input
from churn.learning.candidate_checks import CandidateUnusable, check_probabilities, explain_failure
from churn.learning.candidate_module import STANDARD, line_of, read_candidates
from churn.learning.example_answers import Examples, answer_examples

Scores = NDArray[np.float64]
Customers = NDArray[np.uint64] | None
CUSTOMER = "_customer"
"""Column of the training rows of a panel that tells customers apart."""
Capacity = Mapping[str, Any]
FEW_ROWS = 20_000
"""Up to this number of rows, one thread is faster than several, which wait for one another."""
_PATIENCE = 20
"""Iterations without an improvement after which boosting stops."""


@dataclass(frozen=True)
class Setup:
    """Which candidate a process fits, on which rows."""

    reference: str
    name: str
    contract: Contract
    context: Context
    rows: Path


@dataclass(frozen=True)
class CrossValidate:
    """Fit a capacity on the first `rows` rows but those of a fold, for the first `evaluated` of `folds` folds.

    With `fitted`, only this number of them is fitted on, while the same rows are scored.
    """

    capacity: Capacity
    rows: int
    folds: int
    evaluated: int
    threads: int
    fitted: int | None = None


@dataclass(frozen=True)
class FitApart:
    """Fit a capacity on the first `rows` rows, with early stopping on those from `after` to `stop`. Scores those from `after` to `end`."""

    capacity: Capacity
    rows: int
    after: int
    stop: int
    end: int
    threads: int


@dataclass(frozen=True)
class FitAll:
    """Fit a capacity on the first `rows` rows, with the number of iterations that an earlier job found."""

    capacity: Capacity
    rows: int
    iterations: int | None
    threads: int


@dataclass(frozen=True)
class AnswerExamples:
    """Fit a capacity on the first `rows` rows, save the model, and score the example rows of the contract."""

    capacity: Capacity
    rows: int
    iterations: int | None
    threads: int


@dataclass(frozen=True)
class Shuffle:
    """Score rows that the model was not fitted on with each feature shuffled `repeats` times.

    The rows are those of the first fold, or, after `FitApart`, those of its comparison.
    """

    capacity: Capacity
    rows: int
    folds: int | None
    iterations: int | None
    first: int
    end: int
    repeats: int
    threads: int


Job = CrossValidate | FitApart | FitAll | AnswerExamples | Shuffle


@dataclass(frozen=True)
class Answer:
    """What a job found. A field that the job does not fill is empty.

    Attributes:
        scores: probabilities, shape (rows,), NaN where a row was not scored.
        iterations: the number of iterations that early stopping found.
        seconds: how long it took.
        model: the fitted model, pickled.
        examples: the saved model, and its answers to example rows.
        shuffled: probabilities with a feature shuffled, shape (features, repeats, rows).
        target: the labels of those rows.
    """

    scores: Scores = field(default_factory=lambda: np.empty(0))
    iterations: int | None = None
    seconds: float = 0.0
    model: bytes = b""
    shuffled: Scores = field(default_factory=lambda: np.empty((0, 0, 0)))
    examples: Examples = field(default_factory=lambda: Examples(b"", []))
    target: NDArray[np.int64] = field(default_factory=lambda: np.empty(0, dtype="int64"))


@dataclass(frozen=True)
class Failure:
    """What went wrong, in one sentence; `unusable` if the candidate did what was asked, but cannot be used as it is."""

    reason: str
    unusable: bool = False


def read_rows(file: Path, first: int, end: int, columns: list[str] | None = None) -> pd.DataFrame:
    """Read the rows of a Parquet file from `first` to before `end`, without reading the others."""
    opened, begin, groups, skipped = pq.ParquetFile(file), 0, [], 0
    for group in range(opened.num_row_groups):
        size = opened.metadata.row_group(group).num_rows
        if begin < end and begin + size > first:
            groups.append(group)
        elif begin + size <= first:
            skipped += size
        begin += size
    table = opened.read_row_groups(groups, columns=columns).slice(first - skipped, end - first)
    frame: pd.DataFrame = table.to_pandas(split_blocks=True, self_destruct=True)
    return frame


def read_customers(file: Path, first: int, end: int, contract: Contract) -> Customers:
    """Whose row each of the training rows is, shape (rows,); None if each customer has one row."""
    if contract.as_of is None or contract.rows_per_customer == 1:
        return None
    return read_rows(file, first, end, [CUSTOMER])[CUSTOMER].to_numpy(np.uint64)


def fold_splits(
    target: NDArray[np.int64], folds: int, seed: int, customers: Customers = None
) -> list[tuple[NDArray[Any], NDArray[Any]]]:
    """The rows to fit on and the rows to score, for each fold. All rows of a customer are in one fold.

    Args:
        target: the labels, shape (rows,).
        folds: the number of folds.
        seed: of the shuffle.
        customers: whose row each is, shape (rows,); None if each customer has one row.
    """
    if customers is None:
        return list(StratifiedKFold(folds, shuffle=True, random_state=seed).split(np.zeros(len(target)), target))
    grouped = StratifiedGroupKFold(folds, shuffle=True, random_state=seed)
    return list(grouped.split(np.zeros(len(target)), target, customers))


class Fitter:
    """Does the jobs of one candidate."""

    def __init__(self, setup: Setup) -> None:
        self._setup = setup
        read = read_candidates(setup.reference, setup.contract, setup.context)
        if setup.name not in read.usable:
            raise CandidateUnusable(
                setup.name,
                "the function returned no such candidate when it was called again. It must always return the same names.",
            )
        self._candidate: Candidate = read.usable[setup.name]
        self._kept: Any = None  # the model of `FitApart`

    def answer(self, job: Job) -> Answer:
        """Do a job."""
        began = time.monotonic()
        with threadpool_limits(1 if job.rows <= FEW_ROWS else job.threads), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # a fit that has not converged shows in its scores
            found = self._do(job)
        return replace(found, seconds=time.monotonic() - began)

    def _do(self, job: Job) -> Answer:
        if isinstance(job, CrossValidate):
            return self._cross_validate(job)
        if isinstance(job, FitApart):
            return self._fit_apart(job)
        if isinstance(job, AnswerExamples):
            return self._answer_examples(job)
        return self._fit_all(job) if isinstance(job, FitAll) else self._shuffle(job)

    def _rows(self, first: int, end: int) -> tuple[pd.DataFrame, NDArray[np.int64]]:
        contract = self._setup.contract
        rows = read_rows(self._setup.rows, first, end)
        return model_input(contract, rows), rows[contract.target.name].to_numpy(dtype="int64")

    def _splits(
        self, target: NDArray[np.int64], folds: int, first: int, end: int
    ) -> list[tuple[NDArray[Any], NDArray[Any]]]:
        customers = read_customers(self._setup.rows, first, end, self._setup.contract)
        return fold_splits(target, folds, self._setup.context.seed, customers)

    def _model(self, capacity: Capacity, iterations: int | None = None) -> Any:
        chosen = dict(capacity)
        if self._candidate.iterations and iterations:
            chosen[self._candidate.iterations] = iterations
        return clone(self._candidate.estimator).set_params(**chosen)

    def _cross_validate(self, job: CrossValidate) -> Answer:
        features, target = self._rows(0, job.rows)
        folds = self._splits(target, job.folds, 0, job.rows)[: job.evaluated]
        splits = [(fit[: job.fitted], test) for fit, test in folds]
        scores = np.full(len(target), np.nan)
        if not self._candidate.iterations:
            for fit, test in splits:
                model = self._model(job.capacity)
                model.fit(features.iloc[fit], target[fit])
                scores[test] = self._scores(model, features.iloc[test])
            return Answer(scores)
        stopped = []
        for fit, test in splits:
            model = self._model(job.capacity)
            prepared = model[:-1].fit_transform(features.iloc[fit], target[fit])
            later = model[:-1].transform(features.iloc[test])
            stopped.append((model, _boost(model[-1], prepared, target[fit], later, target[test])))
        iterations = _best_iteration([curve for _, curve in stopped])
        for (model, _), (_, test) in zip(stopped, splits, strict=True):
            scores[test] = _staged_scores(model, features.iloc[test], iterations)
        return Answer(scores, iterations)

    def _fit_apart(self, job: FitApart) -> Answer:
        features, target = self._rows(0, job.rows)
        model, iterations = self._model(job.capacity), None
        if self._candidate.iterations:
            prepared = model[:-1].fit_transform(features, target)
            del features  # millions of rows: what is not needed any more makes room
            later, later_target = self._rows(job.after, job.stop)
            iterations = len(_boost(model[-1], prepared, target, model[:-1].transform(later), later_target))
            del prepared
        else:
            model.fit(features, target)
            del features
        self._kept = model
        scores = self._scores(model, self._rows(job.after, job.end)[0])
        return Answer(scores, iterations, model=pickle.dumps(model))

    def _fit_all(self, job: FitAll) -> Answer:
        return Answer(model=pickle.dumps(self._fit_first(job)))

    def _answer_examples(self, job: AnswerExamples) -> Answer:
        model = self._fit_first(job)
        return Answer(examples=answer_examples(self._setup.name, model, self._setup.contract))

    def _fit_first(self, job: FitAll | AnswerExamples) -> Any:
        features, target = self._rows(0, job.rows)
        model = self._model(job.capacity, job.iterations)
        model.fit(features, target)
        return model

    def _shuffle(self, job: Shuffle) -> Answer:
        features, target = self._rows(job.first, job.end)
        model = self._kept
        if job.folds is not None:
            fit, test = self._splits(target, job.folds, job.first, job.end)[0]
            model = self._model(job.capacity, job.iterations)
            model.fit(features.iloc[fit], target[fit])
            features, target = features.iloc[test], target[test]
        features, target = features.iloc[: job.rows].reset_index(drop=True), target[: job.rows]
        rng = np.random.default_rng(self._setup.context.seed)
        shuffled = np.empty((len(features.columns), job.repeats, len(features)))
        repeated = pd.concat([features] * job.repeats, ignore_index=True)  # one call for all repeats
        order = np.concatenate([rng.permutation(len(features)) for _ in range(job.repeats)])
        for place, name in enumerate(features.columns):
            values = features[name].take(order).set_axis(repeated.index)  # keeps its type
            scores = self._scores(model, repeated.assign(**{name: values}), constant=True)
            shuffled[place] = scores.reshape(job.repeats, len(features))
        return Answer(self._scores(model, features, constant=True), shuffled=shuffled, target=target)

    def _scores(self, model: Any, features: pd.DataFrame, constant: bool = False) -> Scores:
        """The probabilities of the event. A standard candidate may find nothing in the features, and give every row the same."""
        probabilities = model.predict_proba(features)
        check_probabilities(probabilities, constant=constant or self._setup.reference == STANDARD)
        return np.asarray(probabilities, dtype=np.float64)[:, 1]


def _boost(
    boosting: Any, prepared: Any, target: NDArray[np.int64], later: Any, later_target: NDArray[np.int64]
) -> Scores:
    """Fit a HistGradientBoostingClassifier with early stopping. Returns the loss on the later rows after each iteration."""
    boosting.set_params(early_stopping=True, n_iter_no_change=_PATIENCE, tol=0)
    boosting.fit(prepared, target, X_val=later, y_val=later_target)
    boosting.set_params(early_stopping=False)
    return np.asarray(-boosting.validation_score_[1:])


def _best_iteration(curves: list[Scores]) -> int:
    """The number of iterations with the lowest mean loss over the folds."""
    shortest = min(len(curve) for curve in curves)
    return int(np.mean([curve[:shortest] for curve in curves], axis=0).argmin()) + 1


def _staged_scores(model: Any, features: pd.DataFrame, iterations: int) -> Scores:
    prepared = model[:-1].transform(features)
    for done, probabilities in enumerate(model[-1].staged_predict_proba(prepared), start=1):
        if done == iterations:
            return np.asarray(probabilities[:, 1])
    raise ValueError(f"The model has fewer than {iterations} iterations.")


def main() -> None:
    """Answer jobs until the pipe is closed."""
    pipe = Connection(int(sys.argv[1]))
    setup: Setup | None = None
    try:
        setup = pipe.recv()
        fitter = Fitter(setup)
        pipe.send(Answer())
        while True:
            pipe.send(fitter.answer(pipe.recv()))
    except EOFError:
        return
    except CandidateUnusable as fault:
        pipe.send(Failure(fault.reason, unusable=True))
    except BaseException as error:  # of the candidate, whose code is not ours and may raise SystemExit, too
        pipe.send(Failure(_explained(error, setup) if setup else f"{type(error).__name__}: {error}"))


def _explained(error: BaseException, setup: Setup) -> str:
    try:
        where = line_of(error, setup.reference)
    except ChurnError:  # the module is the error
        where = ""
    return f"{explain_failure(error, setup.contract)}{where and f' (raised{where})'}"
