"""A decision is a pure function of comparison and policy; every rule says its numbers."""

import json
from dataclasses import replace

import numpy as np
import pytest

from churn.decision.comparison import Comparison, Confirmed, EvidenceWindow, Force, Leaks, Refusal, compare
from churn.decision.inference import Estimate
from churn.decision.policy import Decision, Verdict, decide
from churn.decision.policy_file import Policy, PolicyInvalid
from churn.decision.reasons import Reason
from support.evidence_cases import COUNTRY, NOW, POLICY, TEXT, draw_scores, make_case, make_comparison, make_evidence

EQUAL = {"champion_noise": 0.25, "challenger_noise": 0.25}


def outcome(comparison: Comparison) -> tuple[str, str]:
    decision = decide(comparison, POLICY)
    return decision.verdict.value, decision.code


def names(decision: Decision, passed: bool) -> set[str]:
    return {rule.name for rule in decision.rules if rule.passed is passed}


def close_comparison(days: float = 60, seed: int = 0, gap: float = 0.0, **history: object) -> Comparison:
    """Two models of nearly the same quality against an old champion."""
    y, truth = draw_scores(3000, seed=seed)
    logit = np.log(truth / (1 - truth))
    a, b = (
        1 / (1 + np.exp(-(logit + size * np.random.default_rng(seed + salt).normal(size=3000))))
        for size, salt in ((0.1 + gap, 11), (0.1, 12))
    )
    return compare(make_case(days=days, history=history), make_evidence(y, a, b), (), 50)


def test_the_first_good_version_is_promoted() -> None:
    """Without a champion floor and calibration decide."""
    assert outcome(make_comparison()) == ("promote", "NO_CHAMPION")


def test_a_first_version_below_the_floor_is_held() -> None:
    """A model that hardly knows anything does not become the first champion."""
    assert outcome(make_comparison(quality=0.2)) == ("hold", "BELOW_FLOOR")


def test_a_first_version_with_wrong_probabilities_is_held() -> None:
    """It ranks well, and doubles everybody's odds: calibration holds it."""
    y, scores = draw_scores()
    wrong = scores * 3 / (1 + 2 * scores)
    assert outcome(compare(make_case(None), make_evidence(y, wrong), (), 50)) == ("hold", "CALIBRATION")


def test_after_a_take_back_even_the_first_champion_waits() -> None:
    """Automatic promotion is off: also where nothing is in production."""
    case = make_case(None, history={"frozen": "version 1 was rolled back automatically"})
    assert outcome(make_comparison(case=case)) == ("hold", "FROZEN")


@pytest.mark.parametrize(("champion_noise", "rows"), [(None, 400), (0.5, 900)])
def test_too_small_a_holdout_is_held(champion_noise: float | None, rows: int) -> None:
    """Neither a first nor a later version is promoted on a handful of customers."""
    assert outcome(make_comparison(champion_noise, rows=rows)) == ("hold", "HOLDOUT_TOO_SMALL")


def test_a_clearly_better_challenger_is_promoted() -> None:
    """Superiority on Brier beyond the night's share of the error budget, AUC not worse."""
    assert outcome(make_comparison(champion_noise=1.2)) == ("promote", "SUPERIOR")


def test_an_equal_challenger_is_held() -> None:
    """A challenger that is the champion under another name is not promoted."""
    assert outcome(make_comparison(champion_noise=0.0)) == ("hold", "IDENTICAL_SCORES")


def test_a_challenger_that_is_only_luckily_better_is_held() -> None:
    """Two equally good models and a young champion: in a quarter of nights hardly one is promoted."""
    verdicts = [outcome(close_comparison(days=3, seed=seed))[0] for seed in range(90)]
    assert verdicts.count("promote") <= 1


def test_a_better_brier_with_a_worse_auc_is_not_superior() -> None:
    """Better calibration alone does not buy a worse ranking."""
    comparison = make_comparison(champion_noise=1.2)
    deltas = {**comparison.evidence.deltas, "roc_auc": replace(comparison.evidence.deltas["roc_auc"], value=-0.001)}
    decision = decide(replace(comparison, evidence=replace(comparison.evidence, deltas=deltas)), POLICY)
    assert (decision.code, "roc_auc_not_worse" in names(decision, False)) == ("TOO_FRESH", True)


def test_one_that_is_no_better_waits_until_the_champion_is_old() -> None:
    """Young champion: TOO_FRESH. Old, tried lately: RETRY_WAIT. Old and not tried: promoted as no worse."""
    assert outcome(close_comparison(days=29.9)) == ("hold", "TOO_FRESH")
    assert outcome(close_comparison(days=60, days_since_try=6.9)) == ("hold", "RETRY_WAIT")
    assert outcome(close_comparison(days=60, days_since_try=7.1)) == ("promote", "FRESH_NONINFERIOR")


def test_one_that_is_worse_is_held_however_old_the_champion() -> None:
    """A loser is INFERIOR, and every rule says its numbers."""
    decision = decide(close_comparison(days=400, gap=0.5), POLICY)
    assert (decision.verdict, decision.code) == (Verdict.HOLD, "INFERIOR")
    measured = [rule for rule in decision.rules if rule.name not in ("integrity", "not_frozen", "batches_agree")]
    assert all(rule.bound is not None for rule in measured)


def test_slow_decay_is_stopped_by_the_anchor() -> None:
    """No worse than the champion, and worse than the last winner: ANCHOR_INFERIOR."""
    comparison = close_comparison()
    y, best = draw_scores(3000)
    logit = np.log(best / (1 - best))
    worn = [
        1 / (1 + np.exp(-(logit + 0.9 * np.random.default_rng(1).normal(size=3000) + more)))
        for more in (0.0, 0.01 * np.random.default_rng(2).normal(size=3000))
    ]
    evidence = make_evidence(y, worn[0], worn[1], anchor=best)
    assert outcome(compare(replace(comparison.case, anchor=7), evidence, (), 50))[1] in (
        "ANCHOR_INFERIOR",
        "CALIBRATION",
    )
    calibrated = [1 / (1 + np.exp(-(np.log(score / (1 - score)) * 0.8))) for score in worn]
    loose = POLICY.model_copy(update={"calibration": POLICY.calibration.model_copy(update={"slope": (0.1, 10.0)})})
    evidence = make_evidence(y, calibrated[0], calibrated[1], anchor=best)
    assert decide(compare(replace(comparison.case, anchor=7), evidence, (), 50), loose).code == "ANCHOR_INFERIOR"


def test_without_an_anchor_that_scores_no_worse_is_not_enough() -> None:
    """The yardstick is gone: held, with the reason."""
    comparison = close_comparison()
    case = replace(
        comparison.case, anchor=7, anchor_refusal=Refusal(Reason.CHAMPION_UNSCORABLE, "version 7 cannot score")
    )
    decision = decide(replace(comparison, case=case, anchor_deltas={}), POLICY)
    assert decision.code == "ANCHOR_INFERIOR"
    assert "ersion 7" in decision.sentence


@pytest.mark.parametrize(
    "code", [reason for reason in Reason if not reason.forceable and reason is not Reason.POLICY_INVALID]
)
def test_integrity_holds_and_cannot_be_forced(code: Reason) -> None:
    """Evidence that is refused holds with its own reason, whatever the figures and whoever asks."""
    refusal = Refusal(code, "something is not as it was")
    for force in (None, Force("Ann", "the board wants it")):
        case = make_case(refusal=refusal, history={"force": force})
        decision = decide(make_comparison(champion_noise=1.2, case=case), POLICY)
        assert (decision.verdict, decision.code) == (Verdict.HOLD, code)
        assert decision.sentence.startswith("S")  # the refusal's words, as a sentence


def test_a_champion_that_cannot_score_holds_until_somebody_forces() -> None:
    """CHAMPION_UNSCORABLE is cured by a forced promotion, and the challenger's own rules are shown."""
    refusal = Refusal(Reason.CHAMPION_UNSCORABLE, "version 1 cannot score")
    held = decide(make_comparison(case=make_case(refusal=refusal)), POLICY)
    assert (held.verdict, held.code) == (Verdict.HOLD, "CHAMPION_UNSCORABLE")
    assert {"holdout_rows", "not_too_good"} <= names(held, True)
    forced = decide(
        make_comparison(case=make_case(refusal=refusal, history={"force": Force("Ann", "new data")})), POLICY
    )
    assert (forced.verdict, forced.code) == (Verdict.PROMOTE, "FORCED")


def test_a_forced_promotion_shows_every_rule_and_who() -> None:
    """A worse challenger, forced: promoted, and the sentence says by whom, why, and what the policy thought."""
    case = make_case(history={"force": Force("Ann", "the regulator asks for it.")})
    plain = decide(make_comparison(0.0, challenger_noise=1.2, case=make_case()), POLICY)
    decision = decide(make_comparison(0.0, challenger_noise=1.2, case=case), POLICY)
    assert (decision.verdict, decision.code) == (Verdict.PROMOTE, "FORCED")
    assert "Ann: the regulator asks for it." in decision.sentence
    assert plain.code in decision.sentence
    assert decision.rules == plain.rules


def test_what_the_policy_promotes_needs_no_force() -> None:
    """The reason stays the policy's own."""
    case = make_case(history={"force": Force("Ann", "to be sure")})
    assert decide(make_comparison(champion_noise=1.2, case=case), POLICY).code == "SUPERIOR"


def test_a_frozen_model_is_not_promoted_however_good() -> None:
    """After a rollback a person must turn promotion on again; a forced one goes through."""
    frozen = make_case(history={"frozen": "version 3 was rolled back by Ann: wrong prices."})
    decision = decide(make_comparison(champion_noise=1.2, case=frozen), POLICY)
    assert decision.code == "FROZEN"
    assert "churn unfreeze" in decision.sentence
    forced = make_case(history={"frozen": "rolled back", "force": Force("Bob", "it is mended")})
    assert decide(make_comparison(champion_noise=1.2, case=forced), POLICY).code == "FORCED"


@pytest.mark.parametrize(
    "leaks", [Leaks(["CustomerId"]), Leaks([], "ChurnScore", 0.97)], ids=["identifier", "telling feature"]
)
def test_a_leak_is_held(leaks: Leaks) -> None:
    """A feature that names the customer or knows the answer holds the night."""
    assert outcome(make_comparison(champion_noise=1.2, case=make_case(leaks=leaks))) == ("hold", "LEAK_SUSPECTED")


CONFIRMED = {"confirmed": Confirmed("Ann", "a small, clean data set")}


@pytest.mark.parametrize("champion_noise", [None, 4.0], ids=["no champion", "a champion below the limit"])
def test_a_model_too_good_to_be_true_is_held_until_a_person_confirms_it(champion_noise: float | None) -> None:
    """Above the limit it is treated as a leak; the sentence names the key and the command, and later who confirmed it."""
    champion = None if champion_noise is None else 1
    held = decide(make_comparison(champion_noise, quality=6.0), POLICY)
    assert (held.verdict, held.code) == ("hold", "LEAK_SUSPECTED")
    assert "sanity.max_model_auc" in held.sentence
    assert "churn policy confirm --reason" in held.sentence
    confirmed = make_comparison(champion_noise, quality=6.0, case=make_case(champion, history=CONFIRMED))
    promoted = decide(confirmed, POLICY)
    assert promoted.verdict == "promote"
    assert "Ann has confirmed" in next(rule.sentence for rule in promoted.rules if rule.name == "not_too_good")


def test_a_champion_above_the_limit_makes_a_high_model_plausible() -> None:
    """Both are above the limit, and the gain is small: nobody needs to confirm anything."""
    high = make_comparison(champion_noise=1.0, quality=6.0)
    assert high.evidence.champion["roc_auc"].value > POLICY.sanity.max_model_auc
    assert decide(high, POLICY).code != "LEAK_SUSPECTED"


def test_a_jump_over_a_champion_above_the_limit_is_held_even_if_confirmed() -> None:
    """The lower bound of the gain is above `max_jump`; the confirmation was about another figure."""
    high = make_comparison(champion_noise=1.0, quality=6.0, case=make_case(history=CONFIRMED))
    gain = high.evidence.deltas["roc_auc"].lower
    assert gain > 0
    for limit, code in ((gain - 0.001, "LEAK_SUSPECTED"), (gain + 0.001, "SUPERIOR")):
        sanity = POLICY.sanity.model_copy(update={"max_jump": limit})
        decision = decide(high, POLICY.model_copy(update={"sanity": sanity}))
        assert decision.code == code
    rule = next(rule for rule in decision.rules if rule.name == "not_too_good")
    assert "sanity.max_jump" in rule.sentence
    assert rule.value == gain


def test_a_better_version_below_the_floor_is_promoted_and_the_sentence_says_so() -> None:
    """A worse champion is no protection for customers, but people must know."""
    low = make_comparison(champion_noise=4.0, challenger_noise=2.5, quality=0.8)
    decision = decide(low, POLICY)
    assert (decision.verdict, decision.code) == ("promote", "SUPERIOR")
    assert low.evidence.challenger["roc_auc"].lower < POLICY.floor.roc_auc
    assert "does not meet floor and calibration" in decision.sentence


def test_scores_that_hardly_differ_between_customers_are_held() -> None:
    """Nearly everybody has one score."""
    y, scores = draw_scores()
    flat = np.where(np.arange(len(y)) % 20 == 0, scores, y.mean())
    assert outcome(compare(make_case(), make_evidence(y, flat, scores), (), 50)) == ("hold", "DEGENERATE")


def test_harm_to_one_country_is_held() -> None:
    """Better for two countries, much worse for one: SLICE_HARM, and the sentence names it."""
    y, worse = draw_scores(6000, noise=0.8)
    _, best = draw_scores(6000)
    codes = (np.arange(6000) % 3).astype(np.int8)
    random = np.random.default_rng(5).permutation(best[codes == 1])
    mine = best.copy()
    mine[codes == 1] = random
    comparison = compare(make_case(), make_evidence(y, mine, worse, codes={"Geography": codes}), (COUNTRY,), 50)
    decision = decide(comparison, POLICY)
    assert decision.code == "SLICE_HARM"
    assert "Geography Germany" in decision.sentence


def test_a_batch_that_contradicts_the_rest_is_disputed() -> None:
    """Better with tonight's batch, significantly worse without it: a person must say which is true."""
    y, truth = draw_scores(4000)
    tonight = np.arange(4000) >= 2500
    turned = np.where(tonight, 1 - y, y)
    mine = np.where(tonight, 1 - truth, np.clip(truth + 0.1 * np.random.default_rng(3).normal(size=4000), 0.01, 0.99))
    evidence = make_evidence(turned, mine, truth, undisputed=~tonight)
    loose = POLICY.model_copy(update={"sanity": POLICY.sanity.model_copy(update={"max_model_auc": 1.0})})
    disputed = compare(make_case(suspects=["ab" * 32]), evidence, (), 50)
    decision = decide(disputed, loose)
    assert decision.code == "BATCH_DISPUTED"
    assert "abababababab" in decision.sentence
    assert decide(compare(make_case(), evidence, (), 50), loose).code == "SUPERIOR"


def test_further_looks_of_a_night_share_its_budget() -> None:
    """However many looks, the levels of one calendar night add up to no more than budget / nights."""
    levels = [POLICY.superiority.level(look) for look in range(50)]
    assert sum(levels) <= 0.10 / 90 * (1 + 1e-12)
    assert levels[0] == pytest.approx(0.9 * 0.10 / 90)
    first, tenth = (
        next(
            rule.bound
            for rule in decide(close_comparison(looks_before=looks), POLICY).rules
            if rule.name == "superior_brier"
        )
        for looks in (0, 9)
    )
    assert first < tenth


def test_the_champion_itself_is_watched() -> None:
    """One that has decayed below the floor raises an alarm, whatever becomes of the challenger."""
    y, mine = draw_scores()
    decayed = np.random.default_rng(4).permutation(mine)
    decision = decide(compare(make_case(), make_evidence(y, mine, decayed), (), 50), POLICY)
    assert any("The champion's ROC AUC" in alarm for alarm in decision.alarms)
    assert decide(make_comparison(champion_noise=0.3), POLICY).alarms == []


@pytest.mark.parametrize("metric", ["roc_auc", "brier"])
def test_a_figure_that_is_no_number_promotes_nothing(metric: str) -> None:
    """NaN in any delta: no rule that reads it passes."""
    comparison = make_comparison(champion_noise=1.2)
    nan = Estimate(float("nan"), float("nan"), float("nan"), float("nan"))
    deltas = {**comparison.evidence.deltas, metric: nan}
    decision = decide(
        replace(comparison, evidence=replace(comparison.evidence, deltas=deltas), anchor_deltas=deltas), POLICY
    )
    assert decision.verdict is Verdict.HOLD


def test_a_comparison_survives_the_ledger() -> None:
    """What is stored as JSON decides the same when it is read back."""
    window = EvidenceWindow(NOW, NOW, 180, False)
    comparison = make_comparison(champion_noise=1.2, case=make_case(window=window, leaks=Leaks([], "Age", 0.7)))
    back = Comparison.from_dict(json.loads(json.dumps(comparison.as_dict())))
    assert back == comparison
    assert decide(back, POLICY) == decide(comparison, POLICY)
    assert isinstance(back.evidence.deltas["brier"], Estimate)


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("min_rows: 500", "min_row: 500", "first_champion.min_row"),
        ("nights: 90 ", "nights: 0 ", "superiority.nights"),
        ("error_budget: 0.10", "error_budget: .nan", "superiority.error_budget"),
        ("nights: 90 ", "", "superiority.nights"),
        ("slope: [0.8, 1.25]", "slope: [1.25, 0.8]", "calibration.slope"),
        ("evidence:", "evidence", "YAML"),
        ("harm: 0.02", "harm: 0.02\n  harm: 0.5", "harm appears twice"),
        ("window_days: 180", "window_days: 2024-13-45", "YAML"),
        ("window_days: 180", "window_days: 999999999999", "evidence.window_days"),
        ("error_budget: 0.10", 'error_budget: "0.10"', "superiority.error_budget"),
        ("slices:", "[" * 3000, "YAML"),
    ],
)
def test_a_bad_policy_names_the_key(old: str, new: str, said: str) -> None:
    """An unknown, missing, repeated or impossible value is an error that names it, not a default."""
    assert old in TEXT
    with pytest.raises(PolicyInvalid, match=said):
        Policy.read(TEXT.replace(old, new, 1), "promotion_policy.yaml")


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ("!!bool x", "this value is not of the type that its tag or form says"),
        ("!!timestamp x", "this value is not of the type that its tag or form says"),
        ("2026-13-45", "this value is not of the type that its tag or form says"),
        ("{!!bool x: 1}", "this value is not of the type that its tag or form says"),
        ("!!set [a]", "expected a mapping node, but found sequence"),
        ("!!python/object/apply:os.system [x]", "the tag python/object/apply:os.system is not allowed"),
        ("{a: 1, a: 2}", "a appears twice"),
    ],
)
def test_a_value_that_yaml_cannot_read_is_refused_with_its_place(value: str, words: str) -> None:
    """Whatever PyYAML raises for it."""
    with pytest.raises(
        PolicyInvalid, match=rf"^policy.yaml is not valid YAML: line 2, column [0-9]+: {words}\. Nothing is promoted"
    ):
        Policy.read(f"# A policy\nfloor: {value}\n", "policy.yaml")


def test_a_message_about_a_policy_is_short_and_on_one_line() -> None:
    """Names of unknown keys are repeated so that they can be shown, and not all of many."""
    odd = {f"key {number}\u2028{'x' * 500}": 1 for number in range(50)}
    with pytest.raises(PolicyInvalid, match="and 39 more faults") as caught:
        Policy.read(json.dumps(odd), "policy.yaml")
    assert len(str(caught.value)) < 4000
    assert "\u2028" not in str(caught.value)
