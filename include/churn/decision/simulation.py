"""Simulates what a policy would do in a year, with the real comparison and rules on customers whose truth is known.

The score of a model is the truth with an error. The larger part of the error is common to all models, because they learn from
nearly the same rows; the rest is the model's own. Two models therefore differ on 2,000 customers by a standard error of about
.004 of ROC AUC, as two trainings of a real model do. The error of each night's challenger is independent of all before; real
challengers resemble each other, which gives chance fewer tries. No clock is read, and a seed determines a year.

The population is that of the bank unless another share of events, ROC AUC and number of customers is given.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from functools import cache
from math import ceil
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import brentq
from scipy.special import expit, ndtr

from churn.decision.comparison import Case, Comparison, Evidence, History, compare
from churn.decision.inference import Labels, Scores
from churn.decision.policy import Decision, Verdict, decide
from churn.decision.policy_file import Policy
from churn.decision.reasons import Reason
from churn.errors import ChurnError
from churn.foundation.svg import Series, draw_series, standalone

YEAR = 365
DRAWN_EVERY = 7
"""Nights between two points of a chart."""
CUSTOMERS_A_NIGHT = 11
START_AUC, CREEP_BY, JUMP_BY, JUMP_NIGHT = 0.86, 0.02, 0.015, 120
WORSE_BY, LOW_AUC, LOW_GAIN = 0.005, 0.66, 0.02
OWN_ERROR = 0.5
"""Standard deviation of the part of a logit's error that is the model's own."""
INTERCEPT, SPREAD = -2.36, 2.2
"""Mean and standard deviation of the true logit. A fifth of the customers leave, and the true logit has a ROC AUC of .887."""
_CHURN_RATE = 0.2
_FIRST_NIGHT = datetime(2026, 1, 1, 2, tzinfo=UTC)
_GRID = np.linspace(-5, 5, 301)
_LARGEST_ERROR, _LEVELS = 6.0, 480
_ABOVE = 0.193
"""How far the ROC AUC of the true logit is above that of a model, as a share of the way to 1: .86 and .887 for the bank."""
_BELOW_FLOOR, _LEAST_AUC = 0.04, 0.52


class Population(NamedTuple):
    """Whose customers are simulated: the share that has the event, the ROC AUC of the first champion, unseen customers a night.

    `intercept` and `spread` are the mean and standard deviation of the true logit.
    """

    event_rate: float = _CHURN_RATE
    auc: float = START_AUC
    customers: int = CUSTOMERS_A_NIGHT
    intercept: float = INTERCEPT
    spread: float = SPREAD

    @property
    def own_error(self) -> float:
        """Standard deviation of the part of a logit's error that is the model's own."""
        return OWN_ERROR * min(1.0, self.spread / SPREAD)


BANK = Population()


def describe_population(event_rate: float, auc: float, customers: int) -> Population:
    """The population with this share of events and this ROC AUC of the first champion.

    Args:
        event_rate: share of customers with the event, from .001 to .999.
        auc: ROC AUC of the first champion, from .55 to .995.
        customers: unseen customers a night, at least 1.
    """
    if (event_rate, auc) == (BANK.event_rate, BANK.auc):
        return BANK._replace(customers=customers)
    intercept, spread = _true_logit(event_rate, auc + _ABOVE * (1 - auc))
    return Population(event_rate, auc, customers, intercept, spread)


@cache
def _true_logit(event_rate: float, auc: float) -> tuple[float, float]:
    """Mean and standard deviation of a normal logit that has this share of events and this ROC AUC."""
    density = np.exp(-(_GRID**2) / 2)
    density /= density.sum()

    def intercept(spread: float) -> float:
        return float(brentq(lambda mean: density @ expit(mean + spread * _GRID) - event_rate, -60, 60))

    spread = float(brentq(lambda spread: _auc_of_logit(0.0, intercept(spread), spread) - auc, 0.05, 25, xtol=1e-6))
    return intercept(spread), spread


@dataclass(frozen=True)
class Scenario:
    """The true ROC AUC of the first champion, and how far that of each night's challenger is from it; nights count from 1."""

    start: float
    change: Callable[[int], float]


SCENARIOS = {
    "null": Scenario(START_AUC, lambda _: 0.0),
    "worse": Scenario(START_AUC, lambda _: -WORSE_BY),
    "creep": Scenario(START_AUC, lambda night: -CREEP_BY * night / YEAR),
    "jump": Scenario(START_AUC, lambda night: JUMP_BY * (night >= JUMP_NIGHT)),
    "low": Scenario(LOW_AUC, lambda _: LOW_GAIN),
}
"""Every challenger is equal to the first champion, or slightly worse; each is worse than the one before; all are better from
some night on; or champion and challengers are below the floor of the shipped policy, and the challengers are better."""


def scenarios(policy: Policy, population: Population = BANK) -> dict[str, Scenario]:
    """The scenarios for a population: the same changes, but never more than the way to a ROC AUC of 1 allows.

    A population that begins below the floor of the policy stands for `low`.
    """
    if population.auc == START_AUC:
        return SCENARIOS
    scale = min(1.0, (1 - population.auc) / (1 - START_AUC))
    low = max(_LEAST_AUC, policy.floor.roc_auc - _BELOW_FLOOR)

    def scaled(change: Callable[[int], float]) -> Callable[[int], float]:
        return lambda night: scale * change(night)

    return {
        name: Scenario(low if name == "low" else population.auc, scaled(course.change))
        for name, course in SCENARIOS.items()
    }


Judge = Callable[[Comparison, Policy], Decision]


@dataclass(frozen=True)
class SimulatedYear:
    """The result of a year.

    `true_auc` is that of production after each night, and `gained` its last value minus that of the first champion.
    `promotion_nights` are listed by reason, with nights counted from 1. `reasons` counts the reasons of all nights.
    """

    scenario: str
    seed: int
    true_auc: list[float]
    gained: float
    promotion_nights: dict[str, list[int]]
    reasons: dict[str, int]

    @property
    def promotions(self) -> dict[str, int]:
        """Number of promotions by reason."""
        return {code: len(nights) for code, nights in self.promotion_nights.items()}


class Customers(NamedTuple):
    """Customers in the order of arrival: label, true logit, and the error that all models share; shape (customers,)."""

    labels: Labels
    logits: Scores
    shared: Scores


class _Version(NamedTuple):
    """A model: its number, its true ROC AUC, and its own error on every customer of the year."""

    number: int
    auc: float
    own: Scores


@dataclass(frozen=True)
class _Production:
    """The champion and since when, the baseline version, and the last failed test of non-inferiority."""

    champion: _Version
    anchor: _Version
    since: int = 0
    tried: int | None = None

    def promote(self, winner: _Version, code: Reason, night: int) -> _Production:
        """Promote a version. It becomes the baseline version too, unless it was only non-inferior."""
        return _Production(winner, winner if code.wins else self.anchor, night)


def simulate(
    policy: Policy,
    scenario: str,
    years: int,
    seed: int,
    progress: Callable[[int], None],
    nights: int = YEAR,
    judge: Judge = decide,
) -> list[SimulatedYear]:
    """Simulate several years, each with its own seed. `progress` receives the number of finished years after each."""
    done = []
    for of_year in np.random.SeedSequence(seed).generate_state(years):
        done.append(simulate_year(policy, scenario, int(of_year), nights, judge))
        progress(len(done))
    return done


def simulate_year(
    policy: Policy,
    scenario: str,
    seed: int,
    nights: int = YEAR,
    judge: Judge = decide,
    population: Population = BANK,
) -> SimulatedYear:
    """Let a policy decide every night of a year, with one champion at its start and one test per night.

    Args:
        policy: the policy.
        scenario: a key of `SCENARIOS`.
        seed: the seed of all random numbers.
        nights: number of nights.
        judge: turns a comparison into a decision; another one than the product's shows what another order of the rules would do.
        population: whose customers are drawn.

    Raises:
        ChurnError: there is no such scenario.
    """
    if scenario not in SCENARIOS:
        raise ChurnError(f"There is no scenario {scenario}. Choose one of {', '.join(SCENARIOS)}.")
    rng = np.random.default_rng(seed)
    window = _window_rows(policy, population)
    everybody = draw_customers(rng, window + population.customers * nights, population)
    course = scenarios(policy, population)[scenario]
    first = _Version(0, course.start, rng.normal(size=len(everybody.labels)))
    production = _Production(first, first)
    true_auc, reasons, promoted = [], Counter[str](), dict[str, list[int]]()
    for night in range(1, nights + 1):
        challenger = _Version(night, course.start + course.change(night), rng.normal(size=len(everybody.labels)))
        newest = slice(population.customers * night, population.customers * night + window)
        evidence = _gather(everybody, newest, challenger, production, population)
        decision = judge(compare(_case(challenger, production, night), evidence, (), 0), policy)
        reasons[decision.code.value] += 1
        if decision.verdict is Verdict.PROMOTE:
            promoted.setdefault(decision.code.value, []).append(night)
            production = production.promote(challenger, decision.code, night)
        elif decision.code.tested_noninferiority:
            production = replace(production, tried=night)
        true_auc.append(production.champion.auc)
    return SimulatedYear(scenario, seed, true_auc, true_auc[-1] - course.start, promoted, dict(reasons.most_common()))


def draw_customers(rng: np.random.Generator, rows: int, population: Population = BANK) -> Customers:
    """Draw customers, of whom the share of the population has the event."""
    logits = population.intercept + population.spread * rng.normal(size=rows)
    labels = (rng.random(rows) < expit(logits)).astype(np.int64)
    return Customers(labels, logits, rng.normal(size=rows))


def score_customers(customers: Customers, own: Scores, auc: float, population: Population = BANK) -> Scores:
    """Score customers with a nearly calibrated model of a given true ROC AUC.

    Args:
        customers: the customers.
        own: standard normal, the model's own part of the error, shape (customers,).
        auc: its true ROC AUC. A worse model has more of the shared error.
        population: whose customers they are.
    """
    error, own_error, intercept = error_of(auc, population), population.own_error, population.intercept
    shared = np.sqrt(max(0.0, error**2 - own_error**2))
    seen = customers.logits + shared * customers.shared + own_error * own
    kept = population.spread**2 / (population.spread**2 + error**2)
    # The logit given the observation is normal; MacKay's approximation (Neural Computation 4, 1992) of its mean probability.
    unsure = kept * error**2
    scores: Scores = expit((intercept + kept * (seen - intercept)) / np.sqrt(1 + np.pi * unsure / 8))
    return scores


def error_of(auc: float, population: Population = BANK) -> float:
    """The standard deviation of a logit's error that results in a true ROC AUC."""
    errors, aucs = _quality(population.intercept, population.spread)
    return float(np.interp(-auc, -aucs, errors))


def true_auc(error: float, population: Population = BANK) -> float:
    """The exact ROC AUC, by quadrature over the true logits of a customer with the event and of one without."""
    return _auc_of_logit(error, population.intercept, population.spread)


def _auc_of_logit(error: float, intercept: float, spread: float) -> float:
    logits = intercept + spread * _GRID
    density = np.exp(-(_GRID**2) / 2)
    events, others = density * expit(logits), density * expit(-logits)
    apart = logits[:, None] - logits[None, :]
    wins = ndtr(apart / (np.sqrt(2) * error)) if error else (np.sign(apart) + 1) / 2
    return float(events @ wins @ others / (events.sum() * others.sum()))


def draw_years(results: dict[str, list[SimulatedYear]], courses: dict[str, Scenario] | None = None) -> str:
    """Draw the true ROC AUC of production through each scenario: the mean of its years, and their range. Pure.

    Args:
        results: simulated years by scenario.
        courses: the scenarios; by default those of the bank.

    Returns:
        An HTML page with a chart for each scenario that has years.
    """
    courses = courses or SCENARIOS
    charts = "\n".join(
        f"<figure><figcaption>{scenario}: {_words(years)}</figcaption>{_chart(scenario, courses[scenario], years)}</figure>"
        for scenario, years in results.items()
    )
    return f"{_HEAD}{charts}\n"


_HEAD = """<!doctype html><html lang="en"><meta charset="utf-8"><title>Simulated years of a policy</title>
<style>body { font: 15px system-ui, sans-serif; max-width: 760px; margin: 2em auto } figure { margin: 0 0 2em }</style>
<h1>Simulated years of a policy</h1>
<p>True ROC AUC from the first to the last night, as a change since the start. Solid: the challenger of the night. Dashed: production, as the mean of
the simulated years with their range.</p>
"""


def _chart(scenario: str, course: Scenario, years: list[SimulatedYear]) -> str:
    if not years:
        return ""
    start, change = course.start, course.change
    of_years = np.round(np.array([year.true_auc for year in years]) - start, 6)
    nights = range(0, of_years.shape[1], DRAWN_EVERY)
    production = [(float(at.mean()), float(at.min()), float(at.max())) for at in of_years.T[::DRAWN_EVERY]]
    offered = [(change(night + 1),) * 3 for night in nights]
    description = f"Change of ROC AUC in {len(years)} simulated years, every {DRAWN_EVERY} nights."
    series = [Series("challenger", offered), Series("champion", production)]
    return standalone(draw_series(scenario, scenario, description, series, [""] * len(nights)))


def _words(years: list[SimulatedYear]) -> str:
    if not years:
        return "no year"
    superior = np.mean([year.promotions.get(Reason.SUPERIOR, 0) for year in years])
    every = np.mean([sum(year.promotions.values()) for year in years])
    gained = np.mean([year.gained for year in years])
    return f"{every:.1f} promotions a year, {superior:.1f} of them superior; {gained:+.4f}"


def _window_rows(policy: Policy, population: Population) -> int:
    """The number of customers in the window, or more if these are not enough of both classes."""
    needed = policy.evidence
    return max(
        ceil(population.customers * needed.window_days),
        needed.min_rows,
        ceil(1.25 * needed.min_each_class / min(population.event_rate, 1 - population.event_rate)),
    )


def _gather(
    everybody: Customers, newest: slice, challenger: _Version, production: _Production, population: Population
) -> Evidence:
    customers = Customers(everybody.labels[newest], everybody.logits[newest], everybody.shared[newest])
    rows = len(customers.labels)
    challenger_scores, champion_scores = (
        score_customers(customers, model.own[newest], model.auc, population)
        for model in (challenger, production.champion)
    )
    anchor = production.anchor
    every = np.ones(rows, bool)
    return Evidence(
        customers=np.arange(newest.start, newest.stop, dtype=np.uint64),
        labels=customers.labels,
        batches=np.zeros(rows, np.int64),
        codes={},
        used=every,
        current=every,
        undisputed=every,
        challenger=challenger_scores,
        champion=champion_scores,
        anchor=champion_scores
        if anchor is production.champion
        else score_customers(customers, anchor.own[newest], anchor.auc, population),
    )


def _case(challenger: _Version, production: _Production, night: int) -> Case:
    history = History(
        _FIRST_NIGHT + timedelta(days=night),
        champion_days=night - production.since,
        days_since_try=None if production.tried is None else night - production.tried,
    )
    return Case(challenger.number, production.champion.number, production.anchor.number, "simulated", history)


@cache
def _quality(intercept: float, spread: float) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Errors of the logit, and the ROC AUC that each results in."""
    scale = spread / SPREAD
    if (intercept, spread) == (INTERCEPT, SPREAD):
        errors = np.linspace(OWN_ERROR, _LARGEST_ERROR, _LEVELS)
    else:  # what is ranked almost without fault needs large errors to be ranked badly
        errors = np.geomspace(OWN_ERROR * min(1.0, scale), 10 * scale * _LARGEST_ERROR, _LEVELS)
    return errors, np.array([_auc_of_logit(error, intercept, spread) for error in errors])
