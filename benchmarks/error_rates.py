"""`make bench WHAT=error-rates`: the error rates of the intervals and rules of a decision. Fails if one exceeds what is promised.

    make bench WHAT=error-rates                   10,000 rounds, 40 years of each scenario: some nine minutes
    make bench WHAT=error-rates ARGS=--quick      1,000 rounds, 4 years

Seeds are fixed, so that a figure moves only when the code does. Customers are drawn from a truth that is known; what
two models truly differ by comes from millions of customers, or holds by construction.
"""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from datetime import UTC, datetime

import numpy as np
import pandas as pd
from rich.console import Console
from rich.progress import track
from rich.table import Table
from scipy.special import expit, logit

from churn.contracts.bank import BANK_CHURN
from churn.decision.calibration import calibrate
from churn.decision.comparison import Comparison, compare
from churn.decision.inference import METRICS, Estimate, Measured, measure, rank
from churn.decision.policy import UNMET, Decision, Verdict, decide
from churn.decision.policy_file import Policy
from churn.decision.simulation import (
    LOW_GAIN,
    WORSE_BY,
    Judge,
    SimulatedYear,
    draw_customers,
    score_customers,
    simulate,
)
from churn.decision.slices import slice_codes, slicings
from churn.outcomes.confirmation import FRESH_NONINFERIOR, SUPERIOR, LaterRows, conclude
from churn.outcomes.health import measure_health
from churn.outcomes.list_results import GroupCount, describe_effect
from churn.outcomes.states import State
from support.evidence_cases import POLICY, make_case, make_evidence
from support.score_lists import published

ROWS, ROUNDS, YEARS = 2000, 10_000, 40
QUICK_ROUNDS, QUICK_YEARS = 1000, 4
LARGE, LARGE_TIMES = 500_000, 8
GOOD, WORSE = 0.86, 0.851
SLICE_HARM = 0.05
BALANCED_ODDS = 4.0
"""By what balanced class weights multiply the odds where a fifth of the customers leave."""
OVERCONFIDENT = 1.25
"""A model that multiplies its logits by this has a calibration slope of .8."""


@dataclass(frozen=True)
class Goal:
    """Bounds, inclusive; `text` says them."""

    text: str
    low: float = -math.inf
    high: float = math.inf

    def widened(self, by: float) -> Goal:
        """The same where chance moves a figure by so much."""
        return Goal(self.text, self.low - by, self.high + by)


COVERAGE, TYPE_I = Goal(".93 to .97", 0.93, 0.97), Goal(".04 to .06", 0.04, 0.06)


@dataclass(frozen=True)
class Figure:
    """A line of the table; one without a goal is only told."""

    what: str
    value: float
    goal: Goal | None = None
    digits: int = 3

    @property
    def missed(self) -> bool:
        return self.goal is not None and not self.goal.low <= self.value <= self.goal.high


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=ROUNDS, help="draws of each interval and rule")
    parser.add_argument("--years", type=int, default=YEARS, help="simulated years of each scenario")
    parser.add_argument("--quick", action="store_true", help=f"{QUICK_ROUNDS} rounds, {QUICK_YEARS} years")
    asked = parser.parse_args()
    rounds, years = (QUICK_ROUNDS, QUICK_YEARS) if asked.quick else (asked.rounds, asked.years)
    figures = [
        *measure_coverage(rounds),
        *measure_type_i(rounds),
        *measure_calibration_coverage(rounds),
        *measure_calibration_rule(rounds // 5),
        *measure_slice_rule(rounds // 5),
        *measure_years(years),
        *measure_confirmation(max(200, rounds // 20)),
        *measure_months(rounds // 5),
    ]
    show(figures, f"{rounds:,} rounds at n = {ROWS:,}, {years} years")
    return int(any(figure.missed for figure in figures))


def show(figures: list[Figure], title: str) -> None:
    table = Table("figure", "goal", "measured", "verdict", title=title)
    for figure in figures:
        verdict = "" if figure.goal is None else "MISSED" if figure.missed else "met"
        table.add_row(
            figure.what, figure.goal.text if figure.goal else "", f"{figure.value:.{figure.digits}f}", verdict
        )
    Console(highlight=False, width=None if sys.stdout.isatty() else 120).print(table)


def steps(count: int, what: str) -> Iterable[int]:
    """Count, and tell how far on a terminal."""
    console = Console(stderr=True)
    return track(range(count), what, console=console, transient=True, disable=not console.is_terminal)


def chance(rate: float, rounds: int) -> float:
    """Two standard errors of a rate; none where there are rounds enough for the goals as they are."""
    return 0.0 if rounds >= ROUNDS // 5 else 2 * math.sqrt(rate * (1 - rate) / rounds)


# Confirmation -------------------------------------------------------------------------------------

NIGHTLY, LIFE = 500, 30
"""Later rows of a night, and the nights within which a worse promotion has to be refuted."""


def measure_confirmation(lives: int) -> list[Figure]:
    """How often later rows refute a promotion that is as good, over a year, and one that made ROC AUC worse, within 30 nights."""
    looks = [*range(1, LIFE + 1), *range(LIFE + 5, 366, 5)]
    same = sum(refuted_at(SUPERIOR, 0.60, life, looks) is not None for life in steps(lives, "as good"))
    worse = sum(
        refuted_at(SUPERIOR, 0.745, life, range(1, LIFE + 1)) is not None for life in steps(lives, "superior, worse")
    )
    fresh = sum(
        refuted_at(FRESH_NONINFERIOR, 0.865, life, range(1, LIFE + 1)) is not None
        for life in steps(lives, "non-inferior, worse")
    )
    by_chance = 2 * math.sqrt(0.05 * 0.95 / lives)
    return [
        Figure("false refutation within a year of nights", same / lives, Goal("<= .05", high=0.05).widened(by_chance)),
        Figure("refuted within 30 nights: superior, ROC AUC truly .010 worse", worse / lives, Goal(">= .8", low=0.8)),
        Figure(
            "refuted within 30 nights: non-inferior, ROC AUC truly .020 worse", fresh / lives, Goal(">= .8", low=0.8)
        ),
    ]


def refuted_at(code: str, noise: float, life: int, looks: Iterable[int]) -> int | None:
    """The night of the refutation; None if there is none. The version before has a noise of .60."""
    nights = list(looks)
    rng = np.random.default_rng([19, life])
    rows = NIGHTLY * nights[-1]
    truth = rng.normal(-1.6, 1.5, rows)
    labels = (rng.random(rows) < expit(truth)).astype(np.int64)
    first, second = (calibrated(truth, each, rng) for each in (noise, 0.60))
    for night in nights:
        end = NIGHTLY * night
        later = LaterRows(np.arange(end, dtype=np.uint64), labels[:end], first[:end], second[:end], np.ones(end))
        state = conclude(later, code, 0.01, 0.002, night, 1e9).state
        if state in (State.CONFIRMED, State.REFUTED):
            return night if state is State.REFUTED else None
    return None


def calibrated(truth: np.ndarray, noise: float, rng: np.random.Generator) -> np.ndarray:
    """The chance of the event, given a noisy sight of its logit."""
    share = 1.5**2 / (1.5**2 + noise**2)
    seen = -1.6 + share * (truth + rng.normal(0, noise, len(truth)) + 1.6)
    return np.asarray(expit(seen / np.sqrt(1 + np.pi * 1.5**2 * (1 - share) / 8)))


# Months of a bank with a campaign ------------------------------------------------------------------

CUSTOMERS, SEASONS = 20_000, 4
CAPACITY, CONTROL, KEPT = 0.2, 0.1, 0.3
"""Share of the customers who would be contacted, share of these who are left alone, and share of leavers whom contact keeps."""


@dataclass(frozen=True)
class Month:
    """Customers of a month: their scores by two versions, what would have happened without contact, and what did.

    The newest quarter of the rows waits for its labels, although some of their leavers are known already. All arrays have shape (customers,).
    """

    left_alone: np.ndarray
    labels: np.ndarray
    first: np.ndarray
    second: np.ndarray
    contacted: np.ndarray
    control: np.ndarray
    mature: np.ndarray

    def later(self, second: np.ndarray | None = None) -> LaterRows:
        """The rows that count: no contacted customers, and those of the control group for them."""
        kept = self.mature & ~self.contacted
        weights = np.where(self.control, 1 / CONTROL, 1.0)[kept]
        other = self.first if second is None else second
        return LaterRows(
            np.flatnonzero(kept).astype(np.uint64), self.labels[kept], self.first[kept], other[kept], weights
        )


def draw_month(rng: np.random.Generator, season: int, customers: int) -> Month:
    """Churn dates from a hazard that drifts with the season; the first version's list is contacted, and contact keeps some leavers."""
    truth = rng.normal(-1.6 + 0.1 * season, 1.5, customers)
    left_alone = (rng.random(customers) < expit(truth)).astype(np.int64)
    first, second = (calibrated(truth, noise, rng) for noise in (0.6, 0.9))
    listed = np.zeros(customers, bool)
    listed[np.argsort(-first)[: int(CAPACITY * customers)]] = True
    control = listed & (rng.random(customers) < CONTROL)
    contacted = listed & ~control
    labels = np.where(contacted & (rng.random(customers) < KEPT), 0, left_alone)
    return Month(left_alone, labels, first, second, contacted, control, rng.random(customers) < 0.75)


def true_figures(season: int) -> dict[str, float]:
    """What a very large bank has, without any contact."""
    month = draw_month(np.random.default_rng([31, season]), season, 4 * LARGE)
    y, one, other = month.left_alone, rank(month.first), rank(month.second)
    of_list = month.contacted | month.control
    return {
        "roc_auc": METRICS["roc_auc"](y, one).value,
        "brier": METRICS["brier"](y, one).value,
        "observed_expected": float(y.mean() / month.first.mean()),
        "gain roc_auc": METRICS["roc_auc"](y, one).value - METRICS["roc_auc"](y, other).value,
        "gain brier": METRICS["brier"](y, other).value - METRICS["brier"](y, one).value,
        "effect": KEPT * float(y[of_list].mean()),
    }


def measure_months(months: int) -> list[Figure]:
    """How often the intervals that outcomes show, and those of the evidence of a decision, have what is true without contact."""
    truth, covered = [true_figures(season) for season in steps(SEASONS, "true months")], dict[str, int]()
    for number in steps(months, "months"):
        season = number % SEASONS
        month = draw_month(np.random.default_rng([32, number]), season, CUSTOMERS)
        for name, (lower, upper) in intervals_of(month).items():
            true = truth[season][name.partition(": ")[2]]
            covered[name] = covered.get(name, 0) + (lower <= true <= upper)
    goal = Goal(">= .93", low=0.93).widened(chance(0.95, months))
    return [Figure(f"coverage without contact, {name}", count / months, goal) for name, count in covered.items()]


def intervals_of(month: Month) -> dict[str, tuple[float, float]]:
    """The intervals of health, of the evidence of a decision, of a confirmation, and of the effect of being listed."""
    health, pair = measure_health(month.later()), month.later(month.second)
    found = {
        f"health: {name}": (health[name]["lower"], health[name]["upper"])
        for name in ("roc_auc", "brier", "observed_expected")
    }
    ranked = [rank(scores, pair.weights) for scores in (pair.first, pair.second)]
    for metric, sign in (("roc_auc", 1), ("brier", -1)):
        delta = measure(pair.labels, *ranked, metric).delta
        found[f"evidence: gain {metric}"] = tuple(sorted((sign * delta.lower, sign * delta.upper)))  # type: ignore[assignment]
    for made in conclude(pair, FRESH_NONINFERIOR, 0.01, 0.002, 1, 1e9).measures:
        found[f"confirmation: gain {made.name}"] = (made.lower, made.upper)
    groups = [
        GroupCount(int(some.sum()), int(month.labels[some].sum()))
        for some in (month.contacted & month.mature, month.control & month.mature)
    ]
    effect = describe_effect(*groups, published("list", "retention", 1, 1, datetime.now(UTC)))
    found["list: effect"] = (effect["lower"], effect["upper"])
    return found


# Intervals ----------------------------------------------------------------------------------------


def draw_pair(rng: np.random.Generator, rows: int, a: float, b: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Labels, and the scores of two models that share most of their error; with the same quality exchangeable."""
    customers = draw_customers(rng, rows)
    one, other = (score_customers(customers, rng.normal(size=rows), auc) for auc in (a, b))
    return customers.labels, one, other


def measure_all(y: np.ndarray, a: np.ndarray, b: np.ndarray) -> dict[str, Measured]:
    one, other = rank(a), rank(b)
    return {metric: measure(y, one, other, metric) for metric in METRICS}


def measure_coverage(rounds: int) -> list[Figure]:
    """How often the 95% interval of a difference holds the true one."""
    large = [
        measure_all(*draw_pair(np.random.default_rng([1, at]), LARGE, WORSE, GOOD))
        for at in steps(LARGE_TIMES, "true differences")
    ]
    truth = {metric: np.mean([estimates[metric].delta.value for estimates in large]) for metric in METRICS}
    rng, covered = np.random.default_rng(2), dict.fromkeys(METRICS, 0)
    for _ in steps(rounds, "coverage"):
        for metric, measured_pair in measure_all(*draw_pair(rng, ROWS, WORSE, GOOD)).items():
            covered[metric] += holds(measured_pair.delta, float(truth[metric]))
    goal = COVERAGE.widened(chance(0.95, rounds))
    return [
        Figure(f"coverage, difference of {metric} (truly {truth[metric]:+.4f})", covered[metric] / rounds, goal)
        for metric in METRICS
    ]


def measure_type_i(rounds: int) -> list[Figure]:
    """How often two equal models are told apart: two-sided, and by the rule of one look."""
    rng, apart, superior = np.random.default_rng(3), dict.fromkeys(METRICS, 0), 0
    for _ in steps(rounds, "type I error"):
        y, one, other = draw_pair(rng, ROWS, GOOD, GOOD)
        for metric, measured_pair in measure_all(y, one, other).items():
            apart[metric] += not holds(measured_pair.delta, 0.0)
        case = make_case(days=0)
        superior += decide(compare(case, make_evidence(y, one, other, anchor=None), (), 0), POLICY).code == "SUPERIOR"
    goal, level = TYPE_I.widened(chance(0.05, rounds)), POLICY.superiority.level(0)
    return [
        *(Figure(f"type I error, {metric}", apart[metric] / rounds, goal) for metric in METRICS),
        Figure(
            f"promoted as superior, one look at level {level:.4f}",
            superior / rounds,
            Goal("<= .002", high=0.002).widened(chance(0.002, rounds)),
            4,
        ),
    ]


def holds(measured_pair: Estimate, value: float) -> bool:
    return measured_pair.lower <= value <= measured_pair.upper


# Calibration --------------------------------------------------------------------------------------


def draw_calibrated(rng: np.random.Generator, rows: int) -> tuple[np.ndarray, np.ndarray]:
    """Labels that are drawn from the scores themselves, so that slope and observed / expected are truly 1."""
    customers = draw_customers(rng, rows)
    scores = score_customers(customers, rng.normal(size=rows), GOOD)
    return (rng.random(rows) < scores).astype(np.int64), scores


def measure_calibration_coverage(rounds: int) -> list[Figure]:
    """Of a model whose probabilities are right, and of one that is too sure of itself."""
    large = [draw_calibrated(np.random.default_rng([4, at]), LARGE)[1] for at in range(LARGE_TIMES)]
    mean_right, mean_sure = (np.mean([made(scores).mean() for scores in large]) for made in (np.asarray, too_sure))
    rng, covered = np.random.default_rng(5), [0, 0, 0, 0]
    for _ in steps(rounds, "calibration"):
        y, scores = draw_calibrated(rng, ROWS)
        right, sure = calibrate(y, scores), calibrate(y, too_sure(scores))
        assert right is not None
        assert sure is not None
        covered[0] += holds(right.slope, 1.0)
        covered[1] += holds(right.observed_expected, 1.0)
        covered[2] += holds(sure.slope, 1 / OVERCONFIDENT)
        covered[3] += holds(sure.observed_expected, float(mean_right / mean_sure))
    names = [f"{what}, {model}" for model in ("right", "too sure") for what in ("slope", "observed / expected")]
    return [Figure(f"coverage, {name}", one / rounds) for name, one in zip(names, covered, strict=True)]


def too_sure(scores: np.ndarray) -> np.ndarray:
    sure: np.ndarray = expit(OVERCONFIDENT * logit(scores))
    return sure


def measure_calibration_rule(rounds: int) -> list[Figure]:
    """The rule of a first version: its probabilities are right, or made wrong by balanced class weights."""
    rng, held, caught = np.random.default_rng(6), 0, 0
    for _ in steps(rounds, "calibration rule"):
        y, scores = draw_calibrated(rng, ROWS)
        held += fails_calibration(y, scores)
        caught += fails_calibration(y, scores * BALANCED_ODDS / (1 + (BALANCED_ODDS - 1) * scores))
    return [
        Figure(
            "calibration rule holds a model that is right",
            held / rounds,
            Goal("about 0: <= .002", high=0.002),
            digits=4,
        ),
        Figure("calibration rule catches balanced weights", caught / rounds, Goal("1", low=1.0)),
    ]


def fails_calibration(y: np.ndarray, scores: np.ndarray) -> bool:
    decision = decide(compare(make_case(None), make_evidence(y, scores), (), 0), POLICY)
    return any(not rule.passed for rule in decision.rules if rule.code == "CALIBRATION")


# Slices -------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Bank:
    """Customers of the bank contract: the columns it slices by, labels, and the errors of two equal models."""

    frame: pd.DataFrame
    labels: np.ndarray
    champion: np.ndarray
    challenger: np.ndarray

    def in_country(self, country: str) -> np.ndarray:
        measured_pair: np.ndarray = (self.frame["Geography"] == country).to_numpy()
        return measured_pair


def draw_bank(rng: np.random.Generator, rows: int) -> Bank:
    """Shares and churn rates of the groups as in the real file (Germany .32, others .16), logits as scores."""
    frame = pd.DataFrame(
        {
            "Geography": rng.choice(["France", "Germany", "Spain"], rows, p=[0.50, 0.25, 0.25]),
            "Gender": rng.choice(["Female", "Male"], rows, p=[0.455, 0.545]),
            "Age": np.clip(np.round(rng.gamma(5.0, 4.7, rows) + 15.5), 18, 92).astype(np.int64),
            "NumOfProducts": rng.choice([1, 2, 3, 4], rows, p=[0.51, 0.457, 0.027, 0.006]),
            "IsActiveMember": rng.choice([0, 1], rows, p=[0.485, 0.515]),
        }
    )
    truth = (
        -1.5
        + 1.35 * (frame["Geography"] == "Germany")
        + 0.6 * (frame["Gender"] == "Female")
        + 0.1 * (np.minimum(frame["Age"], 58) - 38)
        + frame["NumOfProducts"].map({1: 0.0, 2: -1.9, 3: 2.6, 4: 4.0})
        - 1.1 * frame["IsActiveMember"]
    ).to_numpy() + 0.9 * rng.normal(size=rows)
    labels = (rng.random(rows) < expit(truth)).astype(np.int64)
    shared = truth + 0.7 * rng.normal(size=rows)
    one, other = (shared + 0.5 * rng.normal(size=rows) for _ in range(2))
    return Bank(frame, labels, one, other)


def measure_slice_rule(rounds: int) -> list[Figure]:
    """The SLICE_HARM rule with two equal models, and with a challenger that serves one country worse."""
    countries = BANK_CHURN["Geography"].categories
    harm = {country: find_harm(country) for country in steps_of(countries, "harm")}
    rng, held = np.random.default_rng(8), 0
    caught = dict.fromkeys(countries, 0)
    for _ in steps(rounds, "slice rule"):
        bank, error = draw_bank(rng, ROWS), rng.normal(size=ROWS)
        held += holds_for_harm(bank, bank.challenger)
        for country in countries:
            harmed = bank.challenger + harm[country] * error * bank.in_country(country)
            caught[country] += holds_for_harm(bank, harmed)
    return [
        Figure(
            "slice rule holds an equal model",
            held / rounds,
            Goal("<= .05", high=0.05).widened(chance(0.05, rounds)),
        ),
        *(
            Figure(
                f"slice rule catches {-SLICE_HARM:+.2f} in {country}",
                caught[country] / rounds,
                Goal(">= .80", low=0.8).widened(chance(0.8, rounds)) if country == HARMED else None,
            )
            for country in countries
        ),
    ]


HARMED = "Germany"
"""The goal is for a quarter of the customers, of whom a third leave; half of all in France, or fewer events in Spain, are told."""


def steps_of(names: tuple[str, ...], what: str) -> Iterable[str]:
    return (names[at] for at in steps(len(names), what))


def holds_for_harm(bank: Bank, challenger: np.ndarray) -> bool:
    evidence = make_evidence(
        bank.labels, expit(challenger), expit(bank.champion), codes=slice_codes(bank.frame, BANK_CHURN), anchor=None
    )
    comparison = compare(make_case(), evidence, slicings(BANK_CHURN), POLICY.slices.min_each_class)
    return decide(comparison, POLICY).code == "SLICE_HARM"


def find_harm(country: str) -> float:
    """The further error that costs a country so much ROC AUC."""
    bank = draw_bank(np.random.default_rng(7), LARGE)
    there = bank.in_country(country)
    y, scores, error = (
        bank.labels[there],
        bank.challenger[there],
        np.random.default_rng(9).normal(size=int(there.sum())),
    )
    wanted = auc(y, scores) - SLICE_HARM
    return bisect(lambda size: auc(y, scores + size * error) - wanted, 0.0, 4.0)


def auc(y: np.ndarray, scores: np.ndarray) -> float:
    return METRICS["roc_auc"](y, rank(scores)).value


def bisect(falling: Callable[[float], float], low: float, high: float) -> float:
    for _ in range(16):
        middle = (low + high) / 2
        low, high = (middle, high) if falling(middle) > 0 else (low, middle)
    return (low + high) / 2


# Years --------------------------------------------------------------------------------------------


def measure_years(years: int) -> list[Figure]:
    """The shipped policy in each scenario, and below the floor also with the floor before superiority."""
    null, worse, creep, jump, low = (watch_years(name, years) for name in ("null", "worse", "creep", "jump", "low"))
    held_low = watch_years("low", years, floor_first)
    return [
        Figure(
            "null year: promotions as superior",
            float(np.mean([year.promotions.get("SUPERIOR", 0) for year in null])),
            Goal("<= .5", high=0.5),
        ),
        Figure("null year: promotions as non-inferior", float(np.mean([len(nights(year)) for year in null]))),
        Figure(
            f"{WORSE_BY:.3f} worse: promotions as non-inferior", float(np.mean([len(nights(year)) for year in worse]))
        ),
        Figure(
            f"{WORSE_BY:.3f} worse: share of years with one", float(np.mean([bool(nights(year)) for year in worse]))
        ),
        Figure(
            f"{WORSE_BY:.3f} worse: ROC AUC of production", float(np.mean([year.gained for year in worse])), digits=4
        ),
        Figure(
            "below the floor: ROC AUC of production",
            float(np.mean([year.gained for year in low])),
            Goal(f">= +{LOW_GAIN - 0.002:.3f}", LOW_GAIN - 0.002),
            4,
        ),
        Figure("below the floor: the same, floor first", float(np.mean([year.gained for year in held_low])), digits=4),
        Figure(
            "creep year: ROC AUC of production",
            float(np.mean([year.gained for year in creep])),
            Goal(">= -.004", -0.004),
            4,
        ),
        Figure("creep year: the worst of them", min(year.gained for year in creep), digits=4),
        Figure(
            "jump year: ROC AUC of production",
            float(np.mean([year.gained for year in jump])),
            Goal(">= +.012", 0.012),
            4,
        ),
        Figure("jump year: share that captured it", float(np.mean([year.gained > 0 for year in jump]))),
    ]


def nights(year: SimulatedYear) -> list[int]:
    return year.promotion_nights.get("FRESH_NONINFERIOR", [])


def floor_first(comparison: Comparison, policy: Policy) -> Decision:
    """The other order of the rules: a superior version must meet floor and calibration too."""
    decision = decide(comparison, policy)
    unmet = [rule.code for rule in decision.rules if not rule.passed and rule.code in UNMET]
    return replace(decision, verdict=Verdict.HOLD, code=unmet[0]) if unmet and decision.code == "SUPERIOR" else decision


def watch_years(scenario: str, years: int, judge: Judge = decide) -> list[SimulatedYear]:
    told = iter(steps(years, f"{scenario} years"))
    next(told)
    return simulate(POLICY, scenario, years, 10, lambda _: next(told, None), judge=judge)


if __name__ == "__main__":
    sys.exit(main())
