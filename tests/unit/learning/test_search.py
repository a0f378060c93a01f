"""The search: rungs of rows, halving, and candidates that fail."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest

from churn.candidate import Candidate
from churn.learning import search as module
from churn.learning.fitting import Answer, CrossValidate, FitApart, fold_splits
from churn.learning.fitting_process import CandidateFailed
from churn.learning.search import NoCandidate, Plan, Search, keep_better, plan_search
from churn.learning.trials import Trial, measure

RNG = np.random.default_rng(5)
LOGITS = RNG.normal(-1, 1.5, 4000)
TARGET = (RNG.random(4000) < 1 / (1 + np.exp(-LOGITS))).astype("int64")


class Fits:
    """Answers with the true log-odds and noise that depends on the capacity; a capacity may need more rows than there are."""

    def __init__(self, fails: str | None = None) -> None:
        self.jobs: list[Any] = []
        self.closed, self.fails = False, fails

    def ask(self, job: Any) -> Answer:
        if self.fails:
            raise CandidateFailed("mine", self.fails)
        self.jobs.append(job)
        noise = job.capacity["noise"] * np.random.default_rng(1).normal(size=len(LOGITS))
        scores = 1 / (1 + np.exp(-(LOGITS + noise)))
        if isinstance(job, FitApart):
            return Answer(scores[job.after : job.end], 7, 0.1, b"model")
        scored = np.full(job.rows, np.nan)
        for _, test in fold_splits(TARGET[: job.rows], job.folds, 0)[: job.evaluated]:
            scored[test] = scores[test]
        return Answer(scored, 5, 0.1)

    def close(self) -> None:
        self.closed = True


def _search(plan: Plan, fits: Mapping[str, Fits], noises: Mapping[str, list[float]], *, forgiving: bool = True) -> Any:
    return _new_search(plan, fits, noises, forgiving=forgiving).run()


def _new_search(
    plan: Plan, fits: Mapping[str, Fits], noises: Mapping[str, list[float]], *, forgiving: bool = True
) -> Search:
    candidates = {name: Candidate(None, [{"noise": noise} for noise in noises[name]]) for name in noises}
    return Search(fits, candidates, TARGET, plan, 4, 0, cores=2, forgiving=forgiving)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("available", "most", "plan"),
    [
        (7_500, 3_000_000, Plan((), 7_500, 0)),
        (60_000, 3_000_000, Plan((20_000,), 60_000, 0)),
        (1_000_000, 3_000_000, Plan((20_000, 200_000), 900_000, 50_000)),
        (10_000_000, 3_000_000, Plan((20_000, 200_000), 3_000_000, 100_000)),
        (60_000, 30_000, Plan((), 30_000, 0)),
        (500_000, 30_000, Plan((), 30_000, 0)),
    ],
)
def test_the_rungs_depend_on_the_rows_alone(available: int, most: int, plan: Plan) -> None:
    """Up to 100,000 rows are cross-validated; with more, early stopping and comparison get customers of their own."""
    assert plan_search(available, most) == plan
    assert plan.end <= available
    assert plan.early or not plan.apart


def test_a_rung_keeps_the_better_half_and_the_next_larger() -> None:
    """More rows support more capacity than the subsample did."""
    losses = [0.5, 0.3, 0.4, 0.6, 0.7]
    trials = [
        Trial("a", {}, place, 1, 10, measure(np.array([0, 1]), np.array([1 - np.exp(-loss), np.exp(-loss)])))
        for place, loss in enumerate(losses)
    ]
    assert keep_better(trials) == [0, 1, 2]
    assert keep_better([trials[0], trials[1], trials[3], trials[4]]) == [0, 1, 3]


def test_early_rungs_use_a_subsample_and_two_folds_and_the_last_all_rows() -> None:
    fits = {"a": Fits(), "b": Fits()}
    found = _search(Plan((1000,), 4000, 0), fits, {"a": [2.0, 0.1, 0.2, 3.0], "b": [1.0]})
    assert [(job.rows, job.evaluated) for job in fits["a"].jobs] == [(1000, 2)] * 4 + [(4000, 4)] * 2
    assert [trial.place for trial in found.final] == [1, 2, 0]
    assert [trial.kind for trial in found.final] == ["a", "a", "b"]
    assert len(found.earlier) == 5
    assert not any(each.closed for each in fits.values())


def test_the_learning_curve_has_fewer_rows_also_without_early_rungs(monkeypatch: pytest.MonkeyPatch) -> None:
    """The best capacity of each kind on a quarter and half of the rows; a kind that fails there only has no points."""
    monkeypatch.setattr("churn.learning.search.CURVE", (4, 2))
    fits = {"a": Fits(), "mine": Fits(), "b": Fits()}
    search = _new_search(Plan((), 4000, 0), fits, {"a": [2.0, 0.1], "mine": [0.5], "b": [1.0]})
    found = search.run()
    fits["mine"].fails = "needs more rows."
    points = [(trial.kind, trial.place, trial.rung, trial.rows) for trial in search.learning_curve(found)]
    assert points == [("a", 1, 0, 1000), ("a", 1, 0, 2000), ("b", 0, 0, 1000), ("b", 0, 0, 2000)]
    assert {(job.rows, job.evaluated) for job in fits["a"].jobs} == {(4000, 4)}  # the same customers for every size
    assert [job.fitted for job in fits["a"].jobs[-2:]] == [750, 1500]
    assert found.left_out == {}
    early = _new_search(Plan((1000,), 4000, 0), {"b": Fits()}, {"b": [1.0]})
    assert early.learning_curve(early.run()) == []


def test_with_many_rows_the_two_best_are_fitted_once_and_the_others_end() -> None:
    """Early stopping and the comparison see rows that no fit sees; the model of the last rung is kept."""
    fits = {"a": Fits(), "b": Fits()}
    found = _search(Plan((1000,), 3000, 500), fits, {"a": [2.0, 0.1, 0.2, 3.0], "b": [1.0]})
    last = [job for job in fits["a"].jobs if isinstance(job, FitApart)]
    assert [(job.rows, job.after, job.stop, job.end) for job in last] == [(3000, 3000, 3500, 4000)] * 2
    assert fits["b"].closed
    assert [trial.model for trial in found.final] == [b"model"] * 2
    assert all(len(trial.losses) == 500 for trial in found.final)


def test_an_own_candidate_that_fails_is_left_out_by_name() -> None:
    fits = {"mine": Fits(fails="took too long."), "b": Fits()}
    found = _search(Plan((), 4000, 0), fits, {"mine": [0.1], "b": [1.0]})
    assert found.left_out == {"mine": "took too long."}
    assert {trial.kind for trial in found.final} == {"b"}


def test_a_standard_candidate_that_fails_fails_the_task_and_so_does_having_none() -> None:
    fits = {"mine": Fits(fails="took too long.")}
    with pytest.raises(CandidateFailed, match=r"The candidate mine took too long\."):
        _search(Plan((), 4000, 0), fits, {"mine": [0.1]}, forgiving=False)
    with pytest.raises(NoCandidate, match=r"No candidate is left, so nothing was trained\. mine: took too long\."):
        _search(Plan((), 4000, 0), fits, {"mine": [0.1]})


def test_jobs_say_how_many_threads_they_may_use() -> None:
    """Kinds that are fitted side by side share the cores; the last fits get all of them."""
    fits = {"a": Fits(), "b": Fits()}
    _search(Plan((1000,), 3000, 500), fits, {"a": [0.1], "b": [0.2]})
    assert {type(job): job.threads for job in fits["a"].jobs} == {CrossValidate: 1, FitApart: 2}
    assert module.RUNGS == (20_000, 200_000)
