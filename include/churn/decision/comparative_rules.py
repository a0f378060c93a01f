"""The rules between two models on the same customers: better, no worse, and worse for nobody."""

from __future__ import annotations

from scipy import stats

from churn.decision.comparison import Comparison
from churn.decision.inference import Estimate
from churn.decision.policy_file import Policy
from churn.decision.rules import Rule, as_sentence, say_changes

DISPUTED = "BATCH_DISPUTED"


def scores_differ_rule(comparison: Comparison) -> Rule:
    """The two models are two."""
    spread = comparison.evidence.deltas["brier"].standard_error
    return Rule(
        "scores_differ",
        "IDENTICAL_SCORES",
        spread > 0,
        spread,
        0.0,
        "The two models give different scores." if spread > 0 else "Both models give every customer the same score.",
    )


def slice_harm_rule(comparison: Comparison, policy: Policy) -> Rule:
    """No group of customers is served worse."""
    limits = policy.slices
    tested = [one for one in comparison.slices if one.p is not None and one.delta is not None]
    untested = len(comparison.slices) - len(tested)
    small = f" {untested} are too small to be tested." if untested else ""
    if not tested:
        return Rule(
            "no_slice_harmed", "SLICE_HARM", True, None, -limits.harm, f"No group of customers could be tested.{small}"
        )
    harmed = [one for one in tested if one.delta and (one.p or 0) < limits.level and one.delta.value < -limits.harm]
    worst = min(harmed or tested, key=lambda one: one.delta.value if one.delta else 0)
    value = worst.delta.value if worst.delta else 0.0
    return Rule(
        "no_slice_harmed",
        "SLICE_HARM",
        not harmed,
        value,
        -limits.harm,
        f"Of {len(tested)} groups {worst.column} {worst.name} fares worst: ROC AUC {value:+.4f} on {worst.rows} customers "
        f"(adjusted p = {worst.p:.2g}); harm is below {-limits.harm:+.2f} at p < {limits.level:.2f}.{small}",
    )


def dispute_rule(comparison: Comparison, policy: Policy) -> Rule:
    """Better with the new batches, worse without: the world changed, or they are wrong."""
    limits, without, suspects = policy.dispute, comparison.undisputed, comparison.case.suspects

    def rule(passed: bool, value: float | None, sentence: str) -> Rule:
        return Rule("batches_agree", DISPUTED, passed, value, bound, sentence)

    bound = float(stats.norm.isf(limits.level))
    if not suspects:
        return rule(True, None, "No batch is new to the evidence.")
    if without is None or min(without.events, without.rows - without.events) < limits.min_each_class:
        return rule(
            True, None, "Too few unseen customers are left without the new batches to tell whether these agree."
        )
    worse = max(_z(without.deltas["brier"]), -_z(without.deltas["roc_auc"]))
    better = comparison.evidence.deltas["brier"].value < 0
    names = ", ".join(batch[:12] for batch in suspects)
    sentence = (
        f"Without batch {names} ({without.rows} customers) the challenger is {abs(worse):.2f} standard errors "
        f"{'worse' if worse >= 0 else 'better'}"
    )
    if better and worse >= bound:
        return rule(
            False,
            worse,
            f"{sentence}, with it better: the world has changed, or the batch is wrong. A person must say which: "
            f"`churn approve` if it is right, `churn batches withdraw` if it is wrong. {say_changes(without.deltas)}",
        )
    return rule(True, worse, f"{sentence}; {bound:.2f} worse, and better with it, would be a contradiction.")


def superiority_rules(comparison: Comparison, policy: Policy) -> list[Rule]:
    """The challenger is better, at this look's share of the error budget."""
    auc, brier = comparison.evidence.deltas["roc_auc"], comparison.evidence.deltas["brier"]
    looks = comparison.case.history.looks_before
    z, needed = -_z(brier), float(stats.norm.isf(policy.superiority.level(looks)))
    spent = f" after {looks} earlier looks this night" if looks else ""
    return [
        Rule(
            "superior_brier",
            "SUPERIOR",
            z >= needed,
            z,
            needed,
            f"The Brier score changes by {brier.value:+.5f} (95 % interval {brier.lower:+.5f} to {brier.upper:+.5f}), "
            f"which is {abs(z):.2f} standard errors {'better' if z >= 0 else 'worse'}; at least {needed:.2f} better is needed{spent}.",
        ),
        Rule(
            "roc_auc_not_worse",
            "SUPERIOR",
            auc.value >= 0,
            auc.value,
            0.0,
            f"ROC AUC changes by {auc.value:+.4f} (95 % interval {auc.lower:+.4f} to {auc.upper:+.4f}); it must not fall.",
        ),
    ]


def freshness_rules(comparison: Comparison, policy: Policy) -> list[Rule]:
    """The champion is old, and the challenger no worse than it, nor than the anchor."""
    limits, history, case = policy.freshness, comparison.case.history, comparison.case
    age, tried = history.champion_days, history.days_since_try
    return [
        Rule(
            "champion_old_enough",
            "TOO_FRESH",
            age is not None and age >= limits.champion_days,
            age,
            limits.champion_days,
            f"Champion {case.champion} is {age or 0:.0f} days old; one that is no better may replace it after {limits.champion_days:g} days.",
        ),
        Rule(
            "not_tried_lately",
            "RETRY_WAIT",
            tried is None or tried >= limits.retry_days,
            tried,
            limits.retry_days,
            f"No worse was last tested {tried:.1f} days ago; it may be every {limits.retry_days:g} days."
            if tried is not None
            else "No worse was not tested against this champion yet.",
        ),
        *_no_worse(f"champion {case.champion}", "INFERIOR", comparison.evidence.deltas, policy),
        *_no_worse_than_anchor(comparison, policy),
    ]


def _no_worse_than_anchor(comparison: Comparison, policy: Policy) -> list[Rule]:
    case = comparison.case
    if not comparison.anchor_deltas:
        why = (
            as_sentence(case.anchor_refusal.sentence)
            if case.anchor_refusal
            else "There is no anchor to hold it against."
        )
        return [Rule("no_worse_than_anchor", "ANCHOR_INFERIOR", False, None, None, why)]
    return _no_worse(f"anchor {case.anchor}", "ANCHOR_INFERIOR", comparison.anchor_deltas, policy)


def _no_worse(than: str, code: str, deltas: dict[str, Estimate], policy: Policy) -> list[Rule]:
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
            f"Against {than} ROC AUC changes by {auc.value:+.4f}, by at least {lowest:+.4f} {confidence}; no worse means {-limits.roc_auc_margin:+.3f}.",
        ),
        Rule(
            f"{prefix}_brier",
            code,
            highest <= limits.brier_margin,
            highest,
            limits.brier_margin,
            f"Against {than} the Brier score changes by {brier.value:+.5f}, by at most {highest:+.5f} {confidence}; no worse means {limits.brier_margin:+.4f}.",
        ),
    ]


def _z(found: Estimate) -> float:
    """Standard errors above zero; without any error there is none."""
    return found.value / found.standard_error if found.standard_error else 0.0
