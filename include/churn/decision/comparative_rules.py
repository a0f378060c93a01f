"""The rules that compare two models on the same customers: superiority, non-inferiority, harm to slices, disputed batches."""

from __future__ import annotations

from scipy import stats

from churn.decision.comparison import Comparison
from churn.decision.inference import Estimate
from churn.decision.policy_file import Policy
from churn.decision.reasons import Reason
from churn.decision.rules import Rule, describe_deltas
from churn.foundation.wording import as_sentence


def scores_differ_rule(comparison: Comparison) -> Rule:
    """Check that the two models give different scores."""
    spread = comparison.evidence.deltas["brier"].standard_error
    return Rule(
        "scores_differ",
        Reason.IDENTICAL_SCORES,
        spread > 0,
        spread,
        0.0,
        "The two models give different scores."
        if spread > 0
        else "Both models give each customer the same score, so there is nothing to choose between.",
    )


def slice_harm_rule(comparison: Comparison, policy: Policy) -> Rule:
    """Check that the challenger serves no slice worse than the champion."""
    limits = policy.slices
    tested = [group for group in comparison.slices if group.p is not None and group.delta is not None]
    untested = len(comparison.slices) - len(tested)
    too_small = f" {untested} {'slice is' if untested == 1 else 'slices are'} too small to test." if untested else ""
    if not tested:
        sentence = f"No slice could be tested.{too_small}"
        return Rule("no_slice_harmed", Reason.SLICE_HARM, True, None, -limits.harm, sentence)
    harmed = [
        group for group in tested if group.delta and (group.p or 0) < limits.level and group.delta.value < -limits.harm
    ]
    worst = min(harmed or tested, key=lambda group: group.delta.value if group.delta else 0)
    value = worst.delta.value if worst.delta else 0.0
    return Rule(
        "no_slice_harmed",
        Reason.SLICE_HARM,
        not harmed,
        value,
        -limits.harm,
        f"Of {len(tested)} slices, the least favourable change is that of {worst.column} {worst.name}: ROC AUC {value:+.4f} on {worst.rows:,} "
        f"customers (adjusted p = {worst.p:.2g}). A slice is harmed below {-limits.harm:+.2f} at p < {limits.level:.2f}.{too_small}",
    )


def dispute_rule(comparison: Comparison, policy: Policy) -> Rule:
    """Check that the challenger is not better with the new batches and worse without them.

    If it is, either the world has changed or the batches are wrong, and only a person can tell which.
    """
    limits, without, suspects = policy.dispute, comparison.undisputed, comparison.case.suspects

    def rule(passed: bool, value: float | None, sentence: str) -> Rule:
        return Rule("batches_agree", Reason.BATCH_DISPUTED, passed, value, bound, sentence)

    bound = float(stats.norm.isf(limits.level))
    if not suspects:
        return rule(True, None, "No batch is new to the evidence.")
    if without is None or min(without.events, without.rows - without.events) < limits.min_each_class:
        return rule(
            True, None, "Without the new batches there are too few unseen customers to tell whether they agree."
        )
    worse = max(_z(without.deltas["brier"]), -_z(without.deltas["roc_auc"]))
    better_with = comparison.evidence.deltas["brier"].value < 0
    names, single = ", ".join(batch[:12] for batch in suspects), len(suspects) == 1
    batches, it = ("batch", "it") if single else ("batches", "them")
    sentence = (
        f"Without {batches} {names} ({without.rows:,} customers) the challenger is {abs(worse):.2f} standard errors "
        f"{'worse' if worse >= 0 else 'better'} than the champion"
    )
    if better_with and worse >= bound:
        return rule(
            False,
            worse,
            f"{sentence}; with {it}, the challenger is better. Either customers have changed or the {batches} {'is' if single else 'are'} wrong, and a "
            f'person must decide: `churn approve "RUN" --reason ...` if the data is right, `churn batches withdraw HASH --reason ...` if it is '
            f"wrong. {describe_deltas(without.deltas)}",
        )
    return rule(
        True,
        worse,
        f"{sentence}. The {batches} would be disputed if the challenger were at least {bound:.2f} standard errors worse without {it} and better "
        f"with {it}.",
    )


def superiority_rules(comparison: Comparison, policy: Policy) -> list[Rule]:
    """Check that the challenger is better, at the level that the error budget leaves for this test."""
    auc, brier = comparison.evidence.deltas["roc_auc"], comparison.evidence.deltas["brier"]
    looks = comparison.case.history.looks_before
    z, required = -_z(brier), float(stats.norm.isf(policy.superiority.level(looks)))
    spent = f" after {looks} earlier {'test' if looks == 1 else 'tests'} on the same night" if looks else ""
    return [
        Rule(
            "superior_brier",
            Reason.SUPERIOR,
            z >= required,
            z,
            required,
            f"The Brier score changes by {brier.value:+.5f} (95% interval {brier.lower:+.5f} to {brier.upper:+.5f}), "
            f"which is {abs(z):.2f} standard errors {'better' if z >= 0 else 'worse'}; at least {required:.2f} better is required{spent}.",
        ),
        Rule(
            "roc_auc_not_worse",
            Reason.SUPERIOR,
            auc.value >= 0,
            auc.value,
            0.0,
            f"ROC AUC changes by {auc.value:+.4f} (95% interval {auc.lower:+.4f} to {auc.upper:+.4f}); it must not decrease.",
        ),
    ]


def freshness_rules(comparison: Comparison, policy: Policy) -> list[Rule]:
    """Check that the champion is old, and the challenger not inferior to it or to the baseline version."""
    limits, history, case = policy.freshness, comparison.case.history, comparison.case
    age, since_test = history.champion_days, history.days_since_try
    return [
        Rule(
            "champion_old_enough",
            Reason.TOO_FRESH,
            age is not None and age >= limits.champion_days,
            age,
            limits.champion_days,
            f"Champion {case.champion} has been in production for {age or 0:.0f} days. A version that is merely non-inferior may replace it "
            f"after {limits.champion_days:g} days.",
        ),
        Rule(
            "not_tried_lately",
            Reason.RETRY_WAIT,
            since_test is None or since_test >= limits.retry_days,
            since_test,
            limits.retry_days,
            f"Non-inferiority was last tested {since_test:.1f} days ago; it is tested at most every {limits.retry_days:g} days."
            if since_test is not None
            else "Non-inferiority has not been tested against this champion yet.",
        ),
        *_noninferiority_rules(f"champion {case.champion}", Reason.INFERIOR, comparison.evidence.deltas, policy),
        *_baseline_rules(comparison, policy),
    ]


def _baseline_rules(comparison: Comparison, policy: Policy) -> list[Rule]:
    case = comparison.case
    if not comparison.anchor_deltas:
        why = (
            as_sentence(case.anchor_refusal.sentence)
            if case.anchor_refusal
            else "There is no baseline version to compare with."
        )
        return [Rule("no_worse_than_anchor", Reason.ANCHOR_INFERIOR, False, None, None, why)]
    return _noninferiority_rules(
        f"baseline version {case.anchor}", Reason.ANCHOR_INFERIOR, comparison.anchor_deltas, policy
    )


def _noninferiority_rules(than: str, code: Reason, deltas: dict[str, Estimate], policy: Policy) -> list[Rule]:
    limits = policy.freshness
    reach = float(stats.norm.isf(limits.level))
    auc, brier = deltas["roc_auc"], deltas["brier"]
    lowest, highest = auc.value - reach * auc.standard_error, brier.value + reach * brier.standard_error
    confidence = f"with {1 - limits.level:.0%} confidence"
    prefix = code.lower()
    return [
        Rule(
            f"{prefix}_roc_auc",
            code,
            lowest >= -limits.roc_auc_margin,
            lowest,
            -limits.roc_auc_margin,
            f"Compared with {than}, ROC AUC changes by {auc.value:+.4f}, and by {lowest:+.4f} at worst {confidence}; "
            f"the margin of non-inferiority is {-limits.roc_auc_margin:+.3f}.",
        ),
        Rule(
            f"{prefix}_brier",
            code,
            highest <= limits.brier_margin,
            highest,
            limits.brier_margin,
            f"Compared with {than}, the Brier score changes by {brier.value:+.5f}, and by {highest:+.5f} at worst {confidence}; "
            f"the margin of non-inferiority is {limits.brier_margin:+.4f}.",
        ),
    ]


def _z(estimate: Estimate) -> float:
    """Standard errors above zero; 0 where there is no error."""
    return estimate.value / estimate.standard_error if estimate.standard_error else 0.0
