"""A simulated year tells policies apart, and is the same for the same seed."""

import re
from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from churn.decision import simulation
from churn.decision.comparison import Case, Comparison, compare
from churn.decision.inference import paired_delta
from churn.decision.policy import UNMET, Decision, Verdict, decide
from churn.decision.policy_file import Policy
from churn.decision.reasons import Reason
from churn.decision.simulation import (
    BANK,
    LOW_GAIN,
    SCENARIOS,
    START_AUC,
    WORSE_BY,
    YEAR,
    SimulatedYear,
    describe_population,
    draw_customers,
    draw_years,
    error_of,
    scenarios,
    score_customers,
    simulate,
    simulate_year,
    true_auc,
)
from churn.errors import ChurnError
from support.evidence_cases import POLICY


def changed(section: str, **values: float) -> Policy:
    """The shipped policy with other values in one section."""
    part = getattr(POLICY, section)
    return POLICY.model_copy(update={section: part.model_copy(update=values)})


ANYTHING_BETTER = changed("superiority", error_budget=0.5, nights=1, first_look=0.99)


@cache
def null_year(seed: int) -> SimulatedYear:
    return simulate_year(POLICY, "null", seed, nights=120)


@pytest.mark.parametrize("auc", [0.84, 0.86, 0.875])
def test_a_model_has_the_true_auc_that_it_was_asked_for(auc: float) -> None:
    """Quadrature, its inverse, and 400,000 scored customers agree."""
    rng = np.random.default_rng(1)
    customers = draw_customers(rng, 400_000)
    scores = score_customers(customers, rng.normal(size=400_000), auc)
    assert true_auc(error_of(auc)) == pytest.approx(auc, abs=1e-5)
    assert roc_auc_score(customers.labels, scores) == pytest.approx(auc, abs=0.003)


@pytest.mark.parametrize(("rate", "auc"), [(0.27, 0.84), (0.02, 0.7), (0.5, 0.95), (0.16, 0.99), (0.9, 0.6)])
def test_other_populations_are_what_they_are_asked_to_be(rate: float, auc: float) -> None:
    """Their share of events, and the ROC AUC of the first champion, of a worse and of a better one."""
    population = describe_population(rate, auc, 50)
    rng = np.random.default_rng(1)
    many = draw_customers(rng, 300_000, population)
    assert many.labels.mean() == pytest.approx(rate, abs=0.004)
    own = rng.normal(size=300_000)
    courses = scenarios(POLICY, population)
    for wanted in (auc, courses["low"].start, auc + courses["jump"].change(YEAR)):
        assert roc_auc_score(many.labels, score_customers(many, own, wanted, population)) == pytest.approx(
            wanted, abs=0.006
        )
    scores = score_customers(many, own, auc, population)
    assert scores.mean() == pytest.approx(rate, abs=0.01)


def test_the_bank_is_simulated_as_before() -> None:
    """Its numbers are the default, and its scenarios are the same objects."""
    assert describe_population(0.2, START_AUC, 11) == BANK
    assert scenarios(POLICY, BANK) is SCENARIOS
    assert simulate_year(POLICY, "null", 1, nights=20, population=BANK) == simulate_year(POLICY, "null", 1, nights=20)


def test_a_year_of_another_population_begins_at_its_roc_auc() -> None:
    """With its number of customers a night; the floor of the policy says where `low` begins."""
    population = describe_population(0.27, 0.8, 5)
    year = simulate_year(POLICY, "null", 1, nights=10, population=population)
    assert set(year.true_auc) == {0.8}
    low = simulate_year(POLICY, "low", 1, nights=3, population=population)
    assert low.true_auc[0] == pytest.approx(POLICY.floor.roc_auc - 0.04)


def test_customers_and_models_are_like_the_real_ones() -> None:
    """A fifth leaves; two equal models differ by a standard error of about .004; probabilities are right."""
    rng = np.random.default_rng(2)
    errors = []
    for _ in range(40):
        customers = draw_customers(rng, 2000)
        one, other = (score_customers(customers, rng.normal(size=2000), START_AUC) for _ in range(2))
        errors.append(paired_delta(customers.labels, one, other, "roc_auc")[1])
    many = draw_customers(rng, 200_000)
    scores = score_customers(many, rng.normal(size=200_000), START_AUC)
    assert np.mean(errors) == pytest.approx(0.004, abs=0.0005)
    assert many.labels.mean() == pytest.approx(0.2, abs=0.01)
    assert scores.mean() == pytest.approx(many.labels.mean(), abs=0.005)


def test_equal_challengers_are_hardly_promoted_as_better() -> None:
    """With no true change there is no more than one superior promotion in a year of nights, and nothing is gained or lost."""
    years = [null_year(seed) for seed in range(2)]
    assert sum(year.promotions.get("SUPERIOR", 0) for year in years) <= 1
    assert all(year.gained == 0 and set(year.true_auc) == {START_AUC} for year in years)


def test_a_lax_level_promotes_much_more() -> None:
    """A simulation that cannot tell a level of .5 from the error budget says nothing of a policy."""
    lax = simulate_year(ANYTHING_BETTER, "null", 0, nights=120)
    assert lax.promotions["SUPERIOR"] >= 3 + null_year(0).promotions.get("SUPERIOR", 0)


def test_a_real_jump_is_captured() -> None:
    """Challengers that are truly better by .015 are in production before the year ends, and not before they are there."""
    years = [simulate_year(POLICY, "jump", seed, nights=220) for seed in range(2)]
    assert all(year.gained == pytest.approx(0.015) for year in years)
    assert all(set(year.true_auc[:119]) == {START_AUC} for year in years)


def test_without_an_anchor_that_stays_quality_creeps_down() -> None:
    """The shipped policy loses less to slowly worse challengers than one with a margin that forgives all."""
    forgiving = changed("freshness", champion_days=0.0, retry_days=0.0, roc_auc_margin=0.05, brier_margin=0.05)
    assert simulate_year(forgiving, "creep", 1, nights=180).gained < -0.009
    assert simulate_year(POLICY, "creep", 1, nights=180).gained >= -0.005


def test_freshness_is_tried_when_the_policy_says() -> None:
    """No worse promotes no champion younger than the policy's days, and never if those never come."""
    nights = [0, *simulate_year(POLICY, "null", 3, nights=150).promotion_nights["FRESH_NONINFERIOR"]]
    assert len(nights) > 1
    assert min(np.diff(nights)) >= POLICY.freshness.champion_days
    never = simulate_year(changed("freshness", champion_days=10_000.0), "null", 3, nights=60)
    assert "FRESH_NONINFERIOR" not in never.promotions


def test_a_failed_try_waits() -> None:
    """Between two nights that test no worse against one champion there are the policy's days: few of the nights do."""
    reasons = simulate_year(POLICY, "creep", 4, nights=120).reasons
    tries = reasons.get("INFERIOR", 0) + reasons.get("ANCHOR_INFERIOR", 0)
    assert 1 <= tries <= 90 / POLICY.freshness.retry_days + 1
    assert reasons["RETRY_WAIT"] >= 30


def test_a_seed_gives_one_year() -> None:
    """The same seed gives the same year, another seed another one."""
    one, again, other = (simulate_year(POLICY, "null", seed, nights=60) for seed in (7, 7, 8))
    assert one == again
    assert one.reasons != other.reasons or one.promotion_nights != other.promotion_nights


def test_years_have_seeds_of_their_own_and_are_counted() -> None:
    """Progress counts the years that are done; more years begin with the same ones."""
    told: list[int] = []
    two = simulate(POLICY, "null", 2, 5, told.append, nights=20)
    assert told == [1, 2]
    assert two[0].seed != two[1].seed
    assert simulate(POLICY, "null", 1, 5, lambda _: None, nights=20) == two[:1]


def test_a_year_accounts_for_every_night() -> None:
    """Each night has one reason, promotions are among them, and production's quality is told for each."""
    year = null_year(0)
    assert sum(year.reasons.values()) == len(year.true_auc) == 120
    assert all(year.reasons[code] == count for code, count in year.promotions.items())


def test_evidence_reaches_further_back_where_the_usual_days_have_too_few() -> None:
    """No night of a policy that asks for more customers than its days bring is held for that, nor one of a short window."""
    for policy in (changed("evidence", min_rows=5000), changed("evidence", window_days=10.0)):
        assert "HOLDOUT_TOO_SMALL" not in simulate_year(policy, "null", 1, nights=3).reasons


def test_history_is_what_the_policy_means_by_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """The anchor is the last winner by SUPERIOR, age counts from the promotion, and a failed try from its night."""
    cases: list[Case] = []

    def watch(case: Case, *rest: Any) -> Comparison:
        cases.append(case)
        return compare(case, *rest)

    monkeypatch.setattr(simulation, "compare", watch)
    year = simulate_year(POLICY, "jump", 4, nights=220)
    assert set(year.promotion_nights) == {"SUPERIOR", "FRESH_NONINFERIOR"}
    won = {night: code for code, nights in year.promotion_nights.items() for night in nights}
    champion, anchor, since = 0, 0, 0
    for night, case in enumerate(cases, 1):
        assert (case.challenger, case.champion, case.anchor) == (night, champion, anchor)
        assert case.history.champion_days == night - since
        assert case.history.looks_before == 0
        if night in won:
            champion, since = night, night
            anchor = night if won[night] == "SUPERIOR" else anchor
            assert night == len(cases) or cases[night].history.days_since_try is None
    tries = [case.history.days_since_try for case in cases]
    failed = [night for night in range(1, len(tries)) if tries[night] == 1]
    assert len(failed) == sum(year.reasons.get(code, 0) for code in Reason if code.tested_noninferiority)


def test_an_unknown_scenario_is_an_error_that_names_the_known() -> None:
    """Somebody who mistypes learns what there is."""
    with pytest.raises(ChurnError, match="null, worse, creep, jump, low"):
        simulate_year(POLICY, "boom", 1)


def floor_first(comparison: Comparison, policy: Policy) -> Decision:
    """The other order of the rules: a better version below the floor is held."""
    decision = decide(comparison, policy)
    below = any(rule.code in UNMET for rule in decision.rules if not rule.passed)
    return replace(decision, verdict=Verdict.HOLD, code=Reason.BELOW_FLOOR) if below else decision


def test_a_better_version_below_the_floor_is_better_for_production_than_none() -> None:
    """Superiority decides before the floor: with the floor first, the worse champion stays all year."""
    ours, other = (simulate_year(POLICY, "low", 2, nights=60, judge=judge) for judge in (decide, floor_first))
    assert (ours.gained, other.gained) == (pytest.approx(LOW_GAIN), 0)
    assert ours.promotions == {"SUPERIOR": 1}


def test_a_slightly_worse_version_is_promoted_rarely() -> None:
    """It is never superior, and non-inferiority is tested only against an old champion."""
    years = [simulate_year(POLICY, "worse", seed, nights=200) for seed in range(2)]
    assert all(year.gained >= -WORSE_BY and "SUPERIOR" not in year.promotions for year in years)


def test_years_are_drawn_with_a_chart_for_each_scenario() -> None:
    """Captions name the scenario; a scenario without years has no chart, and no year at all still gives a page."""
    page = draw_years({"null": [null_year(0)], "jump": []})
    assert re.findall(r"<figcaption>(\w+): ", page) == ["null", "jump"]
    assert page.count("<figure>") == 2
    assert page.count("xmlns=") == 1
    assert "<svg" not in draw_years({})


def test_the_scenarios_are_what_their_description_says() -> None:
    """Five of them; a year of decay costs .02."""
    assert set(SCENARIOS) == {"null", "worse", "creep", "jump", "low"}
    assert SCENARIOS["creep"].change(YEAR) == pytest.approx(-0.02)
